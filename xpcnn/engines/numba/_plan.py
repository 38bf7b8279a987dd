"""How a direct convolution is laid out: units of outputs, blocks of channels, runs of terms."""

from __future__ import annotations

import functools
from math import prod
from typing import NamedTuple

import numpy as np
from numba import njit

from ..._xp import Array
from ._bands import Geometry, band_shape, units_of
from ._threads import threads
from ._tile import BLOCK_BYTES

BAND = 2**18
"""Bytes of input that a task opens at once: with the weights of a block, a core's own cache."""

CHUNKS = 16
"""Parts of the batch, at most, that sum a weight gradient apart: so many that each thread finds
some, but however many threads there are, so that the result does not depend on the machine."""

CHUNK = 512
"""Outputs that a chunk has at least: with fewer, adding up the chunks would take too much."""

SUMS = 2**21
"""Bytes that the chunks' sums of a weight gradient may take, unless one alone takes more."""


class Plan(NamedTuple):
    """How a convolution is laid out: `channels` and `per_group` in and out, of each group.

    Channels `apart` are one group, whose lanes do not meet. A block has so many `lanes`, a unit so
    many `rows` and `columns` of outputs at most, and reads its input `in_place` or in a band.
    """

    apart: bool
    groups: int
    channels: int
    per_group: int
    lanes: int
    blocks: int
    terms: int
    in_place: bool
    rows: int
    columns: int
    units: int


def plan_of(x: Array, w: Array, window: Geometry, out: tuple, pixels: int) -> Plan:
    """The plan for outputs of shape `out` (N, OD, OH, OW, O), at most so many `pixels` a unit."""
    return _plan(x.shape, x.strides, x.itemsize, w.shape, window, out, pixels)


@functools.lru_cache(maxsize=1024)
def _plan(
    shape: tuple, strides: tuple, itemsize: int, weights: tuple, window: Geometry, out: tuple,
    pixels: int,
) -> Plan:  # fmt: skip
    groups, per_group, channels = weights[:3]
    apart = groups > 1 and per_group == channels == 1
    if apart:
        groups, per_group, channels = 1, groups, groups
    lanes = BLOCK_BYTES // itemsize
    in_place = strides[4] == itemsize and not _reads_padding(window, shape, out)
    rows, columns = _unit_size(window, out, channels * itemsize, pixels)
    units = units_of.py_func(out, rows, columns)
    return Plan(
        apart, groups, channels, per_group, lanes, -(-per_group // lanes),
        prod(window[:3]) * (1 if apart else channels), in_place, rows, columns, units,
    )  # fmt: skip


def _unit_size(window: Geometry, out: tuple, pixel: int, pixels: int) -> tuple[int, int]:
    """Rows and columns of a unit: whole rows, if one fits both limits, or else a part of one."""
    _, _, read, _ = band_shape.py_func(window, 1, out[3], 1)
    rows = min(BAND // (read * pixel * window[4]), pixels // out[3])
    if rows:
        return _evenly(out[2], rows), out[3]
    return 1, _evenly(out[3], max(1, min(BAND // (pixel * window[5]), pixels)))


def _evenly(count: int, most: int) -> int:
    """So many of `count` things at most that no part of them is much smaller than the others."""
    return -(-count // -(-count // most))


def _reads_padding(window: Geometry, x_shape: tuple, out: tuple) -> bool:
    kernel, stride, dilation, before = (window[i : i + 3] for i in (0, 3, 6, 9))
    last = [
        (o - 1) * s + d * (k - 1) - b
        for k, s, d, b, o in zip(kernel, stride, dilation, before, out[1:4], strict=True)
    ]
    return max(before) > 0 or any(n >= size for n, size in zip(last, x_shape[1:4], strict=True))


def is_product(window: Geometry, x: Array, y: Array) -> bool:
    """Whether y is a product of matrices: of a kernel of one place, without stride or padding."""
    return window[:6] == (1,) * 6 and window[9:] == (0, 0, 0) and x.shape[1:4] == y.shape[1:4]


def weights_of(w: Array, plan: Plan) -> Array:
    """w (G, O/G, C/G, KD, KH, KW) as the plan has it: channels apart are outputs of one group."""
    return np.swapaxes(w, 0, 1) if plan.apart else w


def splits_of(blocks: int, parts: int) -> int:
    """In how many splits the blocks make enough tasks of the parts for all threads."""
    return min(blocks, -(-2 * threads() // parts))


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
