"""A call's geometry as the one value that windowed kernels take: kernels/geometry.cuh's twin.

Source: the magic numbers are those of Granlund and Montgomery, "Division by invariant integers
using multiplication", 1994, in the form that needs no more bits than the number divided.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..._xp import product
from ...window import Ints, Window
from .. import Divisor

LIMIT = 2**31 - 2**16
"""What an int counts safely: some numbers of a kernel lie a block beyond the last element."""

Three = tuple[int, int, int]


def _struct(index: str) -> np.dtype:
    """kernels/geometry.cuh's Geometry, whose members are all of one size."""
    divider = np.dtype([("divisor", index), ("magic", index.replace("i", "u")), ("shift", index)])
    names = ("in", "out", "kernel", "before", "readers", "low", "high")
    steps = [("stride", divider), ("dilation", divider)]
    axis = np.dtype([*((name, index) for name in names), *steps])
    strides = np.dtype([(name, index) for name in "ncdhw"])
    return np.dtype(
        [
            ("count", index), ("channels_last", index), ("sizes", divider, 4),
            ("d", axis), ("h", axis), ("w", axis),
            ("x", strides), ("y", strides), ("places", strides), ("k", index), ("divisor", index),
        ]
    )  # fmt: skip


STRUCTS = {"int": _struct("i4"), "long long": _struct("i8")}

DIVIDER = STRUCTS["int"]["d"]["stride"]
"""A Divider of ints by itself."""


class Call(NamedTuple):
    """What decides a geometry. Strides are (n, c, d, h, w), in packs; so are the channels.

    `gathers` says that threads own inputs, not outputs; `last` that channels are counted first.
    """

    window: Window
    images: int
    channels: int
    gathers: bool
    last: bool
    x: Ints
    y: Ints
    places: Ints = (0,) * 5
    k: int = 0
    divisor: Divisor = 1
    reach: int = 0
    """What else an index must count."""


@lru_cache(maxsize=1024)
def geometry(call: Call) -> tuple[str, np.ndarray]:
    """The index type that holds every number of the call, and its geometry, one structure."""
    index = "int" if _largest(call) < LIMIT else "long long"
    d, h, w = (_axis(axis, index) for axis in _axes(call))
    space = _three(call.window.in_size if call.gathers else call.window.out_size, 1)[::-1]
    sizes = (call.channels, *space) if call.last else (*space, call.channels)
    value = np.array(
        [
            (
                call.images * product(sizes), call.last, [divider(n, index) for n in sizes],
                d, h, w, call.x, call.y, call.places, call.k,
                call.divisor if isinstance(call.divisor, int) else 0,
            )
        ],
        STRUCTS[index],
    )  # fmt: skip
    value.flags.writeable = False  # it is shared by all calls alike
    return index, value


def divider(number: int, index: str) -> tuple[int, int, int]:
    """A number with what divides by it: quotient = (high(n * magic) + n) >> shift.

    >>> divider(7, "int")
    (7, 613566757, 3)
    """
    word = 8 * STRUCTS[index]["count"].itemsize
    shift = max(0, number - 1).bit_length()
    return number, ((2**shift - number) << word) // max(1, number) + 1, shift


class Axis(NamedTuple):
    """One axis of a window; from `low` to `high`, its inputs count in an average."""

    in_size: int
    out_size: int
    kernel: int
    before: int
    readers: int
    low: int
    high: int
    stride: int
    dilation: int


def _axes(call: Call) -> list[Axis]:
    window, counted = call.window, _counted(call.window, call.divisor)
    axes = [
        Axis(
            window.in_size[axis], window.out_size[axis], window.kernel[axis],
            window.padding[axis][0], readers(window, axis), *counted[axis], window.stride[axis],
            window.dilation[axis],
        )
        for axis in range(window.rank)
    ]  # fmt: skip
    return [Axis(1, 1, 1, 0, 1, 0, 1, 1, 1)] * (3 - window.rank) + axes


def readers(window: Window, axis: int) -> int:
    """How many outputs read one input, at most.

    >>> from xpcnn.window import pool_window
    >>> readers(pool_window("max_pool1d", 1, (1, 1, 9), 3, 2, 0, 1), 0)
    2
    """
    return -(-window.span[axis] // window.stride[axis])


@lru_cache(maxsize=64)
def _counted(window: Window, divisor: Divisor) -> list[tuple[int, int]]:
    """From where to where inputs count along each axis: with the padding, or without it."""
    inside = [(0, size) for size in window.in_size]
    if isinstance(divisor, int) or divisor == window.counts(False):
        return inside
    assert divisor == window.counts(True), "the counts are of another window"
    pairs = zip(inside, window.padding, strict=True)
    return [(-before, size + after) for (_, size), (before, after) in pairs]


def _axis(axis: Axis, index: str) -> tuple[Any, ...]:
    return (*axis[:-2], divider(axis.stride, index), divider(axis.dilation, index))


def _largest(call: Call) -> int:
    """The largest number that a kernel may meet."""
    axes, space = _axes(call), call.window.in_size
    outs = (call.images, call.channels, *(axis.out_size for axis in axes))
    ins = (call.images, call.channels, *(axis.in_size for axis in axes))
    reaches = (
        _reach(ins, call.x),
        _reach(outs, call.y) + product(call.window.kernel) * abs(call.k),
        _reach(outs, call.places),
    )
    ends = (a.out_size * a.stride + a.kernel * a.dilation + abs(a.before) + a.in_size for a in axes)
    divisor = call.divisor if isinstance(call.divisor, int) else 0
    return max(
        call.reach, abs(divisor), *reaches, *ends, product(space), product(ins), product(outs)
    )


def _reach(shape: Ints, strides: Ints) -> int:
    """The distance of the furthest element from the first."""
    return sum((n - 1) * abs(stride) for n, stride in zip(shape, strides, strict=True))


def _three(sizes: Ints, fill: int) -> Ints:
    """Sizes of space with `fill` for the axes that it lacks."""
    return (*(fill,) * (3 - len(sizes)), *sizes)
