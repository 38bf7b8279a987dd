"""NumPy, in blocks that stay in the cache: what outputs read, as a view, into products of matrices.

Convolutions keep channels last in memory under an NCHW shape, so that every copy and every product
runs along contiguous channels, and the next layer finds them so. Beyond inputs, outputs and one
repacked copy of the weights, no call takes more memory than the workspace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._xp import Array, product
from ...window import Window
from . import _depthwise, _winograd
from ._blocks import Box, boxes_of_outputs, has_short_rows, reads
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
        for box in _convolve(_last(x), w, window, y):
            if b is not None:
                _add(b, y[box])
    return np.moveaxis(y, -1, 1)


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    shape = (dy.shape[0], *window.in_size, w.shape[1] * window.groups)
    classes = product(min(s, n) for s, n in zip(window.stride, window.in_size, strict=True))
    dx = (np.empty if len(window.adjoints) == classes else np.zeros)(shape, dy.dtype)
    for inputs, places, part in window.adjoints if dx.size else ():
        turned = _turned(w[(*ALL, *places)], window.groups)
        for _ in _convolve(_last(dy), turned, part, dx[(slice(None), *inputs)]):
            pass
    return np.moveaxis(dx, -1, 1)


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    groups, per_group, out_channels = window.groups, x.shape[1] // window.groups, dy.shape[1]
    shape = (out_channels, per_group, *window.kernel)
    x, dy = _last(x), _last(dy)
    if _winograd.takes(x, out_channels, window):
        return _winograd.weight_gradient(x, dy, window)
    if groups > 1 and per_group == 1:
        return _depthwise.weight_gradient(x, dy, window)
    dw = np.zeros((groups, out_channels // groups, product(shape[1:])), x.dtype)
    for box in boxes_of_outputs(x, dy, window, _copied(x, window), dw.nbytes):
        grads = _grouped(dy[box], groups).reshape(groups, -1, dw.shape[1])
        dw += np.matmul(np.swapaxes(grads, 1, 2), _columns(reads(x, window, box), window))
    by_place = dw.reshape(out_channels, *window.kernel, per_group)
    return np.ascontiguousarray(np.moveaxis(by_place, -1, 1))


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


def _convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Box]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w; yields every box once set."""
    if _winograd.takes(x, len(w), window):
        return _winograd.convolve(x, w, window, y)
    if window.groups > 1 and w.shape[1] == 1:
        return _depthwise.convolve(x, w, window, y)
    return _by_columns(x, w, window, y)


def _by_columns(x: Array, w: Array, window: Window, y: Array) -> Iterator[Box]:
    """Columns of what outputs read, times the weights."""
    groups, by_place = window.groups, np.ascontiguousarray(np.moveaxis(w, 1, -1))
    weights = np.swapaxes(by_place.reshape(groups, w.shape[0] // groups, -1), 1, 2)
    each = _copied(x, window) + y.shape[-1]
    for box in boxes_of_outputs(x, y, window, each, weights.nbytes):
        cols, to = _columns(reads(x, window, box), window), y[box]
        if groups == 1 and to.flags.c_contiguous:
            np.matmul(cols[0], weights[0], out=to.reshape(-1, to.shape[-1]))
        else:
            to[...] = np.swapaxes(np.matmul(cols, weights), 0, 1).reshape(to.shape)
        yield box


def _copied(x: Array, window: Window) -> int:
    """Numbers an output needs for its columns: none where they are x itself."""
    if set(window.kernel) == set(window.stride) == {1}:
        return 0
    return product(window.kernel) * x.shape[-1]


def _columns(view: Array, window: Window) -> Array:
    """Columns (G, outputs, K*C/G) of what a box of outputs reads: no copy of a 1x1 kernel's."""
    view = _grouped(view, window.groups)
    channels, inner = view.shape[-1], range(-window.rank - 1, 0)
    rows = product(window.kernel) * channels
    if has_short_rows(window, channels):
        view = np.moveaxis(view, inner, range(1, window.rank + 2))
        return np.swapaxes(view.reshape(window.groups, rows, -1), 1, 2)
    return view.reshape(window.groups, -1, rows)


def _grouped(x: Array, groups: int) -> Array:
    """x (..., C) as a view (G, ..., C/G)."""
    return np.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


def _turned(w: Array, groups: int) -> Array:
    """Weights turned by 180 degrees, with input and output channels exchanged in each group."""
    out_channels, per_group, *kernel = w.shape
    by_group = w.reshape(groups, out_channels // groups, per_group, *kernel)
    turned = np.flip(by_group, axis=tuple(range(3, by_group.ndim)))
    return np.swapaxes(turned, 1, 2).reshape(groups * per_group, -1, *kernel)


def _add(b: Array, y: Array) -> None:
    """Add b (O,) to y (n, *out, O), contiguous, along rows of many outputs."""
    rows = y.reshape(-1, y.shape[-2] * y.shape[-1])
    rows += np.tile(b, y.shape[-2])


def _last(x: Array) -> Array:
    """x (N, C, *space) as a view (N, *space, C)."""
    return np.moveaxis(x, 1, -1)
