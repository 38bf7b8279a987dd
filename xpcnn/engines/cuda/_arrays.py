"""Where arrays lie: addresses, strides, packs of channels, and the format of results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._xp import Array, library
from ...window import Ints
from ._table import PACK

TYPES = {"float16": "half", "bfloat16": "bfloat16", "float32": "float", "float64": "double"}
"""The kernels' names of dtypes."""

WORDS = {2: "unsigned short", 4: "unsigned", 8: "unsigned long long"}
"""The kernels' names of numbers that are only copied, by their size in bytes."""


def wider(dtype: Any) -> np.dtype:
    """In which numbers a sum of this dtype is held: float32 at least."""
    return np.dtype("float64" if str(dtype) == "float64" else "float32")


def address(x: Array) -> int:
    """Where the first element lies."""
    return x.data.ptr if library(x) == "cupy" else x.ctypes.data


def takes(*arrays: Array) -> bool:
    """Whether the kernels know the arrays' dtype, and their elements lie whole steps apart."""
    return all(str(x.dtype) in TYPES and _has_steps(x) for x in arrays)


def copies(x: Array) -> bool:
    """Whether the kernels can copy the array's elements, whatever they are."""
    return x.itemsize in WORDS and _has_steps(x)


def _has_steps(x: Array) -> bool:
    return all(stride % x.itemsize == 0 for stride in x.strides)


def strides(x: Array, lanes: int = 1) -> Ints:
    """Strides (n, c, d, h, w) in packs of `lanes` channels; 0 along the axes that x lacks."""
    step = lanes * x.itemsize
    n, _, *space = (stride // step for stride in x.strides)
    channel = 1 if lanes > 1 else x.strides[1] // x.itemsize
    return (n, channel, *(0,) * (3 - len(space)), *space)


def lanes(first: Array, *others: Array) -> int:
    """How many neighbouring channels may be read at once in all arrays: 16 bytes of them, or 1."""
    most = PACK // first.itemsize
    return most if all(_is_packed(x, most) for x in (first, *others)) else 1


def _is_packed(x: Array, most: int) -> bool:
    step = most * x.itemsize
    apart = (stride for axis, stride in enumerate(x.strides) if axis != 1 and x.shape[axis] > 1)
    return (
        x.shape[1] % most == 0
        and x.strides[1] == x.itemsize
        and address(x) % step == 0
        and all(stride % step == 0 for stride in apart)
    )


def is_channels_last(x: Array) -> bool:
    """Whether neighbouring channels are nearer to each other in memory than anything else."""
    apart = [
        abs(stride) for axis, stride in enumerate(x.strides) if axis != 1 and x.shape[axis] > 1
    ]
    return x.shape[1] > 1 and bool(apart) and abs(x.strides[1]) < min(apart)


def new(runner: Any, like: Array, shape: Ints, dtype: Any = None) -> Array:
    """An empty array (N, C, *space), with channels last in memory where `like` has them so."""
    dtype = like.dtype if dtype is None else dtype
    if not is_channels_last(like):
        return runner.empty(shape, dtype)
    n, channels, *space = shape
    last = len(space) + 1
    return runner.empty((n, *space, channels), dtype).transpose(0, last, *range(1, last))
