"""Winograd's algorithm: a tile of outputs by 36 products a channel pair instead of 144 (or 100).

For kernels of 3 (tiles of 4x4 outputs) and 5 (tiles of 2x2), one input patch is 6x6 either way:

    tile = A' ((G w G') * (B' patch B)) A,     * being a product for each of the 36 points,

summed over channels, which makes 36 products of matrices. The same holds for the weight gradient,
whose outputs are the kernel's places and whose kernel is a tile of dy. The matrices evaluate and
interpolate polynomials at six points; those here, 0, 2/3, -2/3, 3/2, -3/2 and infinity, round half
as much as the usual 0, 1, -1, 2, -2: the error is about 1e-6 of the largest entry.

Sources: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; Barabasz et al.,
"Error analysis and improving the accuracy of Winograd convolution", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ..._xp import Array
from ._bands import Geometry, fill_row
from ._direct import CHUNKS, SUMS, by_place, pack, split, splits_of, unpack
from ._jit import INT, kernel, number, read, write
from ._tile import BLOCK_BYTES, LONG, VECTORS, tile
from ._vectors import ROWS, VECTOR_BYTES, Vectors

SIDE = 6
POINTS = tuple(Fraction(*pair) for pair in ((0, 1), (2, 3), (-2, 3), (3, 2), (-3, 2)))
"""The finite points; infinity is the sixth."""

Matrix = list[list[Fraction]]


def _powers(count: int, divisors: Sequence[Fraction]) -> Matrix:
    """Each point's powers from 0 to count - 1 over its divisor; for infinity, the last power."""
    rows = [[x**k / d for k in range(count)] for x, d in zip(POINTS, divisors, strict=True)]
    return [*rows, [Fraction(k == count - 1) for k in range(count)]]


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, the lowest first, of the product of all (x - root), SIDE of them."""
    terms = [Fraction(1)]
    for root in roots:
        pairs = zip([Fraction(0), *terms], [*terms, Fraction(0)], strict=True)
        terms = [a - root * b for a, b in pairs]
    return terms + [Fraction(0)] * (SIDE - len(terms))


OTHERS = [[other for other in POINTS if other != x] for x in POINTS]
DIVISORS = [
    prod((x - other for other in others), start=Fraction(1))
    for x, others in zip(POINTS, OTHERS, strict=True)
]

PATCH = [*map(_polynomial, OTHERS), _polynomial(POINTS)]
"""B': from a patch's six rows to six points."""

KERNELS = {size: _powers(size, DIVISORS) for size in (2, 3, 4, 5)}
"""G: from a kernel's rows to six points."""

TILES = {
    size: [list(row) for row in zip(*_powers(size, [Fraction(1)] * len(POINTS)), strict=True)]
    for size in (2, 3, 4, 5)
}
"""A': from six points to a tile's rows."""


def _transform(matrices: dict[int, Matrix]) -> Any:
    """An intrinsic that multiplies a square of vectors by a matrix on both sides: M s M'.

    The first argument chooses the matrix. Entry (i, j) of the square is the vector at address
    from_ + i * from_row + j * from_column, with `from_lanes` real lanes; results go likewise, plus
    the vector at `init`, at least `floor`.
    """

    @intrinsic
    def transform(
        context, size, from_, from_row, from_column, from_lanes, to, to_row, to_column, to_lanes,
        init, floor,
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            number, *rest = args
            on = Vectors(builder, floor.bitwidth)
            on.choose(number, {n: partial(_write, on, m, *rest) for n, m in matrices.items()})
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10, floor), generate

    return transform


def _write(
    on: Vectors, matrix: Matrix, from_, from_row, from_column, from_lanes, to, to_row, to_column,
    to_lanes, init, floor,
) -> None:  # fmt: skip
    read, written, count = on.mask(from_lanes), on.mask(to_lanes), len(matrix[0])
    init, floor = on.load(init, written), on.splat(floor)
    columns = []
    for j in range(count):
        places = [on.at(from_, (from_row, i), (from_column, j)) for i in range(count)]
        columns.append(_apply(on, matrix, [on.load(place, read) for place in places]))
    for i, row in enumerate(zip(*columns, strict=True)):
        for j, value in enumerate(_apply(on, matrix, row)):
            value = on.at_least(on.builder.fadd(value, init), floor)
            on.store(value, on.at(to, (to_row, i), (to_column, j)), written)


