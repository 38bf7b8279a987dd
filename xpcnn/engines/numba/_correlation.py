"""The weight gradient of a direct convolution: sums over outputs of what they read, times dy.

What the outputs of a unit read is laid side by side, a part of the terms at a time; dy is read
where it is, a block of channels for lanes. Tiles multiply both, and add to what units before left.
Arrays, weights and windows are as in `_direct`.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numba import njit

from ..._xp import Array
from .._lines import LINE, empty
from ._arrays import room
from ._bands import Geometry, band_shape, open_band, unit_at, units_of
from ._jit import BOOL, INT, ints, kernel, read, write
from ._moves import gather, move, move_real
from ._packing import unpack
from ._plan import (
    CHUNK,
    CHUNKS,
    SUMS,
    is_product,
    plan_of,
    run_offsets,
    split,
    splits_of,
    weights_of,
)
from ._threads import taken
from ._tile import BLOCK_BYTES, LONG, tile_ahead, tile_of_lanes
from ._vectors import ROWS, VECTOR_BYTES

PIXELS = LONG
"""Outputs whose gradients are taken at once: a block of them stays nearest."""

AT_ONCE = 8
"""Outputs of which all that is read is packed before the next: as many lines as the cache holds,
even where all fall in the same place of it."""

NEAR = 1024
"""Bytes from output to output up to which a block that is read more than once is read where it is:
the lines of one further apart would fall in too few places of the cache."""


def weight_gradient(x: Array, dy: Array, window: Geometry, dw: Array) -> None:
    """Set dw to the gradient of the weights, from x (N, D, H, W, C) and dy (N, OD, OH, OW, O)."""
    if is_product(window, x, dy) and x.flags.c_contiguous and dy.flags.c_contiguous:
        x, dy = (a.reshape(1, 1, -1, *a.shape[3:]) for a in (x, dy))  # one tall image
        if x.shape[4] > dy.shape[4]:  # what has more channels is cheaper as lanes
            x, dy, dw = dy, x, np.swapaxes(dw, 1, 2)
    plan = plan_of(x, dw, window, dy.shape, PIXELS)
    one = (plan.groups, plan.blocks, plan.terms, plan.lanes)
    most = min(CHUNKS // plan.groups, SUMS // (prod(one) * x.itemsize))
    chunks = max(1, min(plan.units, prod(dy.shape[:4]) // CHUNK, most))
    splits = splits_of(plan.blocks, chunks * plan.groups)
    sums = empty((chunks, *one), x.dtype)
    size = plan.rows, plan.columns
    if plan.apart:
        correlate_apart(chunks * splits, x, dy, sums, window, *size, splits, plan.in_place)
    else:
        correlate(
            chunks * plan.groups * splits, x, dy, sums, window, plan.channels, plan.per_group,
            *size, splits, plan.in_place,
        )  # fmt: skip
    unpack(plan.groups * plan.blocks, sums, weights_of(dw, plan))


@kernel(read(5), read(5), write(5), ints(12), INT, INT, INT, INT, INT, BOOL)
def correlate(tasks, x, dy, sums, window, channels, per_group, rows, columns, splits, in_place):
    """sums (chunks, G, blocks, terms, lanes), to which each chunk of units adds x times dy.

    Tasks are chunks, groups and splits of the blocks.
    """
    chunks, groups, blocks, terms, lanes = sums.shape
    size, zero = x.itemsize, x.dtype.type(0)
    units = units_of(dy.shape, rows, columns)
    shape = band_shape(window, rows, columns, 0 if in_place else channels)
    band = room(shape, x.dtype)
    parts = -(-terms // ROWS)
    left = room((parts, rows * columns, ROWS), x.dtype)
    right, none = room((rows * columns, lanes), x.dtype), np.zeros(lanes, x.dtype)
    runs = np.zeros((1, 2), np.intp)
    in_rows = dy.strides[4] == size and (dy.strides[3] <= NEAR or parts == 1)
    in_rows = in_rows and (rows == 1 or dy.strides[2] == columns * dy.strides[3])
    for task in taken(tasks):
        chunk, group = task // (splits * groups), task // splits % groups
        block_0, n_blocks = split(blocks, splits, task % splits)
        unit_0, n_units = split(units, chunks, chunk)
        for number in range(unit_0, unit_0 + n_units):
            unit = unit_at(number, dy.shape, rows, columns)
            start, a_plane, a_row, a_column = open_band(
                band, x, window, unit, group * channels, in_place
            )
            merged = a_column == channels * size and window[8] == 1
            offsets = run_offsets(window, a_plane, a_row, a_column, merged)
            places = _places(unit, window[4] * a_row, window[5] * a_column)
            _fill_left(left, start, _pieces(offsets, terms, left), places)
            here = dy[unit.image, unit.plane, unit.top : unit.top + unit.rows, unit.left :]
            next_dy = here.ctypes.data + places.size * dy.strides[3] + group * per_group * size
            next_x = start + 2 * places[-1] - (places[-2] if places.size > 1 else 0)
            ahead, lines = 0, -(-per_group * size // LINE)
            for block in range(block_0, block_0 + n_blocks):
                channel = group * per_group + block * lanes
                real = min(lanes, per_group - block * lanes)
                b, b_step = right.ctypes.data, BLOCK_BYTES
                if in_rows and real == lanes:
                    b, b_step = here[:, :, channel:].ctypes.data, dy.strides[3]
                else:
                    fill_block(right, here[:, : unit.columns], channel, real)
                for part in range(parts):
                    term, n = split(terms, parts, part)
                    c = sums[chunk, group, block, term].ctypes.data
                    init, init_row = (c, BLOCK_BYTES) if number > unit_0 else (none.ctypes.data, 0)
                    fetch, fetch_step = next_dy + ahead * LINE, dy.strides[3]
                    if ahead >= lines:
                        fetch = next_x + (ahead - lines) * LINE if in_place else start
                        fetch_step = a_column if in_place else 0
                    ahead += 1
                    tile_ahead(
                        n, left[part].ctypes.data, size, ROWS * size, b, b_step,
                        runs.ctypes.data, 1, places.size, init, init_row, c, BLOCK_BYTES, real,
                        zero, fetch, fetch_step,
                    )  # fmt: skip


@njit
def _places(unit, row_step, column_step):
    """Bytes from a unit's first output to each of them, in what they read."""
    places = np.empty(unit.rows * unit.columns, np.intp)
    for row in range(unit.rows):
        for column in range(unit.columns):
            places[row * unit.columns + column] = row * row_step + column * column_step
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


