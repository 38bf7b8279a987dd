"""NumPy, in blocks that stay in the cache: what outputs read, as a view, into products of matrices.

Convolutions keep channels last in memory under an NCHW shape, so that every copy and every product
runs along contiguous channels, and the next layer finds them so. Beyond inputs, outputs and one
repacked copy of the weights, no call takes more memory than the workspace.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..._xp import Array, product
from ...window import Window
from ..settings import note
from . import _columns, _depthwise, _winograd
from ._pool import avg_pool, avg_pool_dx, max_pool, max_pool_dx

__all__ = [
    "avg_pool", "avg_pool_dx", "col2im", "conv", "conv_dw", "conv_dx", "im2col", "max_pool",
    "max_pool_dx",
]  # fmt: skip

ALL: Any = (slice(None), slice(None))
"""The two axes before space, whole."""


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    y = np.empty((x.shape[0], *window.out_size, w.shape[0]), x.dtype)
    if y.size:
        algorithm = _algorithm(_last(x), len(w), window)
        for piece in algorithm.convolve(_last(x), w, window, y):
            if b is not None:
                _add(b, piece)
    return np.moveaxis(y, -1, 1)


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    shape = (dy.shape[0], *window.in_size, w.shape[1] * window.groups)
    classes = product(min(s, n) for s, n in zip(window.stride, window.in_size, strict=True))
    dx = (np.empty if len(window.adjoints) == classes else np.zeros)(shape, dy.dtype)
    for inputs, places, part in window.adjoints if dx.size else ():
        turned = _turned(w[(*ALL, *places)], window.groups)
        algorithm = _algorithm(_last(dy), len(turned), part)
        for _ in algorithm.convolve(_last(dy), turned, part, dx[(slice(None), *inputs)]):
            pass
    return np.moveaxis(dx, -1, 1)


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    x, dy = _last(x), _last(dy)
    return _algorithm(x, dy.shape[-1], window).weight_gradient(x, dy, window)


def im2col(x: Array, window: Window) -> Array:
    n, channels = x.shape[:2]
    cols = np.zeros((n, channels, *window.kernel, *window.out_size), x.dtype)
    for place, outputs, inputs in window.taps:
        cols[(*ALL, *place, *outputs)] = x[(*ALL, *inputs)]
    return cols.reshape(n, channels * product(window.kernel), product(window.out_size))


def col2im(cols: Array, window: Window) -> Array:
    n, channels = cols.shape[0], cols.shape[1] // product(window.kernel)
    cols = cols.reshape(n, channels, *window.kernel, *window.out_size)
    x = np.zeros((n, channels, *window.in_size), cols.dtype)
    for place, outputs, inputs in window.taps:
        x[(*ALL, *inputs)] += cols[(*ALL, *place, *outputs)]
    return x


def _algorithm(x: Array, out_channels: int, window: Window) -> ModuleType:
    """What computes a convolution of x (N, *in, C), or its weight gradient."""
    against = _winograd.against(x, out_channels, window)
    if not against:
        note("winograd", "36 products a channel pair make a tile of outputs")
        return _winograd
    if 1 < window.groups == x.shape[-1]:
        note("depthwise", "each channel by itself leaves no product of matrices")
        return _depthwise
    if _columns.needs_none(window):
        note("product", "a 1x1 kernel's columns are the input itself")
    else:
        note("columns", against)
    return _columns


def _turned(w: Array, groups: int) -> Array:
    """Weights turned by 180 degrees, with input and output channels exchanged in each group."""
    out_channels, per_group, *kernel = w.shape
    by_group = w.reshape(groups, out_channels // groups, per_group, *kernel)
    turned = np.flip(by_group, axis=tuple(range(3, by_group.ndim)))
    return np.swapaxes(turned, 1, 2).reshape(groups * per_group, -1, *kernel)


def _add(b: Array, y: Array) -> None:
    """Add b (O,) to y (n, *out, O), or so many outputs at a time, along long rows."""
    rows = y.reshape(-1, y.shape[-2] * y.shape[-1])
    rows += np.tile(b, rows.shape[1] // len(b))


def _last(x: Array) -> Array:
    """x (N, C, *space) as a view (N, *space, C)."""
    return np.moveaxis(x, 1, -1)
