"""Convolution without columns: depthwise, in small groups, and whatever no workspace holds.

Each result is summed where it is written; a gradient of weights in parts, which are then summed.
Weights are (G, R, S, K) here: groups, a group's channels of the result, those summed for each, and
the kernel's places. At stride 1 the gradient of an input is a convolution too: of dy, with R and S
exchanged and the places backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..._xp import Array, product
from ...window import Ints, Window
from ._arrays import is_channels_last, kind, strides, wider
from ._arrays import lanes as lanes_of
from ._geometry import STRUCTS, Call, divider, geometry
from ._launch import BLOCK, GRID_Y, Launch
from ._runner import Runner
from ._table import FILES
from ._windows import extent_of, readers_of

THREADS = 128
"""Of a block; where it sums a part, each has in shared memory all numbers that it sums."""

NEIGHBOURS = 32
"""Channels that such a block takes at most, where they lie last: what a warp reads at once."""

BLOCKS = 1024
"""Of these, enough for a large device: where there would be fewer, outputs are parted."""

LEAST = 4
"""Outputs, or strips of them, that are worth a thread of a part."""

JOINING = 64
"""Threads that sum the parts of one weight at most."""


def convolve(
    runner: Runner, x: Array, w: Array, window: Window, b: Array | None, y: Array, room: int
) -> None:
    """Set y (N, O, *out) to the convolution of x by w, plus b (O,); w may be copied in the room."""
    weights = _turned(runner, _grouped(w, window), y, room)
    runner.launch(_sums("convolve", x, weights, window, b, y))


def input_gradient(
    runner: Runner, dy: Array, w: Array, window: Window, dx: Array, room: int
) -> None:
    """Set dx (N, C, *in) to what reaches it of dy (N, O, *out); w may be copied in the room."""
    weights = _turned(runner, _grouped(w, window).swapaxes(1, 2), dx, room)
    if set(window.stride) == {1}:
        turned, backwards = weights[..., ::-1], _backwards(window)
        launch = _sums("convolve", dy, turned, backwards, None, dx, absent=True)
    else:
        launch = _sums("convolve_gradient", dy, weights, window, None, dx)
    runner.launch(launch)


def weight_gradient(
    runner: Runner, x: Array, dy: Array, window: Window, dw: Array, room: int
) -> None:
    """Set dw (O, C/G, *kernel), in C order, to the gradient of w; the room is for sums of parts."""
    sums = wider(dw.dtype)
    most = min(GRID_Y, room // (dw.size * sums.itemsize))
    layouts = layout(x), layout(dy), layout(dw)
    launch = _planned_parts(kind(dw.dtype), sums.itemsize, window, *layouts, most)
    number = launch.grid[1]
    parts = runner.empty((number if number > 1 else 0, dw.size), sums)
    runner.launch(launch._replace(arguments=(x, dy, parts, dw, *launch.arguments)))
    if number > 1:
        runner.launch(_joined(parts, dw))


def _grouped(w: Array, window: Window) -> Array:
    """w (O, C/G, *kernel) as (G, R, S, K); the library copies it where that is no view."""
    groups, (outs, ins) = window.groups, w.shape[:2]
    return w.reshape(groups, outs // groups, ins, product(window.kernel))


def _turned(runner: Runner, weights: Array, result: Array, room: int) -> Array:
    """The weights, copied so that neighbouring threads read neighbours, where that fits."""
    if weights.nbytes > room or not is_channels_last(result):
        return weights
    groups, channels, terms, places = weights.shape
    copy = runner.empty((places, terms, groups, channels), weights.dtype).transpose(2, 3, 1, 0)
    copy[...] = weights
    return copy


@lru_cache(maxsize=256)
def _backwards(window: Window) -> Window:
    """By which window of stride 1 the gradient of an input reads that of the output."""
    axes = zip(window.kernel, window.dilation, window.padding, strict=True)
    padding = tuple((d * (k - 1) - before, 0) for k, d, (before, _) in axes)
    return replace(window, in_size=window.out_size, out_size=window.in_size, padding=padding)


# ---------------------------------------------------------------- results, each where it is written


def _sums(
    kernel: str, source: Array, weights: Array, window: Window, b: Array | None, result: Array,
    absent: bool = False,
) -> Launch:  # fmt: skip
    """A launch of direct.cu, of which each thread owns a result, or a strip of them.

    What lies outside of the source is 0 or, if `absent`, not there: 0 times infinity is NaN.
    """
    bias = None if b is None else layout(b)
    launch = _planned_sums(
        kernel, kind(result.dtype), window, layout(source), layout(weights), layout(result),
        bias, _lanes(source, weights, b, result), absent,
    )  # fmt: skip
    ends = (result,) if kernel == "convolve_gradient" else (weights if b is None else b, result)
    return launch._replace(arguments=(source, weights, *ends, *launch.arguments))


def _lanes(source: Array, weights: Array, b: Array | None, result: Array) -> int:
    """Neighbouring channels of a thread: several only where each is a group of its own."""
    if weights.shape[1:3] != (1, 1) or result.strides[1] != result.itemsize:
        return 1
    sides = (source, weights.swapaxes(0, 1), result)
    return lanes_of(*sides, *(() if b is None else (b[None],)))


@lru_cache(maxsize=1024)
def _planned_sums(
    kernel: str, number: str, window: Window, source: Layout, weights: Layout, result: Layout,
    b: Layout | None, most: int, absent: bool,
) -> Launch:  # fmt: skip
    """The launch but for its arrays."""
    gathers = kernel == "convolve_gradient"
    x, y = (result, source) if gathers else (source, result)
    reach = _reach(_seen(x, window), weights, y)
    (_, per_group, terms, _), last = weights.shape, is_channels_last(result)

    def call(lanes: int, rows: int) -> Call:
        channels = result.shape[1] // lanes
        return _call(window, channels, last, x, y, reach, lanes, rows, gathers)

    name, lanes, index, value = _fitting(_instances(kernel, number, most, terms, window), call)
    group, channel, term, place = (step // weights.itemsize for step in weights.strides)
    bias = 0 if b is None else b.strides[0] // b.itemsize
    if lanes > 1:
        group, place, bias = 1, place // lanes, 1
    steps = group, channel, term, place, b is not None, bias, absent
    numbers = divider(per_group, index), terms, *steps, *_height(result, lanes)
    blocks = -(-int(value["count"][0]) // THREADS)
    values = value, np.array([numbers], WEIGHTS[index])
    return Launch(name, (blocks, 1, 1), (THREADS, 1, 1), 0, values)


def _instances(
    kernel: str, number: str, lanes: int, terms: int, window: Window
) -> Iterator[tuple[str, int, int]]:
    """Which kernels could do it, the fastest first: names, lanes, and a thread's rows."""
    unrolled = extent_of(window) if kernel == "convolve" else readers_of(window)
    if terms == 1 and kernel == "convolve":
        strips = _has_strips(window)
        for each in (lanes, 1):
            rows = _rows(each) if strips else 1
            yield f"depthwise<int, {number}, {str(strips).lower()}, {each}, {unrolled}>", each, rows
    for each, loops in (lanes, unrolled), (1, unrolled), (lanes, 0), (1, 0):
        yield f"{kernel}<int, {number}, {each}, {loops}>", each, 1
    yield f"{kernel}<long long, {number}, 1, 0>", 1, 1