@kernel(read(5), read(5), write(5), ints(12), INT, INT, INT, BOOL)
def correlate_apart(tasks, x, dy, sums, window, rows, columns, splits, in_place):
    """The same for channels apart: lanes are channels of x and of dy."""
    chunks, _, blocks, terms, lanes = sums.shape
    size, zero, channels = x.itemsize, x.dtype.type(0), x.shape[4]
    units = units_of(dy.shape, rows, columns)
    shape = band_shape(window, rows, columns, 0 if in_place else channels)
    band = room(shape, x.dtype)
    right, none = room((rows * columns, lanes), x.dtype), np.zeros(lanes, x.dtype)
    runs = np.zeros((rows, 2), np.intp)
    for task in taken(tasks):
        chunk = task // splits
        block_0, n_blocks = split(blocks, splits, task % splits)
        unit_0, n_units = split(units, chunks, chunk)
        for number in range(unit_0, unit_0 + n_units):
            unit = unit_at(number, dy.shape, rows, columns)
            start, a_plane, a_row, a_column = open_band(band, x, window, unit, 0, in_place)
            here = dy[unit.image, unit.plane, unit.top : unit.top + unit.rows, unit.left :]
            offsets = run_offsets(window, a_plane, a_row, a_column, True)
            length = terms // offsets.size
            parts = -(-length // ROWS)
            for row in range(unit.rows):
                runs[row, 0] = row * window[4] * a_row
                runs[row, 1] = row * unit.columns * BLOCK_BYTES
            for block in range(block_0, block_0 + n_blocks):
                lane, real = block * lanes, min(lanes, channels - block * lanes)
                fill_block(right, here[:, : unit.columns], lane, real)
                for part in range(offsets.size * parts):
                    run, (place, n) = part // parts, split(length, parts, part % parts)
                    c = sums[chunk, 0, block, run * length + place].ctypes.data
                    init, init_row = (c, BLOCK_BYTES) if number > unit_0 else (none.ctypes.data, 0)
                    tile_of_lanes(
                        n, start + offsets[run] + place * window[8] * a_column + lane * size,
                        window[8] * a_column, window[5] * a_column, right.ctypes.data,
                        BLOCK_BYTES, runs.ctypes.data, unit.rows, unit.columns, init, init_row, c,
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
