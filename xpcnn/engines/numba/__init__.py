"""Numba: convolutions by tiles of sums in registers, and everything else in one pass over memory.

Kernels are compiled when first wanted and kept on disk; they run on all cores, without the GIL.
Only float32 and float64 are taken: of anything else, and of a few shapes, `numpy` knows more.
"""

from ._convolution import conv, conv_dw, conv_dx
from ._norm import batch_norm, batch_norm_train, batch_norm_train_dx, channel_sums
from ._passes import adam, clip, clip_dx, sgd
from ._pool import avg_pool, avg_pool_dx, max_pool, max_pool_dx
from ._product import matmul

__all__ = [
    "adam", "avg_pool", "avg_pool_dx", "batch_norm", "batch_norm_train", "batch_norm_train_dx",
    "channel_sums", "clip", "clip_dx", "conv", "conv_dw", "conv_dx", "matmul", "max_pool",
    "max_pool_dx", "sgd",
]  # fmt: skip
