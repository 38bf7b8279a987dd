"""Sums over all but channels, and batch normalisation: once over memory for each sum and result.

A channel's numbers are shared out among blocks, enough of them to keep a device busy, by rules that
look at sizes alone: the same call gives the same bits on every device. What is per channel is
float32, float64 for float64, the results too: whoever wants half precision rounds them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..._xp import Array, product
from ...window import Ints
from .. import Bounds
from ._arrays import (
    address,
    alike,
    channels_last,
    empty,
    is_channels_last,
    kind,
    laid,
    rows_first,
    wider,
)  # fmt: skip
from ._geometry import DIVIDER, divider
from ._launch import BLOCK, GRID_Y, Launch
from ._passes import bounds_of
from ._runner import Runner, verb
from ._table import PACK

BLOCKS = 2048
"""Blocks that keep a device busy."""

WIDEST = 64
"""Columns of a block at most, where channels are last."""

LEAST, MOST = 4, 64
"""Units of a thread: not fewer, if there are so many, for the sake of more blocks, and not more."""

LEAST_SHARE = 64
"""Units of a share at least, for its sums are written and read again."""

LIMIT = 2**30
"""What an int counts safely: threads look some units beyond the last."""

CHANNELS = np.dtype(
    [
        ("columns", "i4"), ("units", "i4"), ("plane", DIVIDER), ("next", "i4"), ("skipped", "i4"),
        ("apart", "i4"), ("width", "i4"), ("share", "i4"),
    ]
)  # fmt: skip
"""kernels/channels.cuh's Channels."""


OPTIONS = {
    number: np.dtype(
        [
            *((name, number) for name in ("eps", "low", "high", "count")),
            ("has_weight", "i4"), ("has_bias", "i4"),
        ],
        align=True,
    )
    for number in (np.dtype("float32"), np.dtype("float64"))
}  # fmt: skip
"""kernels/batch_norm.cu's Options."""


class Plan(NamedTuple):
    """How blocks lie over channels: `tiles` of columns, and `shares` of each."""

    lanes: int
    last: bool
    tiles: int
    shares: int
    geometry: np.ndarray

    def launch(self, kernel: str, *arguments: Any) -> Launch:
        """A launch of the kernel that is instantiated with the plan's lanes: "name<types".

        >>> _plan(2, 3, 4, 1, True).launch("batch_norm_moments<float").name
        'batch_norm_moments<float, 1, true>'
        """
        return self.launch_named(f"{kernel}, {self.lanes}, {str(self.last).lower()}>", *arguments)

    def launch_named(self, name: str, *arguments: Any) -> Launch:
        """A launch of the kernel of that name."""
        arguments = (*arguments, self.geometry)
        return Launch(name, (self.tiles, self.shares, 1), (BLOCK, 1, 1), 0, arguments)


@verb
def channel_sums(runner: Runner, x: Array) -> Array:
    if not _takes(x):
        return NotImplemented
    order = _order(x)
    given = laid(x, order)
    plan = _plan_of(x, order, given)
    sums = runner.empty((plan.shares, x.shape[1]), wider(x.dtype))
    runner.launch(plan.launch(f"channel_sums<{kind(x.dtype)}, {kind(sums.dtype)}", given, sums))
    return _added(runner, sums, x.dtype)


@verb
def batch_norm(
    runner: Runner, x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None,
    eps: float, bounds: Bounds | None = None,
) -> Array:  # fmt: skip
    if not _takes(x, mean, var, weight, bias):
        return NotImplemented
    order = _order(x)
    vectors, options = _vectors(x, mean, var, weight, bias), _options(x, weight, bias, eps, bounds)
    return _normalise(runner, laid(x, order), x, order, vectors, options)


