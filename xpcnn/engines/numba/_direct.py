"""Direct convolution: bands of rows, multiplied tile by tile with packed weights. No columns.

In a band with channels last, what an output reads along a kernel row lies side by side: KW*C
numbers, a *run*. A convolution is a sum over its runs of products of matrices whose rows overlap,
which no BLAS multiplies, and a tile does. Depthwise (`apart`), lanes are channels of both sides.

Arrays are (N, D, H, W, C) here, weights (G, O/G, C/G, KD, KH, KW), windows as in `_bands`.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from numba import njit

from ..._xp import Array
from ._bands import Geometry, band_shape, open_band, unit_at
from ._jit import BOOL, INT, ints, kernel, read, threads, write
from ._moves import gather, move, move_real, transpose
from ._tile import BLOCK_BYTES, LONG, tile_ahead, tile_of_lanes
from ._vectors import ROWS, VECTOR_BYTES

BAND = 2**18
"""Bytes of input that a task opens at once: with the weights of a block, a core's own cache."""

CHUNKS = 16
"""Parts of the batch that sum a weight gradient apart, however many threads there are: so many
that each finds some, and always as many, so that the result does not depend on the machine."""

SUMS = 2**21
"""Bytes that the chunks' sums of a weight gradient may take, unless one alone takes more."""

PIXELS = LONG
"""Outputs whose gradients the weight gradient takes at once: a block of them stays nearest."""

AT_ONCE = 8
"""Outputs of which all that is read is packed before the next: as many lines as the cache holds,
even where all fall in the same place of it."""

NEAR = 1024
"""Bytes from output to output up to which a block is read where it is; the lines of one further
apart would fall in too few places of the cache."""

LINE = 64
"""Bytes that come from memory together."""


class Plan(NamedTuple):
    """How a convolution is laid out: `channels` and `per_group` in and out, of each group."""

    apart: bool
    groups: int
    channels: int
    per_group: int
    lanes: int
    blocks: int
    terms: int
    in_place: bool
    rows: int
    units: int


def forward(x: Array, w: Array, b: Array | None, window: Geometry, y: Array) -> None:
    """Set y (N, OD, OH, OW, O) to the convolution of x (N, D, H, W, C) with w, plus b (O,)."""
    small = prod(x.shape[1:]) * x.itemsize <= BAND
    if small and _is_product(window) and x.flags.c_contiguous and y.flags.c_contiguous:
        x, y = (a.reshape(len(a), 1, 1, -1, a.shape[-1]) for a in (x, y))  # one long row
    plan = _plan(x, w, window, y.shape)
    packed = np.empty((plan.groups, plan.blocks, plan.terms, plan.lanes), x.dtype)
    pack(plan.groups * plan.blocks, _weights(w, plan), packed)
    bias = np.zeros((plan.groups, plan.blocks * plan.lanes), x.dtype)
    if b is not None:
        bias[:, : plan.per_group] = b.reshape(plan.groups, plan.per_group)
    parts = plan.units * plan.groups
    splits = splits_of(plan.blocks, parts)
    convolve(
        parts * splits, x, packed, bias, y, window, plan.channels,
        plan.per_group, plan.rows, splits, plan.apart, plan.in_place,
    )  # fmt: skip


