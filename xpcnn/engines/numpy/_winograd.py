"""Winograd's algorithm: 3x3 convolutions by a quarter of the multiplications, 5x5 by a third.

Along an axis, m outputs of a kernel of r places are sums of m + r - 1 = 6 products where the
definition has m * r: outputs = A (B x * G w), where B and G evaluate polynomials with x and w for
coefficients at five points and at infinity. In the plane the matrices act along both axes; for each
of the 36 pairs of points, the products of all channels are one product of matrices. The gradient of
the weights is such a convolution too: of x, by tiles of the output's gradient.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from ..._xp import Array, product
from ...window import Window
from ..settings import current
from ._blocks import Box, boxes, reads

POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""And infinity. With these, rounding errors grow less than with whole numbers."""

SIZE = 6
"""Inputs of a tile along an axis, and values in between."""

LEAST_CHANNELS = {3: 24, 5: 32}
"""Kernel sizes, with the channels from which on it pays, in and out."""

LEAST_TILES = 64
"""With fewer, taking the weights to the points costs more than it saves."""


def takes(x: Array, out_channels: int, window: Window) -> bool:
    """Whether the algorithm applies to x (N, *in, C), pays, and is wanted."""
    if not (current().winograd and window.kernel in ((3, 3), (5, 5)) and x.dtype == np.float32):
        return False
    n_tiles = x.shape[0] * product(_tiles(window))
    return (
        window.groups == 1
        and window.stride == window.dilation == (1, 1)
        and min(x.shape[-1], out_channels) >= LEAST_CHANNELS[window.kernel[0]]
        and n_tiles >= LEAST_TILES
        and 2 * SIZE**2 * x.shape[-1] * out_channels * x.itemsize <= current().workspace // 2
    )


def convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Box]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w; yields every box once set."""
    channels, out_channels, r = x.shape[-1], y.shape[-1], w.shape[-1]
    m = SIZE + 1 - r
    inverse, to_x, to_w = _matrices(m, r)
    weights = _at_points(w, to_w, x.shape[0] * product(_tiles(window)))
    tiles = replace(window, kernel=(SIZE, SIZE), stride=(m, m), out_size=_tiles(window))
    for box in _boxes(x, out_channels, tiles, weights.nbytes):
        values = _along_both(to_x, _by_place(reads(x, tiles, box)))
        size = values.shape[2:5]
        values = np.matmul(values.reshape(SIZE, SIZE, -1, channels), weights)
        values = _along_both(inverse, values.reshape(SIZE, SIZE, *size, out_channels))
        n, rows, columns = size
        outputs = np.moveaxis(values, (0, 1), (2, 4)).reshape(n, rows * m, columns * m, -1)
        to = (box[0], *(slice(tile.start * m, tile.stop * m) for tile in box[1:]))
        y[to] = outputs[:, : y[to].shape[1], : y[to].shape[2]]
        yield to


def weight_gradient(x: Array, dy: Array, window: Window) -> Array:
    """The gradient of w (O, C, r, r) from x (N, *in, C) and dy (N, *out, O)."""
    channels, out_channels, r = x.shape[-1], dy.shape[-1], window.kernel[0]
    m = SIZE + 1 - r
    inverse, to_x, to_dy = _matrices(r, m)
    tiles = replace(window, kernel=(SIZE, SIZE), stride=(m, m), out_size=_tiles(window))
    parts = replace(tiles, in_size=window.out_size, kernel=(m, m), padding=((0, 0), (0, 0)))
    total = np.zeros((SIZE, SIZE, out_channels, channels), x.dtype)
    for box in _boxes(x, out_channels, tiles, 2 * total.nbytes):
        values = _along_both(to_x, _by_place(reads(x, tiles, box)))
        grads = _along_both(to_dy, _by_place(reads(dy, parts, box)))
        grads = np.swapaxes(grads.reshape(SIZE, SIZE, -1, out_channels), 2, 3)
        total += np.matmul(grads, values.reshape(SIZE, SIZE, -1, channels))
    return np.ascontiguousarray(np.moveaxis(_along_both(inverse, total), (0, 1), (2, 3)))


def _boxes(x: Array, out_channels: int, tiles: Window, least: int) -> Iterator[Box]:
    """Boxes of tiles whose values at the points, before and after each product, fit a block."""
    each = 2 * SIZE**2 * (x.shape[-1] + out_channels) * x.itemsize
    return boxes((len(x), *tiles.out_size), lambda sizes: product(sizes) * each, least)


def _by_place(tiles: Array) -> Array:
    """Tiles (n, rows, columns, k, k, C) as (k, k, n, rows, columns, C)."""
    return np.moveaxis(tiles, (3, 4), (0, 1))


def _tiles(window: Window) -> tuple[int, ...]:
    axes = zip(window.out_size, window.kernel, strict=True)
    return tuple(-(-n // (SIZE + 1 - k)) for n, k in axes)


def _at_points(w: Array, to_w: Array, n_tiles: int) -> Array:
    """Weights (O, C, r, r) as matrices (6, 6, C, O)."""
    out_channels, channels, r, _ = w.shape
    values = np.kron(to_w, to_w) @ w.reshape(-1, r * r).T
    weights = np.swapaxes(values.reshape(SIZE, SIZE, out_channels, channels), 2, 3)
    return np.ascontiguousarray(weights) if n_tiles > out_channels else weights


def _along_both(matrix: Array, values: Array) -> Array:
    """The matrix times `values` along their first axis, and along their second."""
    n, k = matrix.shape
    rest = values.shape[2:]
    values = matrix @ values.reshape(k, -1)
    return (matrix @ values.reshape(n, k, -1)).reshape(n, n, *rest)


@cache
def _matrices(m: int, r: int) -> tuple[Array, Array, Array]:
    """A (m, 6), B (6, 6) and G (6, r) for m outputs of a kernel of r places."""
    others = [[q for q in POINTS if q != p] for p in POINTS]
    powers = np.power.outer(POINTS, range(SIZE))
    inverse, to_x, to_w = np.zeros((m, SIZE)), np.zeros((SIZE, SIZE)), np.zeros((SIZE, r))
    inverse[:, :-1], inverse[-1, -1] = powers[:, :m].T, 1
    scale = [np.prod(p - np.array(rest)) for p, rest in zip(POINTS, others, strict=True)]
    to_w[:-1], to_w[-1, -1] = powers[:, :r] / np.array(scale)[:, None], 1
    to_x[:-1, :-1] = [np.poly(rest)[::-1] for rest in others]
    to_x[-1] = np.poly(POINTS)[::-1]
    return inverse.astype(np.float32), to_x.astype(np.float32), to_w.astype(np.float32)
