"""Where arrays lie: their numbers by the kernels' names, addresses, strides, and orders of axes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..._xp import Array, library
from ...window import Ints
from ._runner import Runner
from ._table import PACK, WORDS

TYPES = {"float16": "half", "bfloat16": "bfloat16", "float32": "float", "float64": "double"}
"""The kernels' names of dtypes."""

COPIED = {size: name for name, size in WORDS.items()}
"""The kernels' names of numbers that are only copied, by their size in bytes."""


@cache
def kind(dtype: Any) -> str | None:
    """The kernels' name of a dtype; None where they do not know it."""
    return TYPES.get(str(dtype))


@cache
def wider(dtype: Any) -> np.dtype:
    """In which numbers kernels compute with a dtype: float32 at least."""
    return np.dtype("float64" if str(dtype) == "float64" else "float32")


def takes(*arrays: Array) -> bool:
    """Whether the kernels know the arrays' dtype, and their elements lie whole steps apart."""
    return all(kind(x.dtype) is not None and _has_steps(x) for x in arrays)


def copies(x: Array) -> bool:
    """Whether the kernels can copy the array's elements, whatever they are."""
    return x.itemsize in COPIED and _has_steps(x)


def _has_steps(x: Array) -> bool:
    return all(stride % x.itemsize == 0 for stride in x.strides)


def address(x: Array) -> int:
    """Where the first element lies."""
    return x.data.ptr if library(x) == "cupy" else x.ctypes.data


def strides(x: Array, lanes: int = 1) -> Ints:
    """Strides (n, c, d, h, w) in packs of `lanes` channels; 0 along the axes that x lacks."""
    step = lanes * x.itemsize
    n, _, *space = (stride // step for stride in x.strides)
    channel = 1 if lanes > 1 else x.strides[1] // x.itemsize
    return (n, channel, *(0,) * (3 - len(space)), *space)


def lanes(first: Array, *others: Array) -> int:
    """How many neighbouring channels may be read at once in all arrays: 16 bytes of them, or 1."""
    most = PACK // first.itemsize
    return most if all(_is_packed(x, most) for x in (first, *others)) else 1


def _is_packed(x: Array, most: int) -> bool:
    step = most * x.itemsize
    apart = (stride for axis, stride in enumerate(x.strides) if axis != 1 and x.shape[axis] > 1)
    return (
        x.shape[1] % most == 0
        and x.strides[1] == x.itemsize
        and address(x) % step == 0
        and all(stride % step == 0 for stride in apart)
    )


def is_channels_last(x: Array) -> bool:
    """Whether neighbouring channels are nearer to each other in memory than anything else."""
    apart = [
        abs(stride) for axis, stride in enumerate(x.strides) if axis != 1 and x.shape[axis] > 1
    ]
    return x.shape[1] > 1 and bool(apart) and abs(x.strides[1]) < min(apart)


# ---------------------------------------------------------------- orders of axes in memory


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


def empty(runner: Runner, shape: Ints, order: Ints, dtype: Any) -> Array:
    """A new array of this shape whose axes lie in memory in this order, the slowest first."""
    memory = runner.empty(tuple(shape[axis] for axis in order), dtype)
    return memory.transpose(*(order.index(axis) for axis in range(len(order))))


def new(runner: Runner, like: Array, shape: Ints, dtype: Any = None) -> Array:
    """An empty array (N, C, *space), with channels last in memory where `like` has them so."""
    order = channels_last(len(shape)) if is_channels_last(like) else rows_first(len(shape))
    return empty(runner, shape, order, like.dtype if dtype is None else dtype)


# ---------------------------------------------------------------- what goes beside them


def alike(first: Array, *others: Array) -> bool:
    """Whether arrays have one shape, and one dtype that the kernels know."""
    return kind(first.dtype) is not None and all(
        x.shape == first.shape and x.dtype == first.dtype for x in others
    )


def numbers(x: Array, *given: float) -> tuple[Any, ...]:
    """Numbers as the kernels take them beside x."""
    return tuple(map(wider(x.dtype).type, given))