def weight_gradient(x: Array, dy: Array, window: Geometry, dw: Array) -> None:
    """Set dw to the gradient of the weights, from x (N, D, H, W, C) and dy (N, OD, OH, OW, O)."""
    if _is_product(window) and x.flags.c_contiguous and dy.flags.c_contiguous:
        x, dy = (a.reshape(1, 1, -1, *a.shape[3:]) for a in (x, dy))  # one tall image
        if x.shape[4] > dy.shape[4]:  # what has more channels is cheaper as lanes
            x, dy, dw = dy, x, np.swapaxes(dw, 1, 2)
    plan = _plan(x, dw, window, dy.shape, PIXELS)
    one = (plan.groups, plan.blocks, plan.terms, plan.lanes)
    chunks = max(1, min(plan.units, CHUNKS // plan.groups, SUMS // (prod(one) * x.itemsize)))
    splits = splits_of(plan.blocks, chunks * plan.groups)
    sums = np.zeros((chunks, *one), x.dtype)
    if plan.apart:
        correlate_apart(
            chunks * splits, x, dy, sums, window, plan.rows, splits, plan.in_place,
        )  # fmt: skip
    else:
        correlate(
            chunks * plan.groups * splits, x, dy, sums, window, plan.channels, plan.per_group,
            plan.rows, splits, plan.in_place,
        )  # fmt: skip
    unpack(plan.groups * plan.blocks, sums, _weights(dw, plan))


def splits_of(blocks: int, parts: int) -> int:
    """In how many splits the blocks make enough tasks of the parts for all threads."""
    return min(blocks, -(-2 * threads() // parts))


def _plan(x: Array, w: Array, window: Geometry, out: tuple, pixels: int | None = None) -> Plan:
    groups, per_group, channels = w.shape[:3]
    apart = groups > 1 and per_group == channels == 1
    if apart:
        groups, per_group, channels = 1, groups, groups
    lanes = BLOCK_BYTES // x.itemsize
    in_place = x.strides[4] == x.itemsize and not _reads_padding(window, x.shape, out)
    _, _, columns, _ = band_shape.py_func(window, 1, out[3], channels)
    rows = BAND // (columns * channels * x.itemsize * window[4])
    rows = min(rows, pixels // out[3]) if pixels else rows
    bands = -(-out[2] // max(1, rows))
    return Plan(
        apart, groups, channels, per_group, lanes, -(-per_group // lanes),
        prod(window[:3]) * (1 if apart else channels), in_place, -(-out[2] // bands),
        out[0] * out[1] * bands,
    )  # fmt: skip


def _is_product(window: Geometry) -> bool:
    return window[:6] == (1,) * 6 and window[9:] == (0, 0, 0)


def _reads_padding(window: Geometry, x_shape: tuple, out: tuple) -> bool:
    kernel, stride, dilation, before = (window[i : i + 3] for i in (0, 3, 6, 9))
    last = [
        (o - 1) * s + d * (k - 1) - b
        for k, s, d, b, o in zip(kernel, stride, dilation, before, out[1:4], strict=True)
    ]
    return max(before) > 0 or any(n >= size for n, size in zip(last, x_shape[1:4], strict=True))


def _weights(w: Array, plan: Plan) -> Array:
    """w (G, O/G, C/G, KD, KH, KW) as the plan has it: channels apart are outputs of one group."""
    return by_place(np.swapaxes(w, 0, 1) if plan.apart else w)


def by_place(w: Array) -> Array:
    """w (G, O/G, C/G, KD, KH, KW) as (G, O/G, C/G, P); where P is 1, C/G stands in its stead."""
    groups, out_channels, channels = w.shape[:3]
    places = w.reshape(groups, out_channels, channels, -1)
    return np.swapaxes(places, 2, 3) if places.shape[3] == 1 else places


@njit
def run_offsets(window, plane, row, column, merged):
    """Bytes from an output's first run to each of its runs; `merged` runs span the kernel's row."""
    kd, kh, kw, _, _, _, _, dh, dw, _, _, _ = window
    per_row = 1 if merged else kw
    offsets = np.empty(kd * kh * per_row, np.intp)
    for place in range(offsets.size):
        across, down = place % per_row, place // per_row
        offsets[place] = down // kh * plane + down % kh * dh * row + across * dw * column
    return offsets


@njit
def split(count, parts, part):
    """Where one of `parts` nearly equal parts of `count` things starts, and how many it has."""
    start = count * part // parts
    return start, count * (part + 1) // parts - start


@kernel(read(5), read(4), read(2), write(5), ints(12), INT, INT, INT, INT, BOOL, BOOL)
def convolve(
    first, last, x, packed, bias, y, window, channels, per_group, rows, splits, apart,
    in_place,
):  # fmt: skip
    """y (N, OD, OH, OW, O) from x (N, D, H, W, C): tasks are units, groups, splits of O."""
    groups, blocks, terms, lanes = packed.shape
    size, zero = x.itemsize, x.dtype.type(0)
    _, out_planes, out_rows, out_columns, _ = y.shape
    shape = band_shape(window, rows, out_columns, 0 if in_place else channels)
    band = np.empty(shape, x.dtype)
    tiles = -(-out_columns // ROWS)
    for task in range(first, last):
        unit, group = task // (splits * groups), task // splits % groups
        image, plane, top, count = unit_at(unit, out_planes, out_rows, rows)
        start, a_plane, a_row, a_column = open_band(
            band, x, window, image, plane, top, count, group * channels, in_place
        )
        merged = apart or (a_column == channels * size and window[8] == 1)
        offsets = run_offsets(window, a_plane, a_row, a_column, merged)
        length = terms // offsets.size
        runs = np.empty((offsets.size, 2), np.intp)
        for run in range(offsets.size):
            runs[run, 0], runs[run, 1] = offsets[run], run * length * BLOCK_BYTES
        parts = 1 if apart else -(-length // LONG)
        pieces = -(-offsets.size // max(1, LONG // length))
        block_0, n_blocks = split(blocks, splits, task % splits)
        for block in range(block_0, block_0 + n_blocks):
            channel = group * per_group + block * lanes
            real = min(lanes, per_group - block * lanes)
            a = start + (block * BLOCK_BYTES if apart else 0)
            b = packed.ctypes.data + (group * blocks + block) * terms * BLOCK_BYTES
            start_of_sums = bias.ctypes.data + (group * blocks + block) * BLOCK_BYTES
            for piece in range(pieces * parts):
                first_run, runs_here = split(offsets.size, pieces, piece // parts)
                place, terms_here = split(length, parts, piece % parts)
                for row in range(count):
                    c = y.ctypes.data + image * y.strides[0] + plane * y.strides[1]
                    c += (top + row) * y.strides[2] + channel * y.strides[4]
                    for part in range(tiles):
                        column, n = split(out_columns, tiles, part)
                        a_here = a + row * window[4] * a_row + column * window[5] * a_column
                        next_a = a_here + n * window[5] * a_column
                        c_here = c + column * y.strides[3]
                        init, init_row = (c_here, y.strides[3]) if piece else (start_of_sums, 0)
                        if apart:
                            tile_of_lanes(
                                n, a_here, window[5] * a_column, window[8] * a_column, b,
                                BLOCK_BYTES, runs.ctypes.data + first_run * 16, runs_here, length,
                                init, init_row, c_here, y.strides[3], real, zero,
                            )  # fmt: skip
                        else:
                            tile_ahead(
                                n, a_here + place * size, window[5] * a_column, size,
                                b + place * BLOCK_BYTES, BLOCK_BYTES,
                                runs.ctypes.data + first_run * 16, runs_here, terms_here, init,
                                init_row, c_here, y.strides[3], real, zero, next_a, LINE,
                            )  # fmt: skip


@kernel(read(4), write(4))
def pack(first, last, w, packed):
    """packed (G, blocks, P*C/G, lanes) of w (G, O/G, C/G, P), P being places.

    Tasks are groups and blocks.
    """
    blocks = packed.shape[1]
    for task in range(first, last):
        pack_block(w[task // blocks], task % blocks, packed[task // blocks, task % blocks])


@njit
def pack_block(w, block, packed):
    """packed (P*C, lanes) of a block of w (O, C, P), with zeros in lanes beyond O."""
    (out_channels, channels, places), lanes, size = w.shape, packed.shape[1], w.itemsize
    step, zero = VECTOR_BYTES // size, w.dtype.type(0)
    for v in range(0, lanes, step):
        real = min(step, max(0, out_channels - block * lanes - v))
        start, to = w[block * lanes + v :].ctypes.data, packed.ctypes.data + v * size
        if real < step:
            packed[:, v : v + step] = 0
        for channel in range(channels):
            for place in range(0, places, step):
                here = start + channel * w.strides[1] + place * w.strides[2]
                there = to + (place * channels + channel) * BLOCK_BYTES
                count = min(step, places - place)
                if w.strides[2] == size:
                    transpose(here, w.strides[0], real, count, there, channels * BLOCK_BYTES, zero)
                elif w.strides[2] == -size:
                    transpose(
                        here - (count - 1) * size, w.strides[0], real, count,
                        there + (count - 1) * channels * BLOCK_BYTES, -channels * BLOCK_BYTES, zero,
                    )  # fmt: skip
                else:
                    for more in range(count):
                        from_, at = (
                            here + more * w.strides[2],
                            there + more * channels * BLOCK_BYTES,
                        )
                        if w.strides[0] == size:
                            move(from_, at, size, real, zero)
                        else:
                            gather(from_, at, w.strides[0], real, zero)


@kernel(read(5), read(5), write(5), ints(12), INT, INT, INT, INT, BOOL)
def correlate(first, last, x, dy, sums, window, channels, per_group, rows, splits, in_place):
    """sums (chunks, G, blocks, terms, lanes), to which each chunk of units adds x times dy.

    Tasks are chunks, groups and splits of the blocks.
    """
    chunks, groups, blocks, terms, lanes = sums.shape
    size, zero = x.itemsize, x.dtype.type(0)
    images, out_planes, out_rows, out_columns, _ = dy.shape
    units = images * out_planes * -(-out_rows // rows)
    shape = band_shape(window, rows, out_columns, 0 if in_place else channels)
    band = np.empty(shape, x.dtype)
    parts = -(-terms // ROWS)
    left = np.empty((parts, rows * out_columns, ROWS), x.dtype)
    right = np.empty((rows * out_columns, lanes), x.dtype)
    runs = np.zeros((1, 2), np.intp)
    in_rows = dy.strides[4] == size and dy.strides[2] == out_columns * dy.strides[3]
    in_rows = in_rows and dy.strides[3] <= NEAR
    for task in range(first, last):
        chunk, group = task // (splits * groups), task // splits % groups
        block_0, n_blocks = split(blocks, splits, task % splits)
        unit_0, n_units = split(units, chunks, chunk)
        for unit in range(unit_0, unit_0 + n_units):
            image, plane, top, count = unit_at(unit, out_planes, out_rows, rows)
            start, a_plane, a_row, a_column = open_band(
                band, x, window, image, plane, top, count, group * channels, in_place
            )
            merged = a_column == channels * size and window[8] == 1
            offsets = run_offsets(window, a_plane, a_row, a_column, merged)
            places = _places(count, window[4] * a_row, out_columns, window[5] * a_column)
            _fill_left(left, start, _pieces(offsets, terms, left), places)
            next_dy = dy.ctypes.data + image * dy.strides[0] + plane * dy.strides[1]
            next_dy += (top + count) * dy.strides[2] + group * per_group * size
            next_x = start + count * window[4] * a_row
            ahead, lines = 0, -(-per_group * size // LINE)
            for block in range(block_0, block_0 + n_blocks):
                channel = group * per_group + block * lanes
                real = min(lanes, per_group - block * lanes)
                b, b_step = right.ctypes.data, BLOCK_BYTES
                if in_rows and real == lanes:
                    b, b_step = dy[image, plane, top:, :, channel:].ctypes.data, dy.strides[3]
                else:
                    fill_block(right, dy[image, plane, top : top + count], channel, real)
                for part in range(parts):
                    term, n = split(terms, parts, part)
                    c = sums[chunk, group, block, term].ctypes.data
                    fetch, fetch_step = next_dy + ahead * LINE, dy.strides[3]
                    if ahead >= lines:
                        fetch = next_x + (ahead - lines) * LINE if in_place else start
                        fetch_step = a_column if in_place else 0
                    ahead += 1
                    tile_ahead(
                        n, left[part].ctypes.data, size, ROWS * size, b, b_step,
                        runs.ctypes.data, 1, places.size, c, BLOCK_BYTES, c, BLOCK_BYTES, real,
                        zero, fetch, fetch_step,
                    )  # fmt: skip


@njit
def _places(rows, row_step, columns, column_step):
    """Bytes from a unit's first output to each of them, in what they read."""
    places = np.empty(rows * columns, np.intp)
    for row in range(rows):
        for column in range(columns):
            places[row * columns + column] = row * row_step + column * column_step
    return places


@njit
def _pieces(offsets, terms, left):
    """(bytes from an output's first run, bytes into `left`, count) of what is read side by side."""
    parts, size, length = len(left), left.itemsize, terms // offsets.size
    step = VECTOR_BYTES // size
    pieces = np.empty((parts * (1 + ROWS // step) + offsets.size, 3), np.intp)
    n_pieces = 0
    for part in range(parts):
        term, n = split(terms, parts, part)
        to, end = part * left.strides[0], term + n
        while term < end:
            run, place = term // length, term % length
            count = min(step, end - term, length - place)
            pieces[n_pieces] = offsets[run] + place * size, to, count
            n_pieces, term, to = n_pieces + 1, term + count, to + count * size
    return pieces[:n_pieces]


@njit
def _fill_left(left, start, pieces, places):
    """left (parts, outputs, ROWS): what the outputs at `places` read for each part of the terms."""
    row, zero = ROWS * left.itemsize, left.dtype.type(0)
    for near in range(0, places.size, AT_ONCE):
        beyond = min(near + AT_ONCE, places.size)
        for offset, to, count in pieces:
            from_, at = start + offset, left.ctypes.data + to
            for pixel in range(near, beyond):
                move_real(from_ + places[pixel], at + pixel * row, 0, count, zero)


@kernel(read(5), read(5), write(5), ints(12), INT, INT, BOOL)
def correlate_apart(first, last, x, dy, sums, window, rows, splits, in_place):
    """The same for channels apart: lanes are channels of x and of dy."""
    chunks, _, blocks, terms, lanes = sums.shape
    size, zero, channels = x.itemsize, x.dtype.type(0), x.shape[4]
    images, out_planes, out_rows, out_columns, _ = dy.shape
    units = images * out_planes * -(-out_rows // rows)
    shape = band_shape(window, rows, out_columns, 0 if in_place else channels)
    band = np.empty(shape, x.dtype)
    right = np.empty((rows * out_columns, lanes), x.dtype)
    runs = np.zeros((rows, 2), np.intp)
    for task in range(first, last):
        chunk = task // splits
        block_0, n_blocks = split(blocks, splits, task % splits)
        unit_0, n_units = split(units, chunks, chunk)
        for unit in range(unit_0, unit_0 + n_units):
            image, plane, top, count = unit_at(unit, out_planes, out_rows, rows)
            start, a_plane, a_row, a_column = open_band(
                band, x, window, image, plane, top, count, 0, in_place
            )
            offsets = run_offsets(window, a_plane, a_row, a_column, True)
            length = terms // offsets.size
            parts = -(-length // ROWS)
            for row in range(count):
                runs[row, 0] = row * window[4] * a_row
                runs[row, 1] = row * out_columns * BLOCK_BYTES
            for block in range(block_0, block_0 + n_blocks):
                lane, real = block * lanes, min(lanes, channels - block * lanes)
                fill_block(right, dy[image, plane, top : top + count], lane, real)
                for part in range(offsets.size * parts):
                    run, (place, n) = part // parts, split(length, parts, part % parts)
                    c = sums[chunk, 0, block, run * length + place].ctypes.data
                    tile_of_lanes(
                        n, start + offsets[run] + place * window[8] * a_column + lane * size,
                        window[8] * a_column, window[5] * a_column, right.ctypes.data,
                        BLOCK_BYTES, runs.ctypes.data, count, out_columns, c, BLOCK_BYTES, c,
                        BLOCK_BYTES, real, zero,
                    )  # fmt: skip


@njit
def fill_block(to, rows, channel, real):
    """A block of channels of some rows (R, OW, O), zeros in the lanes that are not real."""
    size, lanes, columns = to.itemsize, to.shape[1], rows.shape[1]
    step = VECTOR_BYTES // size
    for row in range(rows.shape[0]):
        for column in range(columns):
            place = to.ctypes.data + (row * columns + column) * BLOCK_BYTES
            start = rows.ctypes.data + row * rows.strides[0] + column * rows.strides[1]
            for v in range(0, lanes, step):
                first = start + (channel + v) * rows.strides[2]
                if rows.strides[2] == size:
                    move(first, place + v * size, size, real - v, to.dtype.type(0))
                else:
                    gather(first, place + v * size, rows.strides[2], real - v, to.dtype.type(0))


@kernel(write(5), write(4))
def unpack(first, last, sums, dw):
    """dw (G, O/G, C/G, P), contiguous, the sum of all chunks of `sums`, which the first becomes.

    Tasks are groups and blocks.
    """
    blocks = sums.shape[2]
    for task in range(first, last):
        group, block = task // blocks, task % blocks
        total = sums[0, group, block]
        for chunk in range(1, len(sums)):
            total += sums[chunk, group, block]
        unpack_block(total, block, dw[group])


@njit
def unpack_block(packed, block, dw):
    """Inverse of `pack_block`, into the block's part of dw (O, C, P), contiguous."""
    (out_channels, channels, places), lanes, size = dw.shape, packed.shape[1], dw.itemsize
    step, zero = VECTOR_BYTES // size, dw.dtype.type(0)
    for v in range(0, min(lanes, out_channels - block * lanes), step):
        real = min(step, out_channels - block * lanes - v)
        for channel in range(channels):
            for place in range(0, places, step):
                start = packed[place * channels + channel, v:].ctypes.data
                to = dw[block * lanes + v, channel, place:].ctypes.data
                count = min(step, places - place)
                if dw.strides[2] == size:
                    transpose(start, channels * BLOCK_BYTES, count, real, to, dw.strides[0], zero)
                else:
                    for more in range(count):
                        move_real(
                            start + more * channels * BLOCK_BYTES, to + more * dw.strides[2],
                            size, real, zero,
                        )  # fmt: skip
