"""Padding by a constant, by mirroring, by the border, or around; its adjoint adds back.

Axes are padded one after the other: each mode is separable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._check import entries, is_int
from .._xp import Array, device_of, namespace
from ._op import op

MODES = ("constant", "reflect", "replicate", "circular")


@op
def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """Pad the last axes of x: `pad` counts (before, after) from the last axis backwards.

    "constant" pads with `value`, and crops where a number is negative; "reflect" mirrors at the
    border without repeating it, "replicate" repeats it, "circular" goes around. Returns x's dtype;
    each padded axis grows by before + after.

    Raises ValueError for numbers that make no pairs or too many, an unknown mode, and more padding
    or cropping than an axis can give; TypeError for numbers that are no ints.

    >>> import numpy as np
    >>> x = np.asarray([[1.0, 2.0, 3.0]])
    >>> pad(x, (2, 1), "reflect")
    array([[3., 2., 1., 2., 3., 2.]])
    >>> pad(x, (-1, 1, 0, 1), value=9.0)
    array([[2., 3., 9.],
           [9., 9., 9.]])

    Source: torch.nn.functional.pad.
    """
    for axis, before, after in _amounts(tuple(x.shape), pad, mode):
        if mode == "constant":
            x = _constant(x, axis, before, after, value)
        else:
            x = _grow(x, axis, before, after, mode)
    return x


@pad.pullback
def _(x, pad, mode="constant", value=0.0):
    shape, y = tuple(x.shape), _pad(x, pad, mode, value)

    def pull(dy: Array) -> tuple:
        for axis, before, after in reversed(_amounts(shape, pad, mode)):
            if mode == "constant":
                dy = _constant(dy, axis, -before, -after, 0.0)
            else:
                dy = _shrink(dy, axis, before, after, mode)
        return (dy,)

    return y, pull


_pad = pad  # under its own name in functions that have an argument `pad`


def _constant(x: Array, axis: int, before: int, after: int, value: float) -> Array:
    xp, size = namespace(x), x.shape[axis]
    x = _part(x, axis, max(0, -before), size - max(0, -after))

    def block(count: int) -> Array:
        shape = (*x.shape[:axis], max(0, count), *x.shape[axis + 1 :])
        return xp.full(shape, value, dtype=x.dtype, device=device_of(x))

    return xp.concat([block(before), x, block(after)], axis=axis)


def _grow(x: Array, axis: int, before: int, after: int, mode: str) -> Array:
    xp, size = namespace(x), x.shape[axis]
    turned, _ = _turns(xp, axis, mode)
    left, right = _sources(size, before, after, mode)
    return xp.concat(
        [turned(_part(x, axis, *left), before), x, turned(_part(x, axis, *right), after)], axis=axis
    )


def _shrink(dy: Array, axis: int, before: int, after: int, mode: str) -> Array:
    """The adjoint of `_grow`: each border's gradient goes back to where the border came from."""
    xp, size = namespace(dy), dy.shape[axis] - before - after
    _, returned = _turns(xp, axis, mode)
    dx = _part(dy, axis, before, before + size)
    borders = _part(dy, axis, 0, before), _part(dy, axis, before + size, before + size + after)
    for border, (start, stop) in zip(borders, _sources(size, before, after, mode), strict=True):
        dx = dx + _constant(returned(border), axis, start, size - stop, 0.0)
    return dx


def _sources(size: int, before: int, after: int, mode: str) -> tuple[tuple[int, int], ...]:
    """From where to where the border before, and the one after, are copied."""
    if mode == "reflect":
        return (1, before + 1), (size - 1 - after, size - 1)
    if mode == "circular":
        return (size - before, size), (0, after)
    return (0, 1), (size - 1, size)


def _turns(xp, axis: int, mode: str) -> tuple[Callable, Callable]:
    """What makes a border of `count` places from its source, and its adjoint."""
    if mode == "reflect":
        return (lambda x, count: xp.flip(x, axis=axis)), lambda dy: xp.flip(dy, axis=axis)
    if mode == "circular":
        return (lambda x, count: x), lambda dy: dy
    return (
        lambda x, count: xp.repeat(x, count, axis=axis),
        lambda dy: xp.sum(dy, axis=axis, keepdims=True),
    )


def _part(x: Array, axis: int, start: int, stop: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, stop), ...)]


def _amounts(shape: tuple[int, ...], pad: Sequence[int], mode: str) -> list[tuple[int, int, int]]:
    """(axis, before, after) for each axis that changes, the last one first."""
    pad = entries(pad, 1)
    call = f"pad: pad={pad}, mode={mode!r}"
    if not all(map(is_int, pad)):
        raise TypeError(f"{call}: give ints, (before, after) for each axis, the last one first")
    if mode not in MODES:
        raise ValueError(f"{call}: no such mode; give one of {', '.join(MODES)}")
    if len(pad) % 2 or len(pad) > 2 * len(shape):
        raise ValueError(
            f"{call} has {len(pad)} numbers for x {shape}; give (before, after) for each axis, "
            "the last one first"
        )
    pairs = zip(pad[::2], pad[1::2], strict=True)
    amounts = [(len(shape) - 1 - i, *pair) for i, pair in enumerate(pairs) if any(pair)]
    for axis, before, after in amounts:
        _check_amount(call, shape, axis, before, after, mode)
    return amounts


def _check_amount(call: str, shape, axis: int, before: int, after: int, mode: str) -> None:
    size = shape[axis]
    if mode == "constant":
        if size + min(before, 0) + min(after, 0) < 0:
            raise ValueError(f"{call} crops more of axis {axis} than the {size} that x {shape} has")
        return
    largest = {"reflect": size - 1, "circular": size, "replicate": max(before, after)}[mode]
    if min(before, after) < 0 or max(before, after) > largest or size == 0:
        room = (
            f"from 0 to {largest}" if mode != "replicate" else "not negative, of an axis not empty"
        )
        raise ValueError(f"{call}: axis {axis} of x {shape} takes numbers {room}")
