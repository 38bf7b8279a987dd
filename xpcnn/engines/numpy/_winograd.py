"""Winograd's algorithm: 3x3 convolutions by a quarter of the multiplications, 5x5 by a third.

Along an axis, m outputs of a kernel of r places are sums of m + r - 1 = 6 products where the
definition has m * r. In the plane the matrices of `_toom` act along both axes; for each of the 36
pairs of points, the products of all channels are one product of matrices. The gradient of the
weights is such a convolution too: of x, by tiles of the output's gradient.

The matrices are so small that BLAS works at the speed of the cache: values are transformed a piece
at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from ..._xp import Array, product
from ...window import Window
from .. import _toom
from .._lines import empty
from .._toom import SIDE
from ..settings import current
from ._blocks import Box, boxes_of_outputs, reads

LEAST_CHANNELS = 16
"""From which on it pays, in and out."""

LEAST_TILES = 64
"""With fewer, taking the weights to the points costs more than it saves."""

PIECE = 8192
"""Numbers of a point to transform at a time: BLAS copies what is larger, or leaves the cache."""


def against(x: Array, out_channels: int, window: Window) -> str:
    """Why the algorithm does not apply to x (N, *in, C), or would not pay, if so."""
    if window.kernel not in ((3, 3), (5, 5)):
        return "Winograd's algorithm takes kernels of 3x3 and 5x5"
    if set(window.stride) != {1} or set(window.dilation) != {1} or window.groups > 1:
        return "Winograd's algorithm takes no stride, dilation or groups"
    if x.dtype != np.float32 or not current().winograd:
        return "Winograd's algorithm takes float32, and winograd=True"
    if min(x.shape[-1], out_channels) < LEAST_CHANNELS:
        return f"Winograd's algorithm pays from {LEAST_CHANNELS} channels on, in and out"
    if len(x) * product(_tiles(window).out_size) < LEAST_TILES:
        return f"Winograd's algorithm pays from {LEAST_TILES} tiles on"
    if 4 * SIDE**2 * x.shape[-1] * out_channels * x.itemsize > current().workspace:
        return "the weights at Winograd's points take more than a quarter of the workspace"
    return ""


def convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Array]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w; yields every piece once set."""
    channels, m = x.shape[-1], SIDE + 1 - w.shape[-1]
    tiles = _tiles(window)
    weights = _transform(_from_kernel(w.shape[-1]), _by_place(np.swapaxes(w, 0, 1), (2, 3)))
    for box in _boxes(x, y.shape[-1], tiles):
        values = _transform(_from_patch(), _by_place(reads(x, tiles, box), (3, 4)))
        sums = empty((*values.shape[:-1], y.shape[-1]), y.dtype)
        pairs = (SIDE, SIDE, -1)
        np.matmul(values.reshape(*pairs, channels), weights, out=sums.reshape(*pairs, len(w)))
        values = _transform(_to_tile(m), sums)
        to = (box[0], *(slice(tile.start * m, tile.stop * m) for tile in box[1:]))
        for i, j in np.ndindex(m, m):
            part = y[to][:, i::m, j::m]
            part[...] = values[i, j, :, : part.shape[1], : part.shape[2]]
        yield y[to]


def weight_gradient(x: Array, dy: Array, window: Window) -> Array:
    """The gradient of w (O, C, r, r) from x (N, *in, C) and dy (N, *out, O)."""
    channels, out_channels, r = x.shape[-1], dy.shape[-1], window.kernel[0]
    m, tiles, total = SIDE + 1 - r, _tiles(window), None
    outputs = replace(tiles, in_size=window.out_size, kernel=(m, m), padding=((0, 0), (0, 0)))
    for box in _boxes(x, out_channels, tiles):
        values = _transform(_from_patch(), _by_place(reads(x, tiles, box), (3, 4)))
        grads = _transform(_from_kernel(m), _by_place(reads(dy, outputs, box), (3, 4)))
        grads = np.swapaxes(grads.reshape(SIDE, SIDE, -1, out_channels), 2, 3)
        values = values.reshape(SIDE, SIDE, -1, channels)
        if total is None:
            total = np.matmul(grads, values)
        else:
            total += np.matmul(grads, values)
    return np.ascontiguousarray(np.moveaxis(_transform(_to_tile(r), total), (0, 1), (2, 3)))


def _tiles(window: Window) -> Window:
    """The window whose outputs are tiles, and whose kernel is a patch."""
    m = SIDE + 1 - window.kernel[0]
    count = tuple(-(-n // m) for n in window.out_size)
    return replace(window, kernel=(SIDE, SIDE), stride=(m, m), out_size=count)


def _boxes(x: Array, out_channels: int, tiles: Window) -> Iterator[Box]:
    """Boxes of tiles that fit a block, three arrays of values at the points at a time."""
    channels = x.shape[-1], out_channels
    least = SIDE**2 * product(channels) * x.itemsize
    return boxes_of_outputs(x, tiles, 3 * SIDE**2 * max(channels), least)


def _by_place(tiles: Array, axes: tuple[int, int]) -> Array:
    """A copy of tiles, or weights, with the two axes of their places first."""
    view = np.moveaxis(tiles, axes, (0, 1))
    copy = empty(view.shape, view.dtype)
    copy[...] = view
    return copy


def _transform(matrix: Array, values: Array) -> Array:
    """The matrix (n, k) times `values` (k, k, ...) along both of their first axes.

    The result lies in the memory of `values`, where it fits.
    """
    (n, k), rest = matrix.shape, values.shape[2:]
    values = values.reshape(k, k, -1)
    count = values.shape[2]
    result = values[:n, :n] if n <= k else empty((n, n, count), values.dtype)
    for start in range(0, count, PIECE):
        piece = slice(start, start + PIECE)
        half = np.matmul(matrix, np.swapaxes(values[:, :, piece], 0, 1))
        np.matmul(matrix, np.swapaxes(half, 0, 1), out=result[:, :, piece])
    return result.reshape(n, n, *rest)


@cache
def _from_patch() -> Array:
    return np.array(_toom.patch_to_points(), np.float32)


@cache
def _from_kernel(size: int) -> Array:
    return np.array(_toom.kernel_to_points(size), np.float32)


@cache
def _to_tile(size: int) -> Array:
    return np.array(_toom.points_to_tile(size), np.float32)
