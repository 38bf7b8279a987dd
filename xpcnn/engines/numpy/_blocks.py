"""Blocks of outputs that fit the cache, and what they read, as views.

Here x is always (N, *space, C), however it lies in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..._xp import Array, product
from ...window import Window
from ..settings import current

BLOCK = 4 * 2**20
"""Bytes to work on at a time: few enough for a core's cache, enough to make calls worth while."""

SHORT = 8
"""Numbers of a kernel row that are too few to be copied by themselves."""

FEW_CHANNELS = 8
"""Fewer than these are copied one by one: a loop along them would not be worth its start."""

Box = tuple[slice, ...]


def boxes(
    shape: Sequence[int], bytes_of: Callable[[Sequence[int]], int], least: int = 0
) -> Iterator[Box]:
    """Tile `shape` by boxes, contiguous in row-major order, for which `bytes_of` their sizes fits.

    A box takes a block of bytes, or `least` where that is more, but half of the workspace at most;
    it holds at least one item.
    """
    limit, sizes = min(max(BLOCK, least), current().workspace // 2), list(shape)
    if 0 in sizes:
        return
    for axis in range(len(sizes)):
        while sizes[axis] > 1 and bytes_of(sizes) > limit:
            sizes[axis] = -(-sizes[axis] // 2)
    starts = (range(0, n, size) for n, size in zip(shape, sizes, strict=True))
    for corner in itertools.product(*starts):
        pairs = zip(corner, sizes, shape, strict=True)
        yield tuple(slice(start, min(start + size, n)) for start, size, n in pairs)


def boxes_of_outputs(x: Array, window: Window, each: int, least: int = 0) -> Iterator[Box]:
    """Boxes of outputs (N, *out) that fit a block, at `each` numbers an output and all x read."""

    def bytes_of(sizes: Sequence[int]) -> int:
        inputs = sizes[0] * product(spanned(window, sizes[1:])) * x.shape[-1]
        return (product(sizes) * each + inputs) * x.itemsize

    return boxes((len(x), *window.out_size), bytes_of, least)


def reads(x: Array, window: Window, box: Box) -> Array:
    """What the outputs `box` (n, *out) read of x: a view (n, *out, *kernel, C)."""
    outs = tuple(o.stop - o.start for o in box[1:])
    axes = zip(box[1:], window.stride, window.padding, strict=True)
    starts = [o.start * stride - before for o, stride, (before, _) in axes]
    order: Literal["K", "C"] = "K" if has_short_rows(window, x.shape[-1]) else "C"
    part = _around(x[box[0]], starts, spanned(window, outs), order)
    first, *steps, channel = part.strides
    return as_strided(
        part,
        (part.shape[0], *outs, *window.kernel, part.shape[-1]),
        (
            first,
            *(step * s for step, s in zip(steps, window.stride, strict=True)),
            *(step * d for step, d in zip(steps, window.dilation, strict=True)),
            channel,
        ),
        writeable=False,
    )


def spanned(window: Window, outs: Sequence[int]) -> tuple[int, ...]:
    """Sizes of the input that `outs` neighbouring outputs span along each axis."""
    axes = zip(outs, window.stride, window.span, strict=True)
    return tuple((n - 1) * stride + span for n, stride, span in axes)


def has_short_rows(window: Window, channels: int) -> bool:
    """Whether a row of the kernel is too short to be copied by itself."""
    return product(window.kernel) > 1 and window.kernel[-1] * channels < SHORT


def _around(
    x: Array, starts: Sequence[int], sizes: Sequence[int], order: Literal["K", "C"]
) -> Array:
    """x from `starts` on, which may be negative, with zeros outside x.

    Where that takes a copy, it is in `order`; by "C", channels are neighbours in any case.
    """
    inside, to = [], []
    for start, size, n in zip(starts, sizes, x.shape[1:-1], strict=True):
        first = max(0, start)
        inside.append(slice(first, max(first, min(start + size, n))))
        to.append(slice(first - start, inside[-1].stop - start))
    part = x[(slice(None), *inside)]
    if part.shape[1:-1] == tuple(sizes) and (order == "K" or part.strides[-1] == part.itemsize):
        return part
    padded = np.empty_like(x, order=order, shape=(len(x), *sizes, x.shape[-1]), subok=False)
    for axis, inner in enumerate(to):
        edges = np.moveaxis(padded, axis + 1, 0)
        edges[: inner.start] = 0
        edges[inner.stop :] = 0
    _copy(part, padded[(slice(None), *to)])
    return padded


def _copy(x: Array, to: Array) -> None:
    """Copy x (N, *space, C), few channels one by one where they are not neighbours."""
    if x.shape[-1] < FEW_CHANNELS and x.strides[-1] != x.itemsize:
        for channel in range(x.shape[-1]):
            to[..., channel] = x[..., channel]
    else:
        to[...] = x
