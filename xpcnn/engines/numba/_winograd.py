"""Winograd's algorithm: a tile of outputs by 36 products a channel pair instead of 144 (or 100).

For kernels of 3 (tiles of 4x4 outputs) and of 5 (tiles of 2x2), patches are 6x6 either way. Summed
over channels, the products for each of the 36 points are a product of matrices. The weight gradient
is the same with a tile of dy for a kernel, and the kernel's places for outputs.

Of patches and weights, one side's points are kept, those which take less memory; the other's are
made for a task at a time, while the cache has them: *by tiles* or *by blocks* of output channels.
On normal data the error stays within 4e-6 of the largest entry; an infinity makes NaN of its tile.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numba import njit

from ..._xp import Array
from .._lines import empty, zeros
from ._arrays import channels_last, room
from ._bands import Geometry, fill_row
from ._jit import INT, ints, kernel, read, write
from ._packing import pack_block, unpack_block
from ._plan import CHUNKS, SUMS, split, splits_of
from ._points import SIDE, kernel_to_points, patch_to_points, points_to_tile
from ._threads import taken
from ._tile import BLOCK_BYTES, LONG, tile
from ._vectors import ROWS, VECTOR_BYTES

POINTS = SIDE * SIDE

PATCHES = 2**20
"""Bytes that the points of the patches taken at once may fill: a core's own cache."""