def _apply(on: Vectors, matrix: Matrix, entries: Sequence[Any]) -> list:
    """The product of the matrix with a column of vectors."""
    results = []
    for row in matrix:
        total = None
        for factor, entry in zip(row, entries, strict=True):
            if factor == 0:
                continue
            if total is None:
                total = entry if factor == 1 else on.builder.fmul(entry, on.constant(float(factor)))
            elif factor == 1:
                total = on.builder.fadd(total, entry)
            else:
                total = on.multiply_add(entry, on.constant(float(factor)), total)
        results.append(total)
    return results


patch_to_points = _transform({SIDE: PATCH})
kernel_to_points = _transform(KERNELS)
points_to_tile = _transform(TILES)

PATCHES = 2**20
"""Bytes that the points of the patches taken at once may fill: a core's own cache."""


def forward(x: Array, w: Array, b: Array | None, window: Geometry, y: Array) -> None:
    """Set y (N, 1, OH, OW, O) to the convolution of x (N, 1, H, W, C) with w, plus b (O,)."""
    x, out_channels, channels, size = _channels_last(x), w.shape[1], w.shape[2], w.shape[-1]
    lanes = BLOCK_BYTES // x.itemsize
    blocks = -(-out_channels // lanes)
    packed = np.empty((1, blocks, size * size * channels, lanes), x.dtype)
    pack(blocks, by_place(w), packed)
    points = np.empty((blocks, SIDE * SIDE, channels, lanes), x.dtype)
    transform_weights(blocks * channels, packed, points, size)
    bias = np.zeros(blocks * lanes, x.dtype)
    if b is not None:
        bias[:out_channels] = b
    tiles, at_once = _tiles(y.shape, size, channels, x.itemsize)
    convolve_points(
        -(-tiles // at_once), x, points, bias, x.dtype.type(-np.inf), y, size, window[10],
        window[11], at_once,
    )  # fmt: skip


def weight_gradient(x: Array, dy: Array, window: Geometry, dw: Array) -> None:
    """Set dw (1, O, C, 1, K, K) from x (N, 1, H, W, C) and dy (N, 1, OH, OW, O)."""
    x, dy, (_, out_channels, channels, _, _, size) = _channels_last(x), _channels_last(dy), dw.shape
    lanes = BLOCK_BYTES // x.itemsize
    blocks = -(-out_channels // lanes)
    tiles, at_once = _tiles(dy.shape, size, channels, x.itemsize)
    groups = -(-tiles // at_once)
    one = (blocks, SIDE * SIDE, channels, lanes)
    chunks = max(1, min(groups, CHUNKS, SUMS // (prod(one) * x.itemsize)))
    splits = splits_of(blocks, chunks)
    points = np.zeros((chunks, *one), x.dtype)
    correlate_points(chunks * splits, x, dy, points, size, window[10], window[11], at_once, splits)
    sums = np.empty((1, 1, blocks, size * size * channels, lanes), x.dtype)
    transform_sums(blocks * channels, points, sums, size)
    unpack(blocks, sums, by_place(dw))


def _tiles(out: tuple, size: int, channels: int, itemsize: int) -> tuple[int, int]:
    """How many tiles there are, and how many to take at once: a multiple of ROWS."""
    side = SIDE + 1 - size
    tiles = out[0] * -(-out[2] // side) * -(-out[3] // side)
    fitting = PATCHES // (SIDE * SIDE * channels * itemsize)
    shared = -(-tiles // CHUNKS)
    return tiles, ROWS * max(1, min(fitting, shared) // ROWS)


def _channels_last(x: Array) -> Array:
    return x if x.strides[4] == x.itemsize else np.ascontiguousarray(x)


@kernel(read(4), write(4), INT)
def transform_weights(first, last, packed, points, size):
    """points (blocks, 36, C, lanes) of packed weights; tasks are pairs of block and C."""
    _, _, channels, lanes = points.shape
    place, zeros = channels * BLOCK_BYTES, np.zeros(lanes, packed.dtype)
    none = packed.dtype.type(-np.inf)
    for task in range(first, last):
        block, channel = task // channels, task % channels
        for v in range(VECTORS):
            offset = channel * BLOCK_BYTES + v * VECTOR_BYTES
            kernel_to_points(
                size, packed[0, block].ctypes.data + offset, size * place, place, lanes,
                points[block].ctypes.data + offset, SIDE * place, place, lanes,
                zeros.ctypes.data, none,
            )  # fmt: skip


@njit
def _tile_at(number, out, side):
    """(image, top row, left column) of a tile."""
    across, down = -(-out[3] // side), -(-out[2] // side)
    return number // (across * down), number // across % down * side, number % across * side


@njit
def _open_square(scratch, x, image, top, left):
    """Address of the square of x at (top, left), bytes between its rows and columns.

    Where it hangs over x's edge, it is copied into `scratch` (side, side, C), zeros beyond.
    """
    side = scratch.shape[0]
    if 0 <= top <= x.shape[2] - side and 0 <= left <= x.shape[3] - side:
        start = x.ctypes.data + image * x.strides[0] + top * x.strides[2] + left * x.strides[3]
        return start, x.strides[2], x.strides[3]
    for row in range(side):
        fill_row(scratch[row], x, image, 0, top + row, left, 0)
    return scratch.ctypes.data, scratch.strides[0], scratch.strides[1]


@kernel(read(5), read(4), read(1), number, write(5), INT, INT, INT, INT)
def convolve_points(first, last, x, points, bias, floor, y, size, before_h, before_w, at_once):
    """y from x and the weights' points; tasks are `at_once` tiles each."""
    blocks, _, channels, lanes = points.shape
    itemsize, side, out_channels = x.itemsize, SIDE + 1 - size, y.shape[4]
    across, down = -(-y.shape[3] // side), -(-y.shape[2] // side)
    tiles, step = y.shape[0] * across * down, VECTOR_BYTES // itemsize
    row_lanes = -(-channels // step) * step
    patches = np.empty((SIDE * SIDE, at_once * row_lanes + step), x.dtype)
    sums = np.empty((SIDE * SIDE, at_once * lanes + step), x.dtype)
    scratch = np.empty((SIDE, SIDE, channels), x.dtype)
    edge = np.empty((side, side, lanes), x.dtype)
    runs, zeros = np.zeros((1, 2), np.intp), np.zeros(lanes, x.dtype)
    a_row, none = row_lanes * itemsize, x.dtype.type(-np.inf)
    parts = -(-channels // LONG)
    for task in range(first, last):
        start, count = task * at_once, min(at_once, tiles - task * at_once)
        for t in range(count):
            image, top, left = _tile_at(start + t, y.shape, side)
            source, row, column = _open_square(scratch, x, image, top - before_h, left - before_w)
            for channel in range(0, channels, step):
                patch_to_points(
                    SIDE, source + channel * itemsize, row, column, channels - channel,
                    patches.ctypes.data + t * a_row + channel * itemsize,
                    SIDE * patches.strides[0], patches.strides[0], step, zeros.ctypes.data, none,
                )  # fmt: skip
        for block in range(blocks):
            first_lane = block * lanes
            real = min(lanes, out_channels - first_lane)
            for point in range(SIDE * SIDE):
                for part in range(parts):
                    channel, n = split(channels, parts, part)
                    for t in range(0, count, ROWS):
                        c = sums[point].ctypes.data + t * BLOCK_BYTES
                        init, init_row = (c, BLOCK_BYTES) if part else (zeros.ctypes.data, 0)
                        tile(
                            min(ROWS, count - t),
                            patches[point].ctypes.data + t * a_row + channel * itemsize, a_row,
                            itemsize, points[block, point, channel].ctypes.data, BLOCK_BYTES,
                            runs.ctypes.data, 1, n, init, init_row, c, BLOCK_BYTES, real, none,
                        )  # fmt: skip
            for t in range(count):
                image, top, left = _tile_at(start + t, y.shape, side)
                rows, columns = min(side, y.shape[2] - top), min(side, y.shape[3] - left)
                to = y.ctypes.data + image * y.strides[0] + top * y.strides[2]
                to += left * y.strides[3] + first_lane * y.strides[4]
                to_row, to_column = y.strides[2], y.strides[3]
                whole = rows == side and columns == side
                if not whole:
                    to, to_row, to_column = edge.ctypes.data, edge.strides[0], edge.strides[1]
                for v in range(0, real, step):
                    points_to_tile(
                        side, sums.ctypes.data + t * BLOCK_BYTES + v * itemsize,
                        SIDE * sums.strides[0], sums.strides[0], step, to + v * itemsize, to_row,
                        to_column, real - v, bias.ctypes.data + (first_lane + v) * itemsize, floor,
                    )  # fmt: skip
                if not whole:
                    for i in range(rows):
                        for j in range(columns):
                            for lane in range(real):
                                y[image, 0, top + i, left + j, first_lane + lane] = edge[i, j, lane]


@kernel(read(5), read(5), write(5), INT, INT, INT, INT, INT)
def correlate_points(first, last, x, dy, points, size, before_h, before_w, at_once, splits):
    """points (chunks, blocks, 36, C, lanes), to which each chunk adds its patches times dy's tiles.

    Tasks are chunks and splits of the blocks.
    """
    chunks, blocks, _, channels, lanes = points.shape
    itemsize, side, out_channels = x.itemsize, SIDE + 1 - size, dy.shape[4]
    across, down = -(-dy.shape[3] // side), -(-dy.shape[2] // side)
    tiles, step = dy.shape[0] * across * down, VECTOR_BYTES // itemsize
    row_lanes = -(-channels // step) * step
    patches = np.empty((SIDE * SIDE, at_once * row_lanes + step), x.dtype)
    right = np.empty((SIDE * SIDE, at_once * lanes + step), x.dtype)
    scratch = np.empty((SIDE, SIDE, channels), x.dtype)
    edge = np.empty((side, side, out_channels), x.dtype)
    runs, zeros = np.zeros((1, 2), np.intp), np.zeros(lanes, x.dtype)
    a_row, none = row_lanes * itemsize, x.dtype.type(-np.inf)
    parts = -(-channels // ROWS)
    for task in range(first, last):
        chunk = task // splits
        block_0, n_blocks = split(blocks, splits, task % splits)
        group_0, n_groups = split(-(-tiles // at_once), chunks, chunk)
        for start in range(group_0 * at_once, min(tiles, (group_0 + n_groups) * at_once), at_once):
            count = min(at_once, tiles - start)
            for t in range(count):
                image, top, left = _tile_at(start + t, dy.shape, side)
                source, row, column = _open_square(
                    scratch, x, image, top - before_h, left - before_w
                )
                for channel in range(0, channels, step):
                    patch_to_points(
                        SIDE, source + channel * itemsize, row, column, channels - channel,
                        patches.ctypes.data + t * a_row + channel * itemsize,
                        SIDE * patches.strides[0], patches.strides[0], step, zeros.ctypes.data,
                        none,
                    )  # fmt: skip
            for block in range(block_0, block_0 + n_blocks):
                first_lane = block * lanes
                for t in range(count):
                    image, top, left = _tile_at(start + t, dy.shape, side)
                    source, row, column = _open_square(edge, dy, image, top, left)
                    for v in range(0, lanes, step):
                        kernel_to_points(
                            side, source + (first_lane + v) * itemsize, row, column,
                            out_channels - first_lane - v,
                            right.ctypes.data + t * BLOCK_BYTES + v * itemsize,
                            SIDE * right.strides[0], right.strides[0], step, zeros.ctypes.data,
                            none,
                        )  # fmt: skip
                for point in range(SIDE * SIDE):
                    for part in range(parts):
                        channel, n = split(channels, parts, part)
                        c = points[chunk, block, point, channel].ctypes.data
                        tile(
                            n, patches[point].ctypes.data + channel * itemsize, itemsize, a_row,
                            right[point].ctypes.data, BLOCK_BYTES, runs.ctypes.data, 1, count, c,
                            BLOCK_BYTES, c, BLOCK_BYTES, lanes, none,
                        )  # fmt: skip


@kernel(read(5), write(5), INT)
def transform_sums(first, last, points, sums, size):
    """sums (1, 1, blocks, K*K*C, lanes) from the chunks' points; tasks are pairs of block and C."""
    chunks, _, _, channels, lanes = points.shape
    place, zeros = channels * BLOCK_BYTES, np.zeros(lanes, points.dtype)
    none = points.dtype.type(-np.inf)
    total = np.empty((SIDE * SIDE, lanes), points.dtype)
    for task in range(first, last):
        block, channel = task // channels, task % channels
        total[:] = points[0, block, :, channel]
        for chunk in range(1, chunks):
            total += points[chunk, block, :, channel]
        for v in range(VECTORS):
            points_to_tile(
                size, total.ctypes.data + v * VECTOR_BYTES, SIDE * BLOCK_BYTES, BLOCK_BYTES, lanes,
                sums[0, 0, block].ctypes.data + channel * BLOCK_BYTES + v * VECTOR_BYTES,
                size * place, place, lanes, zeros.ctypes.data, none,
            )  # fmt: skip
