"""Pooling, in boxes that stay in the cache: for each kernel place, one strided slice of the input.

Which place held a maximum is found by counting the places before it, in single bytes: NumPy does
that many times faster than it copies under a mask. Gradients of maxima are added by their indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._xp import Array, product
from ...window import Window
from .. import Divisor, generic
from ._blocks import Box, boxes

BYTES_OF_INDEXING = 24
"""What temporaries take for each output: numbers of places, and values."""


def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    y = _like(x, window.out_size, least, x.dtype)
    index = _like(x, window.out_size, None, np.int64) if indices else None
    for part, around, best, read, found in _planes(window, y, x, index):
        for _, outputs, inputs in part.taps:
            held = best[(*around, *outputs)]
            np.maximum(held, read[(*around, *inputs)], out=held)
        if found is not None:
            number = _tap_of(best, read, part, around)
            np.take(_flat_places(part), number, out=found, mode="clip")
            found += _corners(part, around)
    return y, index


def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    dx = _like(dy, window.in_size, 0, dy.dtype)
    from_image, from_channel, *_, from_place = (step // dx.itemsize for step in dx.strides)
    starts = np.add.outer(from_image * np.arange(len(dy)), from_channel * np.arange(dy.shape[1]))
    starts = starts.reshape(*starts.shape, *(1,) * window.rank)
    arrays = [dx, dy, indices, np.broadcast_to(starts, dy.shape)]
    if _channels_last(dy):
        arrays = [np.moveaxis(array, 1, -1) for array in arrays]
    memory, *given = arrays
    for box in boxes(given[0].shape, lambda sizes: product(sizes) * BYTES_OF_INDEXING):
        grads, found, start = (array[box] for array in given)
        at = np.multiply(found, from_place, dtype=np.intp)
        at += start
        np.add.at(memory.reshape(-1), at.reshape(-1), grads.reshape(-1))
    return dx


def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    y = _like(x, window.out_size, 0, x.dtype)
    for part, around, total, read, divide_by in _planes(window, y, x, _spread(divisor, y)):
        for _, outputs, inputs in part.taps:
            total[(*around, *outputs)] += read[(*around, *inputs)]
        total /= divide_by
    return y


def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    once = _reads_once(window)
    dx = _like(dy, window.in_size, None if once else 0, dy.dtype)
    for part, around, grads, to, divide_by in _planes(window, dy, dx, _spread(divisor, dy)):
        share = grads / divide_by
        for _, outputs, inputs in part.taps:
            _give(share[(*around, *outputs)], to[(*around, *inputs)], once)
    return dx


def _tap_of(best: Array, read: Array, part: Window, around: Box) -> Array:
    """The number of the first tap that reads each of the maxima: how many before it do not."""
    has_nan = best.dtype.kind == "f" and bool(np.isnan(best).any())
    missed = np.ones(best.shape, np.bool_)
    number = np.zeros(best.shape, np.min_scalar_type(len(part.taps)))
    for _, outputs, inputs in part.taps[:-1]:
        value, so_far = read[(*around, *inputs)], missed[(*around, *outputs)]
        so_far &= value != best[(*around, *outputs)]
        if has_nan:
            so_far &= value == value
        number += missed
    return number


def _give(share: Array, to: Array, once: bool) -> None:
    """Add to a gradient, or set it where nothing else adds to it."""
    if once:
        to[...] = share
    else:
        to += share


def _reads_once(window: Window) -> bool:
    """Whether each input is read by one output."""
    axes = zip(window.in_size, window.out_size, window.kernel, window.stride, strict=True)
    tiled = all(k == s and n == out * s for n, out, k, s in axes)
    return tiled and not window.reads_padding and set(window.dilation) == {1}


def _planes(
    window: Window, y: Array, x: Array, beside: Array | None = None
) -> Iterator[tuple[Window, Box, Array, Array, Any]]:
    """Pieces of a pooling that fit a block: window, whole axes before space, and views of each.

    The views are of outputs y, of all that may be read or written in x, and of what lies beside y
    (indices, divisors). Channels stay the last axis where they are so in memory, so that pieces are
    contiguous there.
    """
    if last := _channels_last(y):
        y, x = np.moveaxis(y, 1, -1), np.moveaxis(x, 1, -1)
        beside = None if beside is None else np.moveaxis(beside, 1, -1)
    lead, after = (1, 1 + window.rank) if last else (2, 2 + window.rank)
    whole = (slice(None),) * y.ndim
    for box in boxes(y.shape, lambda sizes: product(sizes) * BYTES_OF_INDEXING):
        part = window.part(box[lead:after])
        planes = (*box[:lead], *whole[lead:after], *box[after:])
        yield part, whole[:lead], y[box], x[planes], None if beside is None else beside[box]


def _flat_places(window: Window) -> Array:
    """How far each tap's place lies from a window's first, in flat numbers of the input."""
    steps = [product(window.in_size[axis + 1 :]) for axis in range(window.rank)]
    places = np.asarray([place for place, _, _ in window.taps], np.int64)
    return places @ np.multiply(steps, window.dilation)


def _corners(window: Window, around: Box) -> Array:
    """Flat numbers of each output's first place, even in the padding, to broadcast."""
    total = np.zeros((), np.int64)
    axes = zip(window.in_size, window.out_size, window.stride, window.padding, strict=True)
    for size, out, stride, (before, _) in axes:
        total = total[..., None] * size + np.arange(out) * stride - before
    return total if len(around) == 2 else total[..., None]


def _spread(divisor: Divisor, y: Array) -> Array:
    return np.broadcast_to(np.asarray(generic.as_divisor(y, divisor), y.dtype), y.shape)


def _like(x: Array, space: tuple[int, ...], fill: float | None, dtype: Any) -> Array:
    """A new (N, C, *space) array that keeps channels last in memory where x does; None: unset."""
    n, channels = x.shape[:2]
    last = _channels_last(x)
    new = np.empty((n, *space, channels) if last else (n, channels, *space), dtype)
    if fill is not None:
        new.fill(fill)
    return np.moveaxis(new, -1, 1) if last else new


def _channels_last(x: Array) -> bool:
    return x.shape[1] > 1 and x.strides[1] == x.itemsize
