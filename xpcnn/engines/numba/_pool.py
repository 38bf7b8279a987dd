"""Pooling, channels last: an output gathers the box of entries that it reads, and is written once.

The gradients are gathered too, each input from the outputs that read it. So every verb is a walk
through boxes: along each axis a first entry, how many, and steps between them. Boxes are clipped to
what exists beforehand, and listed as offsets once for many outputs: no loop asks what is padding.

Arrays are (N, D, H, W, C) here; pooling of fewer axes has leading ones of size 1.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit, types

from ..._xp import Array, product
from ...window import Window
from .. import Divisor, generic
from ._arrays import channels_last, logical, new, spatial
from ._boxes import average, chosen, maximum, maximum_and_index
from ._jit import BOOL, INT, ints, kernel, read, takes, write
from ._threads import taken

TASKS = 16
"""Tasks into which a call is split at least, where it can be, so that every core finds some."""

LEAST_CHANNELS = 16
"""Channels that a task takes at least: with fewer, two cores would write into one cache line."""

FEW = 4
"""Channels below which NumPy, whose loops run through whole rows, is faster at stride 1."""

BOXES = types.Array(INT, 3, "C", readonly=True)
INDICES = types.Array(types.int64, 5, "A", readonly=True)
NEW_INDICES = types.Array(types.int64, 5, "A")


def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    if not (takes(x) and _lies_channels_last(x)) or (not indices and _has_few(x, window)):
        return NotImplemented
    x, y = spatial(x), new(len(x), window.out_size, x.shape[1], x.dtype)
    index = np.empty(y.shape if indices else (0,) * 5, np.int64)
    steps = _three(window.dilation)
    _maxima(_tasks(y), x, _reads(window), steps, _splits(y), indices, y, index)
    return logical(y, window.rank), logical(index, window.rank) if indices else None


def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    if not (takes(dy) and indices.dtype == np.int64 and _lies_channels_last(indices)):
        return NotImplemented
    dx = new(len(dy), window.in_size, dy.shape[1], dy.dtype)
    dy, indices = channels_last(spatial(dy)), spatial(indices)
    _choices(_tasks(dx), dy, indices, _readers(window), _splits(dx), dx)
    return logical(dx, window.rank)


def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    if not (takes(x) and _lies_channels_last(x)) or _has_few(x, window):
        return NotImplemented
    x, y = spatial(x), new(len(x), window.out_size, x.shape[1], x.dtype)
    steps = _three(window.dilation)
    _averages(_tasks(y), x, _reads(window), steps, _divisors(divisor, y), _splits(y), y)
    return logical(y, window.rank)


def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    if not (takes(dy) and _lies_channels_last(dy)) or _has_few(dy, window):
        return NotImplemented
    if product(window.dilation) > 1:
        return NotImplemented  # the outputs that read an input are then not side by side
    if not isinstance(divisor, int):
        dy, divisor = dy / generic.as_divisor(dy, divisor), 1
    dy, dx = channels_last(spatial(dy)), new(len(dy), window.in_size, dy.shape[1], dy.dtype)
    _averages(_tasks(dx), dy, _readers(window), (1, 1, 1), _divisors(divisor, dx), _splits(dx), dx)
    return logical(dx, window.rank)


def _lies_channels_last(x: Array) -> bool:
    return x.shape[1] > 1 and x.strides[1] == x.itemsize


def _has_few(x: Array, window: Window) -> bool:
    return x.shape[1] < FEW and window.stride[-1] == 1


def _three(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (*(1,) * (3 - len(sizes)), *sizes)


def _tasks(y: Array) -> int:
    return product(y.shape[:3]) * _splits(y) if y.size else 0


def _splits(y: Array) -> int:
    """Into how many parts the channels of an output row are split."""
    rows = max(1, product(y.shape[:3]))
    return min(-(-TASKS // rows), -(-y.shape[4] // LEAST_CHANNELS))


def _divisors(divisor: Divisor, y: Array) -> Array:
    """What divides along each axis: (3, longest)."""
    table = np.ones((3, max(y.shape[1:4])), y.dtype)
    if isinstance(divisor, int):
        table[2] = divisor
    else:
        for row, counts in zip(table[3 - len(divisor) :], divisor, strict=True):
            row[: len(counts)] = counts
    return table


@functools.lru_cache(maxsize=64)
def _reads(window: Window) -> Array:
    """Boxes of the inputs that outputs read, as in `_table`."""
    axes = []
    for axis in range(window.rank):
        size, step = window.in_size[axis], window.dilation[axis]
        start = np.arange(window.out_size[axis]) * window.stride[axis] - window.padding[axis][0]
        skipped = np.maximum(0, -(start // step))
        end = np.minimum(window.kernel[axis], -((start - size) // step))
        axes.append((start + skipped * step, end - skipped))
    return _table(axes)


@functools.lru_cache(maxsize=64)
def _readers(window: Window) -> Array:
    """Boxes of the outputs that read inputs, and with dilation of some between them."""
    axes = []
    for axis in range(window.rank):
        place = np.arange(window.in_size[axis]) + window.padding[axis][0]
        first = np.maximum(0, -((window.span[axis] - 1 - place) // window.stride[axis]))
        last = np.minimum(window.out_size[axis] - 1, place // window.stride[axis])
        axes.append((first, last - first + 1))
    return _table(axes)


def _table(axes: list[tuple[Array, Array]]) -> Array:
    """Boxes as (3, longest, 2): along each axis, each one's first entry, and how many it has."""
    table = np.zeros((3, max(len(firsts) for firsts, _ in axes), 2), np.intp)
    table[:, 0, 1] = 1
    for row, (firsts, counts) in zip(table[3 - len(axes) :], axes, strict=True):
        row[: len(firsts), 0], row[: len(firsts), 1] = firsts, np.maximum(0, counts)
    return table


