"""Arrays as passes take them: alike, and without gaps in memory; and the numbers beside them."""

from __future__ import annotations

import math
from typing import Any

from ..._xp import Array
from ...window import Ints
from ._arrays import TYPES, is_channels_last, wider
from ._runner import Runner


def alike(first: Array, *others: Array) -> bool:
    """Whether arrays have one shape, and one dtype that the kernels know."""
    return str(first.dtype) in TYPES and all(
        x.shape == first.shape and x.dtype == first.dtype for x in others
    )


def kind(x: Array) -> str:
    """The kernels' name of x's dtype."""
    return TYPES[str(x.dtype)]


def computed(x: Array) -> type:
    """The type of the numbers that kernels compute x in."""
    return wider(x.dtype).type


def numbers(x: Array, *given: float) -> tuple[Any, ...]:
    """Numbers as the kernels take them beside x."""
    return tuple(map(computed(x), given))


def bound(value: float | None) -> float:
    """No bound is NaN."""
    return math.nan if value is None else value


def rows_first(ndim: int) -> Ints:
    """The axes of row-major memory."""
    return tuple(range(ndim))


def channels_last(ndim: int) -> Ints:
    """The axes as they lie where channels are last."""
    return (*range(ndim)[:1], *range(ndim)[2:], *range(ndim)[1:2])


def memory_order(x: Array) -> Ints:
    """The axes of x as they lie in memory without gaps, or as they are to lie in a copy."""
    rows = rows_first(x.ndim)
    if x.flags.c_contiguous:
        return rows
    order = tuple(sorted(rows, key=lambda axis: -x.strides[axis]))
    if x.transpose(order).flags.c_contiguous:
        return order
    return channels_last(x.ndim) if x.ndim > 2 and is_channels_last(x) else rows


def laid(x: Array, order: Ints) -> Array:
    """x with its axes in that order, copied unless they lie so without gaps."""
    turned = x.transpose(order)
    return turned if turned.flags.c_contiguous else turned.copy()


def empty(runner: Runner, x: Array, order: Ints) -> Array:
    """A new array like x, whose axes lie in memory in that order."""
    memory = runner.empty(tuple(x.shape[axis] for axis in order), x.dtype)
    return memory.transpose(*sorted(rows_first(x.ndim), key=order.__getitem__))
