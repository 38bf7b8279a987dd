"""Sums over all but channels, and batch normalisation, in two passes over memory.

x lies in memory as *runs*, along which the channels repeat with a *period*: where channels are
last, all of x is one run of period C; where they come first, each plane is a run of period 1. A run
is cut into *pieces* that a core's own cache holds, a piece into rows of *lanes*, some periods long,
which fill vectors. What the rows of a piece add up to is added in float64, in a fixed order.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import types

from ..._xp import Array, product
from .. import Bounds
from ._arrays import room
from ._jit import INT, kernel
from ._jit import number as entry
from ._passes import bound, flat, flat_out, flatten, memory_order, new, part, takes_many
from ._threads import taken

PIECE = 2**15
"""Entries of a piece."""

LANES = 2**8
"""Lanes of a row, unless there are more channels."""

LEAST_ROWS = 8
"""Rows of a piece at least."""


class Grid(NamedTuple):
    """How many entries there are of each."""

    run: int
    piece: int
    lanes: int
    period: int


GRID = types.NamedUniTuple(INT, len(Grid._fields), Grid)

SUMS = types.Array(types.float64, 2, "C")
"""The type of the sums of pieces: (pieces of all runs, period)."""


def table(number: types.Float) -> types.Array:
    """The type of a few numbers for each channel: (numbers, C)."""
    return types.Array(number, 2, "C", readonly=True)


def channel_sums(x: Array) -> Array:
    if not takes_many(x):
        return NotImplemented
    order = memory_order(x)
    grid = _grid(x, order)
    sums = _sums(x, grid)
    _add(len(sums), flatten(x, order), grid, sums)
    return _by_channel(sums, x, grid).sum(axis=0).astype(x.dtype)


def batch_norm(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float,
    bounds: Bounds | None = None,
) -> Array:  # fmt: skip
    if not takes_many(x, mean, var, weight, bias):
        return NotImplemented
    order = memory_order(x)
    grid = _grid(x, order)
    y, out = new(x, order)
    numbers = _table(x, mean, _scale(var, weight, eps), 0.0 if bias is None else bias)
    _normalise(_pieces(x, grid), flatten(x, order), grid, numbers, *_limits(bounds), out)
    return y


def batch_norm_train(
    x: Array, weight: Array | None, bias: Array | None, eps: float, bounds: Bounds | None = None
) -> tuple[Array, Array, Array]:
    if not takes_many(x, weight, bias):
        return NotImplemented
    order = memory_order(x)
    grid = _grid(x, order)
    means, squares = _sums(x, grid), _sums(x, grid)
    _moments(len(means), flatten(x, order), grid, means, squares)
    counts = _counts(grid, x.size // x.shape[1])
    moments = _pooled(_by_channel(means, x, grid), _by_channel(squares, x, grid), counts)
    mean, var = (a.astype(x.dtype) for a in moments)
    return batch_norm(x, mean, var, weight, bias, eps, bounds), mean, var


def batch_norm_train_dx(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None,
    eps: float, bounds: Bounds | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if not takes_many(dy, x, mean, var, weight, bias):
        return NotImplemented
    order = memory_order(x)
    grid, count = _grid(x, order), x.size // x.shape[1]
    inverse, shift = _scale(var, None, eps), 0.0 if bias is None else bias
    scale = inverse if weight is None else weight * inverse
    numbers = _table(x, mean, scale, shift, 0.0, 0.0)
    given = flatten(dy, order), flatten(x, order), grid, numbers, *_limits(bounds)
    sums, products = _sums(x, grid), _sums(x, grid)
    _correlate(len(sums), *given, sums, products)
    dbias, along = (_by_channel(a, x, grid).sum(axis=0) for a in (sums, products))
    dweight = inverse * along
    numbers[3], numbers[4] = dbias / count, inverse * dweight / count
    dx, out = new(x, order)
    _project(len(sums), *given, out)
    return dx, dweight.astype(x.dtype), dbias.astype(x.dtype)


def _limits(bounds: Bounds | None) -> tuple[float, float]:
    """The bounds as kernels take them."""
    low, high = bounds or (None, None)
    return bound(low), bound(high)


def _scale(var: Array, weight: Array | None, eps: float) -> Array:
    inverse = 1.0 / np.sqrt(var + eps)
    return inverse if weight is None else weight * inverse


def _grid(x: Array, order: tuple[int, ...]) -> Grid:
    run, period = (x.size, x.shape[1]) if order[-1] == 1 else (product(x.shape[2:]), 1)
    lanes = period * max(1, min(LANES, run) // period)
    return Grid(run, lanes * max(LEAST_ROWS, PIECE // lanes), lanes, period)


def _pieces(x: Array, grid: Grid) -> int:
    return x.size // grid.run * -(-grid.run // grid.piece)


def _sums(x: Array, grid: Grid) -> Array:
    return np.empty((_pieces(x, grid), grid.period))


def _by_channel(sums: Array, x: Array, grid: Grid) -> Array:
    """The sums (pieces of all runs, period) as (so many of each channel, C)."""
    channels = x.shape[1]
    apart = sums.reshape(-1, channels // grid.period, -(-grid.run // grid.piece), grid.period)
    return apart.swapaxes(1, 2).reshape(-1, channels)


@functools.lru_cache(maxsize=64)
def _counts(grid: Grid, count: int) -> Array:
    """How many of a channel's `count` entries there are in each row of `_by_channel`: (rows, 1)."""
    left = grid.run - np.arange(0, grid.run, grid.piece)
    counts = np.minimum(grid.piece, left) // grid.period
    return np.tile(counts, count * grid.period // grid.run)[:, None]


def _table(x: Array, *numbers: Array | float) -> Array:
    """A few numbers for each channel, or one for all: (numbers, C) of x's dtype."""
    table = np.empty((len(numbers), x.shape[1]), x.dtype)
    for row, number in zip(table, numbers, strict=True):
        row[...] = number
    return table


def _pooled(means: Array, squares: Array, counts: Array) -> tuple[Array, Array]:
    """Mean and variance of all, of parts' means and sums of squares around them.

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
    """
    count = counts.sum()
    mean = (counts * means).sum(axis=0) / count
    away = means - mean
    return mean, (squares + counts * away * away).sum(axis=0) / count


@kernel(flat, GRID, SUMS)
def _add(tasks, x, grid, sums):
    totals = room((grid.lanes,), x.dtype)
    for number in taken(tasks):
        _, start, stop = _piece(number, grid)
        _add_rows(x[start:stop], totals)
        _fold(totals, sums[number])


@kernel(flat, GRID, SUMS, SUMS)
def _moments(tasks, x, grid, means, squares):
    totals, middle = room((grid.lanes,), x.dtype), room((1, grid.lanes), x.dtype)
    for number in taken(tasks):
        _, start, stop = _piece(number, grid)
        _add_rows(x[start:stop], totals)
        _fold(totals, means[number])
        for channel in range(grid.period):
            means[number, channel] /= (stop - start) // grid.period
        _lay(means[number : number + 1], 0, grid, middle)
        _add_squares(x[start:stop], middle[0], totals)
        _fold(totals, squares[number])


@kernel(flat, GRID, table, entry, entry, flat_out)
def _normalise(tasks, x, grid, numbers, low, high, y):
    lanes, laid = room((3, grid.lanes), x.dtype), -1
    for number in taken(tasks):
        run, start, stop = _piece(number, grid)
        if run != laid:
            _lay(numbers, run, grid, lanes)
            laid = run
        _scale_rows(x[start:stop], lanes[0], lanes[1], lanes[2], low, high, y[start:stop])


@kernel(flat, flat, GRID, table, entry, entry, SUMS, SUMS)
def _correlate(tasks, dy, x, grid, numbers, low, high, sums, products):
    lanes, totals = room((3, grid.lanes), x.dtype), room((2, grid.lanes), x.dtype)
    kept, laid = room((grid.piece,), x.dtype), -1
    for number in taken(tasks):
        run, start, stop = _piece(number, grid)
        if run != laid:
            _lay(numbers, run, grid, lanes)
            laid = run
        x_piece, dy_piece = x[start:stop], dy[start:stop]
        if not np.isnan(low):
            dy_piece = _keep_rows(dy_piece, x_piece, lanes[0], lanes[1], lanes[2], low, high, kept)
        _add_products(dy_piece, x_piece, lanes[0], totals[0], totals[1])
        _fold(totals[0], sums[number])
        _fold(totals[1], products[number])


@kernel(flat, flat, GRID, table, entry, entry, flat_out)
def _project(tasks, dy, x, grid, numbers, low, high, dx):
    lanes, kept, laid = room((5, grid.lanes), x.dtype), room((grid.piece,), x.dtype), -1
    for number in taken(tasks):
        run, start, stop = _piece(number, grid)
        if run != laid:
            _lay(numbers, run, grid, lanes)
            laid = run
        x_piece, dy_piece = x[start:stop], dy[start:stop]
        if not np.isnan(low):
            dy_piece = _keep_rows(dy_piece, x_piece, lanes[0], lanes[1], lanes[2], low, high, kept)
        _project_rows(dy_piece, x_piece, lanes, dx[start:stop])


@part
def _piece(number, grid):
    """The run that a piece is of, and its entries, from start to stop."""
    pieces = -(-grid.run // grid.piece)
    run = number // pieces
    start = run * grid.run + number % pieces * grid.piece
    return run, start, min(start + grid.piece, (run + 1) * grid.run)


@part
def _lay(numbers, run, grid, lanes):
    """Set lanes (numbers, lanes) to the numbers (numbers, C) of the channels in a run."""
    first = run * grid.period % numbers.shape[1]
    for kind in range(len(lanes)):
        for start in range(0, grid.lanes, grid.period):
            for channel in range(grid.period):
                lanes[kind, start + channel] = numbers[kind, first + channel]


@part
def _fold(totals, sums):
    """Add what lanes hold of each channel."""
    sums[:] = 0
    for start in range(0, len(totals), len(sums)):
        for channel in range(len(sums)):
            sums[channel] += totals[start + channel]


@part
def _add_rows(x, totals):
    totals[:] = 0
    for start in range(0, len(x), len(totals)):
        row = x[start : start + len(totals)]
        for lane in range(len(row)):
            totals[lane] += row[lane]


@part
def _add_squares(x, middle, totals):
    totals[:] = 0
    for start in range(0, len(x), len(totals)):
        row = x[start : start + len(totals)]
        for lane in range(len(row)):
            totals[lane] += (row[lane] - middle[lane]) ** 2


@part
def _add_products(dy, x, middle, sums, products):
    sums[:] = 0
    products[:] = 0
    for start in range(0, len(x), len(sums)):
        row, row_x = dy[start : start + len(sums)], x[start : start + len(sums)]
        for lane in range(len(row)):
            sums[lane] += row[lane]
            products[lane] += row[lane] * (row_x[lane] - middle[lane])


@part
def _scale_rows(x, mean, scale, shift, low, high, y):
    for start in range(0, len(x), len(mean)):
        row, row_y = x[start : start + len(mean)], y[start : start + len(mean)]
        for lane in range(len(row)):
            value = (row[lane] - mean[lane]) * scale[lane] + shift[lane]
            value = low if value < low else value
            row_y[lane] = high if value > high else value


@part
def _keep_rows(dy, x, mean, scale, shift, low, high, kept):
    """dy * 1 where the bounds left alone what `_scale_rows` made of x, dy * 0 elsewhere."""
    one, zero = dy.dtype.type(1), dy.dtype.type(0)
    for start in range(0, len(x), len(mean)):
        end = start + len(mean)
        row, row_x, row_kept = dy[start:end], x[start:end], kept[start:end]
        for lane in range(len(row)):
            y = (row_x[lane] - mean[lane]) * scale[lane] + shift[lane]
            row_kept[lane] = row[lane] * (one if low < y and not y >= high else zero)
    return kept[: len(x)]


@part
def _project_rows(dy, x, lanes, dx):
    mean, scale, level, slope = lanes[0], lanes[1], lanes[3], lanes[4]
    for start in range(0, len(x), len(mean)):
        end = start + len(mean)
        row, row_x, row_dx = dy[start:end], x[start:end], dx[start:end]
        for lane in range(len(row)):
            away = (row_x[lane] - mean[lane]) * slope[lane]
            row_dx[lane] = (row[lane] - level[lane] - away) * scale[lane]
