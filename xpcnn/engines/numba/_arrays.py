"""Arrays as kernels take them: three axes of space, leading ones of size 1, and channels last."""

from __future__ import annotations

import numpy as np
from numba import njit

from ..._xp import Array
from .._lines import empty

room = njit(empty)
"""`empty` within a kernel."""


def spatial(x: Array) -> Array:
    """x (N, C, *space) as a view (N, D, H, W, C)."""
    last = x.transpose(0, *range(2, x.ndim), 1)
    return last[(slice(None), *(None,) * (5 - x.ndim))]


def logical(y: Array, rank: int) -> Array:
    """y (N, D, H, W, C) as a view (N, C, *space) of so many axes of space."""
    space = y.reshape(len(y), *y.shape[4 - rank :])
    return space.transpose(0, rank + 1, *range(1, rank + 1))


def channels_last(x: Array) -> Array:
    """x (N, D, H, W, C), copied unless its channels lie side by side."""
    return x if x.strides[4] == x.itemsize else np.ascontiguousarray(x)


def new(images: int, space: tuple[int, ...], channels: int, dtype: np.dtype) -> Array:
    """A new array (N, D, H, W, C), its entries not set."""
    return empty((images, *(1,) * (3 - len(space)), *space, channels), dtype)