@verb
def batch_norm_train(
    runner: Runner, x: Array, weight: Array | None, bias: Array | None, eps: float,
    bounds: Bounds | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if not _takes(x, weight, bias):
        return NotImplemented
    order = _order(x)
    given = laid(x, order)
    mean, var = _moments(runner, given, x, order)
    vectors, options = _vectors(x, mean, var, weight, bias), _options(x, weight, bias, eps, bounds)
    return _normalise(runner, given, x, order, vectors, options), mean, var


@verb
def batch_norm_train_dx(
    runner: Runner, dy: Array, x: Array, mean: Array, var: Array, weight: Array | None,
    bias: Array | None, eps: float, bounds: Bounds | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if not _takes(x, mean, var, weight, bias) or not alike(dy, x):
        return NotImplemented
    order, channels = _order(x), x.shape[1]
    given, dx = (laid(dy, order), laid(x, order)), empty(runner, x.shape, order, x.dtype)
    plan = _plan_of(x, order, *given, dx)
    per_channel = *_vectors(x, mean, var, weight, bias), _options(x, weight, bias, eps, bounds)
    sums = runner.empty((plan.shares, 2 * channels), wider(x.dtype))
    runner.launch(plan.launch(f"batch_norm_sums<{kind(x.dtype)}", *given, sums, *per_channel))
    sums = _added(runner, sums, sums.dtype)
    runner.launch(
        plan.launch(f"batch_norm_gradient<{kind(x.dtype)}", *given, dx, sums, *per_channel)
    )
    return dx, sums[channels:], sums[:channels]


def _takes(x: Array, *vectors: Array | None) -> bool:
    """Whether there is anything to do, which ints can count, and the vectors are x's."""
    kinds = x.dtype, wider(x.dtype)
    return (
        alike(x)
        and x.size > 0
        and max(x.shape[1], x.size // x.shape[1], x.size // x.shape[0]) < LIMIT
        and all(v is None or (v.dtype in kinds and v.shape == x.shape[1:2]) for v in vectors)
    )


def _order(x: Array) -> Ints:
    """The axes as they are to lie: channels last if x has them so, or might as well; else first."""
    last = channels_last(x.ndim)
    if x.shape[1] > 1 and x.transpose(last).flags.c_contiguous:
        return last
    return last if is_channels_last(x) and not x.flags.c_contiguous else rows_first(x.ndim)


def _vectors(x: Array, mean: Array, *others: Array | None) -> tuple[Array, ...]:
    """Vectors as the kernels take them; the mean stands in for what is not there."""
    given = (mean if v is None else v for v in (mean, *others))
    return tuple(laid(v.astype(wider(x.dtype), copy=False), (0,)) for v in given)


def _options(
    x: Array, weight: Array | None, bias: Array | None, eps: float, bounds: Bounds | None
) -> np.ndarray:
    low, high = bounds_of(*(bounds or (None, None)))
    count = x.size // x.shape[1]
    values = eps, low, high, count, weight is not None, bias is not None
    return np.array([values], OPTIONS[wider(x.dtype)])


def _normalise(
    runner: Runner, given: Array, x: Array, order: Ints, vectors: tuple[Array, ...],
    options: np.ndarray,
) -> Array:  # fmt: skip
    """x, which `given` is in that order of memory, by the vectors."""
    y = empty(runner, x.shape, order, x.dtype)
    plan = _plan_of(x, order, given, y)
    runner.launch(plan.launch(f"batch_norm<{kind(x.dtype)}", given, y, *vectors, options))
    return y


def _moments(runner: Runner, given: Array, x: Array, order: Ints) -> tuple[Array, Array]:
    """Mean and variance of each channel."""
    plan, channels = _plan_of(x, order, given), x.shape[1]
    moments = runner.empty((plan.shares, channels, 4), wider(x.dtype))
    runner.launch(plan.launch(f"batch_norm_moments<{kind(x.dtype)}", given, moments))
    mean, var = (runner.empty((channels,), wider(x.dtype)) for _ in range(2))
    merging, name = _merging(plan.shares, channels), f"batch_norm_merge<{kind(moments.dtype)}>"
    runner.launch(merging.launch_named(name, moments, mean, var))
    return mean, var


def _added(runner: Runner, parts: Array, dtype: Any) -> Array:
    """The sums of columns of a matrix, as this dtype."""
    if len(parts) == 1 and parts.dtype == dtype:
        return parts[0]
    sums = runner.empty(parts.shape[1:], dtype)
    types = f"{kind(parts.dtype)}, {kind(dtype)}"
    runner.launch(_merging(*parts.shape).launch(f"channel_sums<{types}", parts, sums))
    return sums


def _plan_of(x: Array, order: Ints, *given: Array) -> Plan:
    """The plan for x in that order of memory, as all of `given` are."""
    packs = PACK // x.itemsize if all(address(a) % PACK == 0 for a in given) else 1
    n, channels, *space = x.shape
    return _plan(n, channels, product(space), packs, order == channels_last(x.ndim))


@lru_cache(maxsize=1024)
def _plan(n: int, channels: int, space: int, packs: int, last: bool) -> Plan:
    """The plan for x (N, C, S), in packs where they fit."""
    lanes = packs if (channels if last else space) % packs == 0 else 1
    columns, plane = (channels // lanes, n * space) if last else (channels, space // lanes)
    units = plane if last else n * plane
    most = WIDEST if last else max(1, BLOCK // units)
    width = -(-columns // -(-columns // most))
    rows, tiles = BLOCK // width, -(-columns // width)
    shares = max(-(-BLOCKS // tiles), -(-units // (MOST * rows)))
    shares = min(shares, -(-units // max(LEAST * rows, LEAST_SHARE)), GRID_Y)
    share = -(-units // (shares * rows)) * rows
    steps = (columns, 0, 1) if last else (1, (channels - 1) * plane, plane)
    numbers = columns, units, divider(plane, "int"), *steps, width, share
    return Plan(lanes, last or lanes == 1, tiles, -(-units // share), np.array([numbers], CHANNELS))


@lru_cache(maxsize=1024)
def _merging(shares: int, channels: int) -> Plan:
    """The plan for what shares have found, (J, C), in one share."""
    width = min(channels, BLOCK // 8)
    numbers = channels, shares, divider(shares, "int"), channels, 0, 1, width, shares
    return Plan(1, True, -(-channels // width), 1, np.array([numbers], CHANNELS))