# ---------------------------------------------------------------- sums over the outputs, in parts


@lru_cache(maxsize=1024)
def _planned_parts(
    number: str, each_sum: int, window: Window, x: Layout, dy: Layout, dw: Layout, most: int
) -> Launch:
    """A launch of weight_parts but for its arrays: as many parts as pay, `most` at most."""
    (outs, terms, *_), places = dw.shape, product(window.kernel)

    def call(_: int, rows: int) -> Call:
        return _call(window, outs, False, x, dy, _reach(_seen(x, window), dy, dw), 1, rows)

    name, summed, index, value = _fitting(_parting_instances(number, window), call)
    tiles = -(-outs // NEIGHBOURS) if is_channels_last(dy) else outs
    across = -(-outs // tiles)
    deep = THREADS // across
    blocks, count = tiles * terms * places // summed, int(value["count"][0]) // outs
    each = -(-count // max(1, min(-(-BLOCKS // blocks), count // (deep * LEAST), most)))
    sizes = outs // window.groups, terms, places // summed, *(1, *window.kernel)[:-3:-1]
    numbers = *sizes, outs, outs * terms * places, count, each, *_height(dy)
    values = value, np.array([numbers], PARTS[index])
    shared = across * deep * summed * each_sum
    return Launch(name, (blocks, -(-count // each), 1), (across, deep, 1), shared, values)


def _parting_instances(number: str, window: Window) -> Iterator[tuple[str, int, int]]:
    """Which kernels could do it, the fastest first: names, places summed, and a thread's rows."""
    extent = extent_of(window)
    if _has_strips(window):
        yield f"weight_parts<int, {number}, {extent}, true>", extent**2, _rows(1)
    for unrolled in (extent, 0):
        yield f"weight_parts<int, {number}, {unrolled}, false>", unrolled**2 or 1, 1
    yield f"weight_parts<long long, {number}, 0, false>", 1, 1


def _joined(parts: Array, dw: Array) -> Launch:
    """A launch of weight_sums."""
    deep = min(JOINING, len(parts))
    across = BLOCK // deep
    return Launch(
        f"weight_sums<{kind(dw.dtype)}>", (-(-dw.size // across), 1, 1), (across, deep, 1),
        across * deep * parts.itemsize, (parts, dw, np.int64(dw.size), np.int64(len(parts))),
    )  # fmt: skip


# ---------------------------------------------------------------- geometry


class Layout(NamedTuple):
    """How an array lies, which decides a launch: what `_arrays` asks of it."""

    shape: Ints
    strides: Ints
    itemsize: int


def layout(x: Array) -> Layout:
    return Layout(x.shape, x.strides, x.itemsize)


def _reach(*arrays: Layout) -> int:
    """The distance of the furthest element from the first, in the array where it is longest."""
    return max(
        sum((n - 1) * abs(step) for n, step in zip(x.shape, x.strides, strict=True)) // x.itemsize
        for x in arrays
    )


def _seen(x: Layout, window: Window) -> Layout:
    """x with all that is read or owned of it, were it there: such offsets are counted too."""
    sizes = (
        max(size, out * stride + before + kernel * dilation) + _rows(1) * dilation
        for size, out, stride, (before, _), kernel, dilation in zip(
            window.in_size, window.out_size, window.stride, window.padding, window.kernel,
            window.dilation, strict=True,
        )
    )  # fmt: skip
    return x._replace(shape=(*x.shape[:2], *sizes))


def _fitting(
    instances: Iterator[tuple[str, int, int]], call: Callable[[int, int], Call]
) -> tuple[str, int, str, np.ndarray]:
    """The first that there is whose index counts all of its call, with that and the geometry."""
    there = ((name, each, *geometry(call(each, n))) for name, each, n in instances if name in FILES)
    return next(plan for plan in there if f"<{plan[2]}," in plan[0])


def _rows(lanes: int) -> int:
    """Outputs of a strip, as in kernels/strips.cuh."""
    return 8 if lanes == 1 else 16 // lanes


def _has_strips(window: Window) -> bool:
    """Whether there are outputs along H that are neighbours and share what they read."""
    if window.rank == 1 or not extent_of(window):
        return False
    return window.stride[-2] == window.dilation[-2] == 1 < window.out_size[-2]


@lru_cache(maxsize=256)
def _stripped(window: Window, rows: int) -> Window:
    """The window of which strips are the outputs."""
    *kernels, height, width = window.kernel
    *outs, high, wide = window.out_size
    return replace(
        window,
        kernel=(*kernels, height + rows - 1, width),
        stride=(*window.stride[:-2], rows, window.stride[-1]),
        out_size=(*outs, -(-high // rows), wide),
    )


def _call(
    window: Window, channels: int, last: bool, x: Layout, y: Layout, reach: int, lanes: int,
    rows: int, gathers: bool = False,
) -> Call:  # fmt: skip
    """A call whose threads own so many rows of outputs; `reach` is that of every array."""
    n, c, d, h, w = strides(y, lanes)
    if rows > 1:
        window, h = _stripped(window, rows), h * rows
    steps = strides(x, lanes), (n, c, d, h, w)
    return Call(window, x.shape[0], channels, gathers, last, *steps, reach=reach)


def _height(x: Layout, lanes: int = 1) -> tuple[int, int]:
    """How many there are along H, and the stride from one to the next."""
    return (1, *x.shape[2:])[-2], strides(x, lanes)[3]


def _struct(index: str, dividers: tuple[str, ...], numbers: tuple[str, ...]) -> np.dtype:
    word, divider = STRUCTS[index]["count"], STRUCTS[index]["d"]["stride"]
    return np.dtype([*((n, divider) for n in dividers), *((n, word) for n in numbers)])


def _structs(dividers: tuple[str, ...], numbers: tuple[str, ...]) -> dict[str, np.dtype]:
    return {index: _struct(index, dividers, numbers) for index in STRUCTS}


STEPS = "terms", "group", "channel", "term", "place", "biased", "bias", "absent", "rows", "row"
WEIGHTS = _structs(("channels",), STEPS)
"""direct.cu's Weights."""

SIZES = "channels", "terms", "places", "width", "height", "outs", "weights"
PARTS = _structs((), (*SIZES, "count", "each", "rows", "row"))
"""weight_gradient.cu's Parts."""