@njit
def _task_at(task, splits, y):
    """(image, plane, row, first channel, number of channels) of a task."""
    row, split = task // splits, task % splits
    plane, channels = row // y.shape[2], y.shape[4]
    start, stop = channels * split // splits, channels * (split + 1) // splits
    return plane // y.shape[1], plane % y.shape[1], row % y.shape[2], start, stop - start


@njit
def _address(x, image, plane, row, channel):
    """Address of a row's first column."""
    start = x.ctypes.data + image * x.strides[0] + plane * x.strides[1]
    return start + row * x.strides[2] + channel * x.itemsize


@njit
def _room(boxes):
    """Room for two lists of offsets, and the counts of what each has listed."""
    most = boxes[0, :, 1].max() * boxes[1, :, 1].max() * boxes[2, :, 1].max()
    return np.empty((2, most, 2), np.intp), np.full((2, 3), -1)


@njit
def _is_listed(counts, known):
    slot = counts[2] & 1
    return (known[slot, 0], known[slot, 1], known[slot, 2]) == counts


@njit
def _entries(counts, lists):
    """How many entries a box has, and the address of their list."""
    return counts[0] * counts[1] * counts[2], lists.ctypes.data + (counts[2] & 1) * lists.strides[0]


@njit
def _list(counts, strides, places, lists, known):
    """List a box's entries, row by row, as pairs of offsets: into the list for even or odd columns.

    Two lists are kept, for beside each other boxes are mostly of two kinds, a column more or less.
    """
    slot, number = counts[2] & 1, 0
    known[slot, 0], known[slot, 1], known[slot, 2] = counts
    for d in range(counts[0]):
        for h in range(counts[1]):
            for w in range(counts[2]):
                lists[slot, number, 0] = d * strides[0] + h * strides[1] + w * strides[2]
                lists[slot, number, 1] = d * places[0] + h * places[1] + w * places[2]
                number += 1


@kernel(read(5), BOXES, ints(3), INT, BOOL, write(5), NEW_INDICES)
def _maxima(tasks, x, boxes, steps, splits, indexed, y, indices):
    """Maxima of boxes of x, and their places."""
    (lists, known), least = _room(boxes), y.dtype.type(-np.inf)
    _, _, height, width, _ = x.shape
    strides = x.strides[1] * steps[0], x.strides[2] * steps[1], x.strides[3] * steps[2]
    places = steps[0] * height * width, steps[1] * width, steps[2]
    for task in taken(tasks):
        image, d, h, channel, channels = _task_at(task, splits, y)
        plane, row = boxes[0, d, 0], boxes[1, h, 0]
        start = _address(x, image, plane, row, channel)
        y_start = _address(y, image, d, h, channel)
        index_start = _address(indices, image, d, h, channel)
        for w in range(y.shape[3]):
            counts, column = (boxes[0, d, 1], boxes[1, h, 1], boxes[2, w, 1]), boxes[2, w, 0]
            if not _is_listed(counts, known):
                _list(counts, strides, places, lists, known)
            count, entries = _entries(counts, lists)
            at, place = start + column * x.strides[3], (plane * height + row) * width + column
            to, index_to = y_start + w * y.strides[3], index_start + w * indices.strides[3]
            if indexed:
                maximum_and_index(channels, count, entries, at, place, least, to, index_to)
            else:
                maximum(channels, count, entries, at, place, least, to, index_to)


@kernel(read(5), INDICES, BOXES, INT, write(5))
def _choices(tasks, dy, indices, boxes, splits, dx):
    """Sums of those in boxes of dy that chose each place."""
    (lists, known), zero = _room(boxes), dx.dtype.type(0)
    strides, index_strides = dy.strides[1:4], indices.strides[1:4]
    for task in taken(tasks):
        image, d, h, channel, channels = _task_at(task, splits, dx)
        start = _address(dy, image, boxes[0, d, 0], boxes[1, h, 0], channel)
        index_start = _address(indices, image, boxes[0, d, 0], boxes[1, h, 0], channel)
        to, place = _address(dx, image, d, h, channel), (d * dx.shape[2] + h) * dx.shape[3]
        for w in range(dx.shape[3]):
            counts, column = (boxes[0, d, 1], boxes[1, h, 1], boxes[2, w, 1]), boxes[2, w, 0]
            if not _is_listed(counts, known):
                _list(counts, strides, index_strides, lists, known)
            count, entries = _entries(counts, lists)
            chosen(
                channels, count, entries, start + column * dy.strides[3],
                index_start + column * indices.strides[3], place + w, zero, to + w * dx.strides[3],
            )  # fmt: skip


@kernel(read(5), BOXES, ints(3), read(2), INT, write(5))
def _averages(tasks, x, boxes, steps, divisors, splits, y):
    """Sums of boxes of x, divided."""
    lists, known = _room(boxes)
    strides = x.strides[1] * steps[0], x.strides[2] * steps[1], x.strides[3] * steps[2]
    for task in taken(tasks):
        image, d, h, channel, channels = _task_at(task, splits, y)
        start = _address(x, image, boxes[0, d, 0], boxes[1, h, 0], channel)
        to = _address(y, image, d, h, channel)
        for w in range(y.shape[3]):
            counts = boxes[0, d, 1], boxes[1, h, 1], boxes[2, w, 1]
            if not _is_listed(counts, known):
                _list(counts, strides, strides, lists, known)
            count, entries = _entries(counts, lists)
            average(
                channels, count, entries, start + boxes[2, w, 0] * x.strides[3],
                divisors[0, d] * divisors[1, h] * divisors[2, w], to + w * y.strides[3],
            )  # fmt: skip
