"""Direct convolution: bands of rows, multiplied tile by tile with packed weights. No columns.

In a band with channels last, what an output reads along a kernel row lies side by side: KW*C
numbers, a *run*. A convolution is a sum over its runs of products of matrices whose rows overlap,
which no BLAS multiplies, and a tile does. Depthwise (`apart`), lanes are channels of both sides.

Arrays are (N, D, H, W, C) here, weights (G, O/G, C/G, KD, KH, KW), windows as in `_bands`.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numba import njit

from ..._xp import Array
from .._lines import LINE, empty, zeros
from ._arrays import room
from ._bands import Geometry, band_shape, open_band, unit_at
from ._jit import BOOL, INT, ints, kernel, read, write
from ._packing import pack
from ._plan import BAND, is_product, plan_of, run_offsets, split, splits_of, weights_of
from ._threads import taken
from ._tile import BLOCK_BYTES, LONG, tile_ahead, tile_of_lanes
from ._vectors import ROWS

RESULTS = 2**19
"""Bytes of outputs that a task writes, all channels of a few, before it goes on to the next."""


def forward(x: Array, w: Array, b: Array | None, window: Geometry, y: Array) -> None:
    """Set y (N, OD, OH, OW, O) to the convolution of x (N, D, H, W, C) with w, plus b (O,)."""
    small = prod(x.shape[1:]) * x.itemsize <= BAND
    if small and is_product(window, x, y) and x.flags.c_contiguous and y.flags.c_contiguous:
        x, y = (a.reshape(len(a), 1, 1, -1, a.shape[-1]) for a in (x, y))  # one long row
    pixels = ROWS * max(1, RESULTS // (ROWS * y.shape[4] * y.itemsize))
    plan = plan_of(x, w, window, y.shape, pixels)
    packed = empty((plan.groups, plan.blocks, plan.terms, plan.lanes), x.dtype)
    pack(plan.groups * plan.blocks, weights_of(w, plan), packed)
    bias = zeros((plan.groups, plan.blocks * plan.lanes), x.dtype)
    if b is not None:
        bias[:, : plan.per_group] = b.reshape(plan.groups, plan.per_group)
    parts = plan.units * plan.groups
    splits = splits_of(plan.blocks, parts)
    convolve(
        parts * splits, x, packed, bias, y, window, plan.channels, plan.per_group, plan.rows,
        plan.columns, splits, plan.apart, plan.in_place,
    )  # fmt: skip


@kernel(read(5), read(4), read(2), write(5), ints(12), INT, INT, INT, INT, INT, BOOL, BOOL)
def convolve(
    tasks, x, packed, bias, y, window, channels, per_group, rows, columns, splits, apart,
    in_place,
):  # fmt: skip
    """y (N, OD, OH, OW, O) from x (N, D, H, W, C): tasks are units, groups, splits of O."""
    groups, blocks, terms, lanes = packed.shape
    size = x.itemsize
    shape = band_shape(window, rows, columns, 0 if in_place else channels)
    band = room(shape, x.dtype)
    for task in taken(tasks):
        group = task // splits % groups
        unit = unit_at(task // (splits * groups), y.shape, rows, columns)
        start, a_plane, a_row, a_column = open_band(
            band, x, window, unit, group * channels, in_place
        )
        merged = apart or (a_column == channels * size and window[8] == 1)
        offsets = run_offsets(window, a_plane, a_row, a_column, merged)
        length = terms // offsets.size
        runs = np.empty((offsets.size, 2), np.intp)
        for run in range(offsets.size):
            runs[run, 0], runs[run, 1] = offsets[run], run * length * BLOCK_BYTES
        steps = window[4] * a_row, window[5] * a_column, window[8] * a_column if apart else size
        block_0, n_blocks = split(blocks, splits, task % splits)
        for block in range(block_0, block_0 + n_blocks):
            channel = group * per_group + block * lanes
            multiply(
                apart, unit, start + (block * BLOCK_BYTES if apart else 0), steps,
                packed[group, block].ctypes.data, runs, length,
                bias[group, block * lanes :].ctypes.data, y[unit.image, unit.plane, :, :, channel:],
                min(lanes, per_group - block * lanes),
            )  # fmt: skip


@njit
def multiply(apart, unit, a, steps, b, runs, length, bias, y, real):
    """Set a unit of y (OH, OW, lanes) to a band's runs times a block's weights.

    `steps` are bytes in the band from output to output, down and across, and from term to term.
    Each product asks for a line beyond what its tile reads, where the next tile mostly goes on.
    """
    down, across, step = steps
    zero = y.dtype.type(0)
    tiles, stretches = -(-unit.columns // ROWS), 1 if apart else -(-length // LONG)
    pieces = -(-len(runs) // max(1, LONG // length))
    for piece in range(pieces):
        first_run, n_runs = split(len(runs), pieces, piece)
        runs_here = runs[first_run:].ctypes.data
        for tile in range(unit.rows * tiles):
            row, (column, n) = tile // tiles, split(unit.columns, tiles, tile % tiles)
            a_here = a + row * down + column * across
            c = y[unit.top + row, unit.left + column :].ctypes.data
            for stretch in range(stretches):
                term, n_terms = split(length, stretches, stretch)
                init, init_row = (c, y.strides[1]) if piece + stretch else (bias, 0)
                if apart:
                    tile_of_lanes(
                        n, a_here, across, step, b, BLOCK_BYTES, runs_here, n_runs, n_terms, init,
                        init_row, c, y.strides[1], real, zero,
                    )  # fmt: skip
                else:
                    tile_ahead(
                        n, a_here + term * step, across, step, b + term * BLOCK_BYTES, BLOCK_BYTES,
                        runs_here, n_runs, n_terms, init, init_row, c, y.strides[1], real, zero,
                        a_here + n * across + term * LINE, LINE,
                    )  # fmt: skip
