"""Operations on arrays, each with its pullback: torch.nn.functional's names and meanings."""

from __future__ import annotations

from ._explain import explain
from ._op import vjp
from .activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)  # fmt: skip
from .adaptive import adaptive_avg_pool2d, adaptive_max_pool2d, global_avg_pool
from .arithmetic import multiply
from .conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .dropout import dropout, dropout2d
from .interpolate import interpolate
from .linear import linear, locally_connected2d
from .loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)  # fmt: skip
from .norm import (
    batch_norm,
    batch_norm_train,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
)  # fmt: skip
from .padding import pad
from .pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    fold,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    unfold,
)  # fmt: skip
from .signal import convolve, correlate
from .softmax import log_softmax, softmax
from .unpool import max_unpool2d

__all__ = [
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm", "batch_norm_train", "binary_cross_entropy_with_logits", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolve", "correlate",
    "cross_entropy", "dropout", "dropout2d", "elu", "explain", "fold", "gelu", "global_avg_pool",
    "group_norm", "hardsigmoid", "hardswish", "huber_loss", "instance_norm", "interpolate",
    "l1_loss", "layer_norm", "leaky_relu", "linear", "local_response_norm", "locally_connected2d",
    "log_softmax", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool2d", "mish", "mse_loss",
    "multiply", "nll_loss", "pad", "prelu", "relu", "relu6", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "softmax", "softplus", "tanh", "unfold", "vjp",
]  # fmt: skip