def forward(x: Array, w: Array, b: Array | None, window: Geometry, y: Array) -> None:
    """Set y (N, 1, OH, OW, O) to the convolution of x (N, 1, H, W, C) with w, plus b (O,)."""
    x, w, size = channels_last(x), w[0], w.shape[-1]
    out_channels, channels = w.shape[:2]
    bias, blocks = _bias(b, out_channels, x.dtype)
    tiling = _tiling(y.shape, size, window)
    tiles, at_once = _tiles(tiling, channels, x.itemsize)
    groups = -(-tiles // at_once)
    if tiles < out_channels:
        patches = _patches(x, tiling, tiles, at_once)
        convolve_by_blocks(blocks, w, patches, bias, y, tiling, at_once)
    else:
        points = empty((blocks, POINTS, _width(channels, x.itemsize)), x.dtype)
        transform_weights(blocks, w, points, size)
        convolve_by_tiles(groups, x, points, bias, y, tiling, at_once)


def weight_gradient(x: Array, dy: Array, window: Geometry, dw: Array) -> None:
    """Set dw (1, O, C, 1, K, K) from x (N, 1, H, W, C) and dy (N, 1, OH, OW, O)."""
    x, dy, size, dw = channels_last(x), channels_last(dy), dw.shape[-1], dw[0]
    out_channels, channels = dw.shape[:2]
    lanes = BLOCK_BYTES // x.itemsize
    blocks = -(-out_channels // lanes)
    tiling = _tiling(dy.shape, size, window)
    tiles, at_once = _tiles(tiling, channels, x.itemsize)
    if tiles < out_channels:
        patches = _patches(x, tiling, tiles, at_once)
        correlate_by_blocks(blocks, patches, dy, dw, tiling, at_once)
    else:
        one = (blocks, POINTS, _width(channels, x.itemsize))
        fitting = SUMS // (prod(one) * x.itemsize)
        chunks = max(1, min(-(-tiles // at_once), CHUNKS, fitting))
        splits = splits_of(blocks, chunks)
        points = zeros((chunks, *one), x.dtype)
        correlate_by_tiles(chunks * splits, x, dy, points, tiling, at_once, splits)
        transform_sums(blocks, points, dw, size)


def _bias(b: Array | None, out_channels: int, dtype: np.dtype) -> tuple[Array, int]:
    """b in whole blocks, zeros where there is none, and the number of blocks."""
    lanes = BLOCK_BYTES // dtype.itemsize
    bias = zeros((-(-out_channels // lanes) * lanes,), dtype)
    if b is not None:
        bias[:out_channels] = b
    return bias, len(bias) // lanes


def _tiling(out: tuple[int, ...], size: int, window: Geometry) -> tuple[int, ...]:
    """Images, rows and columns of outputs, the kernel's size, and the padding before."""
    return (out[0], out[2], out[3], size, window[10], window[11])


def _tiles(tiling: tuple[int, ...], channels: int, itemsize: int) -> tuple[int, int]:
    """How many tiles there are, and how many to take at once: a multiple of ROWS."""
    images, rows, columns, size, _, _ = tiling
    side = SIDE + 1 - size
    tiles = images * -(-rows // side) * -(-columns // side)
    fitting = PATCHES // (POINTS * channels * itemsize)
    return tiles, ROWS * max(1, min(fitting, -(-tiles // CHUNKS)) // ROWS)


def _row_lanes(channels: int, itemsize: int) -> int:
    """Channels in whole vectors."""
    return -(-channels * itemsize // VECTOR_BYTES) * VECTOR_BYTES // itemsize


def _width(rows: int, itemsize: int) -> int:
    """Numbers in `rows` blocks of lanes, and a vector, lest points share their place in a cache."""
    return (rows * BLOCK_BYTES + VECTOR_BYTES) // itemsize


def _patches(x: Array, tiling: tuple[int, ...], tiles: int, at_once: int) -> Array:
    """The points of all patches: (groups, 36, tiles and lanes of a group)."""
    lanes, groups = _row_lanes(x.shape[4], x.itemsize), -(-tiles // at_once)
    width = at_once * lanes + VECTOR_BYTES // x.itemsize
    patches = empty((groups, POINTS, width), x.dtype)
    transform_patches(groups, x, patches, tiling, at_once)
    return patches


@kernel(read(5), write(3), ints(6), INT)
def transform_patches(tasks, x, patches, tiling, at_once):
    """The points of all patches of x; tasks are groups of tiles."""
    scratch = room((SIDE, SIDE, x.shape[4]), x.dtype)
    for group in taken(tasks):
        count = min(at_once, tiles_of(tiling) - group * at_once)
        open_patches(patches[group], scratch, x, tiling, group * at_once, count)


@kernel(read(5), write(3), INT)
def transform_weights(tasks, w, points, size):
    """points (blocks, 36, C and lanes) of w (O, C, 1, K, K); tasks are blocks."""
    packed = room((size * size * w.shape[1], BLOCK_BYTES // w.itemsize), w.dtype)
    for block in taken(tasks):
        open_weights(points[block], packed, w, block, size)


@kernel(read(5), read(3), read(1), write(5), ints(6), INT)
def convolve_by_tiles(tasks, x, points, bias, y, tiling, at_once):
    """y from x and the weights' points; tasks are groups of tiles."""
    channels, lanes, step = x.shape[4], BLOCK_BYTES // x.itemsize, VECTOR_BYTES // x.itemsize
    patches = room((POINTS, at_once * whole_lanes(channels, step) + step), x.dtype)
    sums = room((POINTS, at_once * lanes + step), x.dtype)
    scratch, edge = room((SIDE, SIDE, channels), x.dtype), room((4, 4, lanes), x.dtype)
    for group in taken(tasks):
        start = group * at_once
        count = min(at_once, tiles_of(tiling) - start)
        open_patches(patches, scratch, x, tiling, start, count)
        for block in range(len(points)):
            multiply(patches, points[block], channels, sums, count)
            close_tiles(sums, edge, y, bias, tiling, start, count, block)


@kernel(read(5), read(3), read(1), write(5), ints(6), INT)
def convolve_by_blocks(tasks, w, patches, bias, y, tiling, at_once):
    """y from w (O, C, 1, K, K) and the patches' points; tasks are blocks."""
    channels, size, step = w.shape[1], tiling[3], VECTOR_BYTES // w.itemsize
    lanes = BLOCK_BYTES // w.itemsize
    packed = room((size * size * channels, lanes), w.dtype)
    points = room((POINTS, channels * lanes + step), w.dtype)
    sums = room((POINTS, at_once * lanes + step), w.dtype)
    edge = room((4, 4, lanes), w.dtype)
    for block in taken(tasks):
        open_weights(points, packed, w, block, size)
        for group in range(len(patches)):
            start = group * at_once
            count = min(at_once, tiles_of(tiling) - start)
            multiply(patches[group], points, channels, sums, count)
            close_tiles(sums, edge, y, bias, tiling, start, count, block)


@kernel(read(5), read(5), write(4), ints(6), INT, INT)
def correlate_by_tiles(tasks, x, dy, points, tiling, at_once, splits):
    """Add each chunk's patches times dy's tiles to its points (chunks, blocks, 36, C and lanes).

    Tasks are chunks and splits of the blocks.
    """
    (chunks, blocks, _, _), channels = points.shape, x.shape[4]
    tiles, step, lanes = tiles_of(tiling), VECTOR_BYTES // x.itemsize, BLOCK_BYTES // x.itemsize
    patches = room((POINTS, at_once * whole_lanes(channels, step) + step), x.dtype)
    right = room((POINTS, at_once * lanes + step), x.dtype)
    scratch = room((SIDE, SIDE, channels), x.dtype)
    edge = room((4, 4, dy.shape[4]), x.dtype)
    for task in taken(tasks):
        chunk = task // splits
        block_0, n_blocks = split(blocks, splits, task % splits)
        group_0, n_groups = split(-(-tiles // at_once), chunks, chunk)
        for start in range(group_0 * at_once, min(tiles, (group_0 + n_groups) * at_once), at_once):
            count = min(at_once, tiles - start)
            open_patches(patches, scratch, x, tiling, start, count)
            for block in range(block_0, block_0 + n_blocks):
                open_tiles(right, edge, dy, tiling, start, count, block)
                multiply_back(patches, right, points[chunk, block], channels, count)


@kernel(read(3), read(5), write(5), ints(6), INT)
def correlate_by_blocks(tasks, patches, dy, dw, tiling, at_once):
    """dw (O, C, 1, K, K) from the patches' points and dy; tasks are blocks."""
    channels, size, step = dw.shape[1], tiling[3], VECTOR_BYTES // dw.itemsize
    lanes = BLOCK_BYTES // dw.itemsize
    packed = room((size * size * channels, lanes), dw.dtype)
    points = room((POINTS, channels * lanes + step), dw.dtype)
    right = room((POINTS, at_once * lanes + step), dw.dtype)
    edge = room((4, 4, dy.shape[4]), dw.dtype)
    for block in taken(tasks):
        points[:] = 0
        for group in range(len(patches)):
            start = group * at_once
            count = min(at_once, tiles_of(tiling) - start)
            open_tiles(right, edge, dy, tiling, start, count, block)
            multiply_back(patches[group], right, points, channels, count)
        close_weights(points, packed, dw, block, size)


@kernel(write(4), write(5), INT)
def transform_sums(tasks, points, dw, size):
    """dw (O, C, 1, K, K) from all chunks' points, which the first become; tasks are blocks."""
    packed = room((size * size * dw.shape[1], BLOCK_BYTES // dw.itemsize), dw.dtype)
    for block in taken(tasks):
        for chunk in range(1, len(points)):
            points[0, block] += points[chunk, block]
        close_weights(points[0, block], packed, dw, block, size)


@njit
def whole_lanes(channels, step):
    """Channels in whole vectors of `step` lanes."""
    return -(-channels // step) * step


@njit
def tiles_of(tiling):
    """How many tiles there are."""
    images, rows, columns, size, _, _ = tiling
    side = SIDE + 1 - size
    return images * -(-rows // side) * -(-columns // side)


@njit
def tile_at(tiling, number):
    """(image, top row, left column) of a tile."""
    _, rows, columns, size, _, _ = tiling
    side = SIDE + 1 - size
    down, across = -(-rows // side), -(-columns // side)
    return number // (across * down), number // across % down * side, number % across * side


@njit
def open_square(scratch, x, image, top, left, side):
    """Address of the square of x at (top, left), bytes between its rows and columns.

    Where it hangs over x's edge, it is copied into `scratch` (side, side, C), zeros beyond.
    """
    if 0 <= top <= x.shape[2] - side and 0 <= left <= x.shape[3] - side:
        start = x.ctypes.data + image * x.strides[0] + top * x.strides[2] + left * x.strides[3]
        return start, x.strides[2], x.strides[3]
    for row in range(side):
        fill_row(scratch[row, :side], x, image, 0, top + row, left, 0)
    return scratch.ctypes.data, scratch.strides[0], scratch.strides[1]


@njit
def open_patches(patches, scratch, x, tiling, start, count):
    """patches (36, tiles and lanes): the points of `count` patches of x (N, 1, H, W, C)."""
    _, _, _, _, before_h, before_w = tiling
    channels, size, zero = x.shape[4], x.itemsize, x.dtype.type(0)
    step = VECTOR_BYTES // size
    zeros, row_bytes = np.zeros(step, x.dtype), whole_lanes(channels, step) * size
    for t in range(count):
        image, top, left = tile_at(tiling, start + t)
        here, row, column = open_square(scratch, x, image, top - before_h, left - before_w, SIDE)
        for channel in range(0, channels, step):
            patch_to_points(
                SIDE, here + channel * size, row, column, channels - channel,
                patches.ctypes.data + t * row_bytes + channel * size, SIDE * patches.strides[0],
                patches.strides[0], step, zeros.ctypes.data, zero,
            )  # fmt: skip


@njit
def open_tiles(right, edge, dy, tiling, start, count, block):
    """right (36, tiles and lanes): the points of a block of dy's tiles, taken as kernels."""
    size, zero = dy.itemsize, dy.dtype.type(0)
    step, side = VECTOR_BYTES // size, SIDE + 1 - tiling[3]
    zeros, first_lane = np.zeros(step, dy.dtype), block * BLOCK_BYTES // size
    for t in range(count):
        image, top, left = tile_at(tiling, start + t)
        here, row, column = open_square(edge, dy, image, top, left, side)
        for v in range(0, BLOCK_BYTES // size, step):
            kernel_to_points(
                side, here + (first_lane + v) * size, row, column, dy.shape[4] - first_lane - v,
                right.ctypes.data + t * BLOCK_BYTES + v * size, SIDE * right.strides[0],
                right.strides[0], step, zeros.ctypes.data, zero,
            )  # fmt: skip


@njit
def open_weights(points, packed, w, block, size):
    """points (36, C and lanes) of a block of w (O, C, 1, K, K), held by `packed` (K*K*C, lanes)."""
    channels, lanes = w.shape[1], packed.shape[1]
    zeros, zero = np.zeros(lanes, w.dtype), w.dtype.type(0)
    pack_block(w, block, packed)
    place = channels * BLOCK_BYTES
    for vector in range(channels * BLOCK_BYTES // VECTOR_BYTES):
        offset = vector * VECTOR_BYTES
        kernel_to_points(
            size, packed.ctypes.data + offset, size * place, place, lanes,
            points.ctypes.data + offset, SIDE * points.strides[0], points.strides[0], lanes,
            zeros.ctypes.data, zero,
        )  # fmt: skip


@njit
def multiply(patches, points, channels, sums, count):
    """sums (36, tiles and lanes): the products of patches and points (36, C and lanes)."""
    size, zero = sums.itemsize, sums.dtype.type(0)
    lanes = BLOCK_BYTES // size
    zeros, runs = np.zeros(lanes, sums.dtype), np.zeros((1, 2), np.intp)
    row_bytes = whole_lanes(channels, VECTOR_BYTES // size) * size
    parts = -(-channels // LONG)
    for point in range(POINTS):
        for part in range(parts):
            channel, n = split(channels, parts, part)
            for t in range(0, count, ROWS):
                c = sums[point].ctypes.data + t * BLOCK_BYTES
                init, init_row = (c, BLOCK_BYTES) if part else (zeros.ctypes.data, 0)
                a = patches[point].ctypes.data + t * row_bytes + channel * size
                b = points[point].ctypes.data + channel * BLOCK_BYTES
                tile(
                    min(ROWS, count - t), a, row_bytes, size, b, BLOCK_BYTES, runs.ctypes.data,
                    1, n, init, init_row, c, BLOCK_BYTES, lanes, zero,
                )  # fmt: skip


@njit
def multiply_back(patches, right, points, channels, count):
    """Add the products of patches and dy's tiles, over the tiles, to points (36, C and lanes)."""
    lanes = BLOCK_BYTES // points.itemsize
    size, zero, runs = points.itemsize, points.dtype.type(0), np.zeros((1, 2), np.intp)
    row_bytes = whole_lanes(channels, VECTOR_BYTES // size) * size
    parts = -(-channels // ROWS)
    for point in range(POINTS):
        for part in range(parts):
            channel, n = split(channels, parts, part)
            c = points[point].ctypes.data + channel * BLOCK_BYTES
            tile(
                n, patches[point].ctypes.data + channel * size, size, row_bytes,
                right[point].ctypes.data, BLOCK_BYTES, runs.ctypes.data, 1, count, c, BLOCK_BYTES,
                c, BLOCK_BYTES, lanes, zero,
            )  # fmt: skip


@njit
def close_tiles(sums, edge, y, bias, tiling, start, count, block):
    """Set a block of `count` tiles of y (N, 1, OH, OW, O) from the sums at the points."""
    _, rows, columns, size, _, _ = tiling
    itemsize, side, zero = y.itemsize, SIDE + 1 - size, y.dtype.type(0)
    step, lanes = VECTOR_BYTES // itemsize, BLOCK_BYTES // itemsize
    first_lane = block * lanes
    real = min(lanes, y.shape[4] - first_lane)
    for t in range(count):
        image, top, left = tile_at(tiling, start + t)
        down, across = min(side, rows - top), min(side, columns - left)
        whole = down == side and across == side
        to, to_row, to_column = edge.ctypes.data, edge.strides[0], edge.strides[1]
        if whole:
            to = y.ctypes.data + image * y.strides[0] + first_lane * itemsize
            to += top * y.strides[2] + left * y.strides[3]
            to_row, to_column = y.strides[2], y.strides[3]
        for v in range(0, real, step):
            points_to_tile(
                side, sums.ctypes.data + t * BLOCK_BYTES + v * itemsize, SIDE * sums.strides[0],
                sums.strides[0], step, to + v * itemsize, to_row, to_column, real - v,
                bias.ctypes.data + (first_lane + v) * itemsize, zero,
            )  # fmt: skip
        if not whole:
            for i in range(down):
                for j in range(across):
                    for lane in range(real):
                        y[image, 0, top + i, left + j, first_lane + lane] = edge[i, j, lane]


@njit
def close_weights(points, packed, dw, block, size):
    """Set a block of dw (O, C, 1, K, K) from its points (36, C and lanes)."""
    channels, lanes = dw.shape[1], packed.shape[1]
    zeros, zero = np.zeros(lanes, dw.dtype), dw.dtype.type(0)
    place = channels * BLOCK_BYTES
    for vector in range(channels * BLOCK_BYTES // VECTOR_BYTES):
        offset = vector * VECTOR_BYTES
        points_to_tile(
            size, points.ctypes.data + offset, SIDE * points.strides[0], points.strides[0], lanes,
            packed.ctypes.data + offset, size * place, place, lanes, zeros.ctypes.data, zero,
        )  # fmt: skip
    unpack_block(packed, block, dw)
