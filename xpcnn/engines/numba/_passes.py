"""One pass over memory where NumPy takes several: clipping, and the steps of optimizers.

Arrays are taken as they lie in memory, flat: which entry is which does not matter here. A step goes
by blocks that the nearest cache holds, with a loop for each result: LLVM makes vectors where few
arrays meet, for it has to ask which of them overlap.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types

from ..._xp import Array
from .._lines import empty
from ._jit import BOOL, kernel, number, takes
from ._threads import taken

SHARE = 2**15
"""Entries of a task: fewer are not worth another thread."""

BLOCK = 2**10
"""Entries that a step takes at once."""

FEW = 2**13
"""Entries of which NumPy is done before a kernel would have begun."""

part = njit(error_model="numpy")
"""Compile a part of a kernel. Division is NumPy's: a test for zero would forbid vectors."""


def clip(x: Array, low: float | None, high: float | None) -> Array:
    if not takes_many(x):
        return NotImplemented
    order = memory_order(x)
    y, out = new(x, order)
    _clip(_tasks(out), flatten(x, order), bound(low), bound(high), out)
    return y


def clip_dx(dy: Array, y: Array, low: float | None, high: float | None) -> Array:
    if not takes_many(dy, y):
        return NotImplemented
    order = memory_order(y)
    dx, out = new(y, order)
    given = flatten(dy, order), flatten(y, order)
    _clip_dx(_tasks(out), *given, bound(low), bound(high), out)
    return dx


def sgd(
    w: Array, g: Array, velocity: Array | None, lr: float, momentum: float, nesterov: bool,
    decay: float,
) -> tuple[Array, Array | None]:  # fmt: skip
    if not _takes_step((w, g, velocity), lr):
        return NotImplemented
    order = memory_order(w)
    new_w, w_out = new(w, order)
    w, g = flatten(w, order), flatten(g, order)
    if velocity is None:
        _descend(_tasks(w), w, g, lr, decay, w_out)
        return new_w, None
    new_velocity, v_out = new(velocity, order)
    v = flatten(velocity, order)
    _roll(_tasks(w), w, g, v, lr, momentum, nesterov, decay, w_out, v_out)
    return new_w, new_velocity


def adam(
    w: Array, g: Array, mean: Array, square: Array, lr: float, beta1: float, beta2: float,
    eps: float, count: int, decay: float, decoupled: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if not _takes_step((w, g, mean, square), lr, count):
        return NotImplemented
    order = memory_order(w)
    results, outs = zip(*(new(w, order) for _ in range(3)), strict=True)
    shrink, coupled = (1.0 - lr * decay, 0.0) if decoupled else (1.0, decay)
    rate, correction = lr / (1.0 - beta1**count), 1.0 / math.sqrt(1.0 - beta2**count)
    numbers = beta1, 1.0 - beta1, beta2, 1.0 - beta2, rate, correction, eps, shrink, coupled
    _adapt(_tasks(w), *(flatten(a, order) for a in (w, g, mean, square)), *numbers, *outs)
    return results


def takes_many(*arrays: Array | None) -> bool:
    """Whether kernels take the arrays, and the first has enough entries to be worth one."""
    given = [a for a in arrays if a is not None]
    return given[0].size >= FEW and takes(*given)


def _takes_step(arrays: tuple[Array | None, ...], *numbers: Any) -> bool:
    """Whether the arrays are alike, and the numbers Python's own, not traced."""
    shapes = {a.shape for a in arrays if a is not None}
    return (
        takes_many(*arrays)
        and len(shapes) == 1
        and all(isinstance(n, float | int) for n in numbers)
    )


def memory_order(x: Array) -> tuple[int, ...]:
    """The axes of x as they lie in memory: channels last, unless they lie first."""
    axes = tuple(range(x.ndim))
    last = (*axes[:1], *axes[2:], *axes[1:2])
    first = x.flags.c_contiguous and not x.transpose(last).flags.c_contiguous
    return axes if first else last


def flatten(x: Array, order: tuple[int, ...]) -> Array:
    """The entries of x, its axes taken in `order`: a view where they lie so in memory."""
    return np.ascontiguousarray(x.transpose(order)).reshape(-1)


def new(x: Array, order: tuple[int, ...]) -> tuple[Array, Array]:
    """An array of x's shape that lies in memory by `order`, and its entries, flat."""
    memory = empty([x.shape[axis] for axis in order], x.dtype)
    back = sorted(range(x.ndim), key=order.__getitem__)
    return memory.transpose(back), memory.reshape(-1)


def flat(number: types.Float) -> types.Array:
    """The type of flat entries that are only read."""
    return types.Array(number, 1, "C", readonly=True)


def flat_out(number: types.Float) -> types.Array:
    """The type of flat entries that are written."""
    return types.Array(number, 1, "C")


def _tasks(entries: Array) -> int:
    return -(-entries.size // SHARE)


def bound(value: float | None) -> float:
    """No bound is NaN, which nothing is beyond."""
    return math.nan if value is None else value


@kernel(flat, number, number, flat_out)
def _clip(tasks, x, low, high, y):
    for task in taken(tasks):
        share = slice(task * SHARE, (task + 1) * SHARE)
        _clip_share(x[share], low, high, y[share])


@part
def _clip_share(x, low, high, y):
    for i in range(x.size):
        value = low if x[i] < low else x[i]
        y[i] = high if value > high else value


@kernel(flat, flat, number, number, flat_out)
def _clip_dx(tasks, dy, y, low, high, dx):
    for task in taken(tasks):
        share = slice(task * SHARE, (task + 1) * SHARE)
        _clip_dx_share(dy[share], y[share], low, high, dx[share])


@part
def _clip_dx_share(dy, y, low, high, dx):
    for i in range(y.size):
        dx[i] = dy[i] * (low < y[i] and not y[i] >= high)


@kernel(flat, flat, number, number, flat_out)
def _descend(tasks, w, g, lr, decay, new_w):
    for task in taken(tasks):
        share = slice(task * SHARE, (task + 1) * SHARE)
        _descend_share(w[share], g[share], lr, decay, new_w[share])


@part
def _descend_share(w, g, lr, decay, new_w):
    for i in range(w.size):
        new_w[i] = w[i] - lr * _decayed(g[i], w[i], decay)


@kernel(flat, flat, flat, number, number, BOOL, number, flat_out, flat_out)
def _roll(tasks, w, g, v, lr, momentum, nesterov, decay, new_w, new_v):
    for task in taken(tasks):
        for start in range(task * SHARE, min((task + 1) * SHARE, w.size), BLOCK):
            block = slice(start, start + BLOCK)
            _velocity(w[block], g[block], v[block], momentum, decay, new_v[block])
            if nesterov:
                _look_ahead(w[block], g[block], new_v[block], lr, momentum, decay, new_w[block])
            else:
                _follow(w[block], new_v[block], lr, new_w[block])


@part
def _velocity(w, g, v, momentum, decay, new_v):
    for i in range(w.size):
        new_v[i] = momentum * v[i] + _decayed(g[i], w[i], decay)


@part
def _follow(w, v, lr, new_w):
    for i in range(w.size):
        new_w[i] = w[i] - lr * v[i]


@part
def _look_ahead(w, g, v, lr, momentum, decay, new_w):
    for i in range(w.size):
        new_w[i] = w[i] - lr * (_decayed(g[i], w[i], decay) + momentum * v[i])


@kernel(*[flat] * 4, *[number] * 9, *[flat_out] * 3)
def _adapt(
    tasks, w, g, mean, square, beta1, rest1, beta2, rest2, rate, correction, eps, shrink,
    decay, new_w, new_mean, new_square,
):  # fmt: skip
    for task in taken(tasks):
        for start in range(task * SHARE, min((task + 1) * SHARE, w.size), BLOCK):
            block = slice(start, start + BLOCK)
            _average(w[block], g[block], mean[block], beta1, rest1, decay, new_mean[block])
            _average_square(
                w[block], g[block], square[block], beta2, rest2, decay, new_square[block]
            )
            averages = new_mean[block], new_square[block]
            _scaled_step(w[block], *averages, rate, correction, eps, shrink, new_w[block])


@part
def _average(w, g, mean, beta, rest, decay, new_mean):
    for i in range(w.size):
        new_mean[i] = beta * mean[i] + rest * _decayed(g[i], w[i], decay)


@part
def _average_square(w, g, square, beta, rest, decay, new_square):
    for i in range(w.size):
        gradient = _decayed(g[i], w[i], decay)
        new_square[i] = beta * square[i] + rest * gradient * gradient


@part
def _scaled_step(w, mean, square, rate, correction, eps, shrink, new_w):
    for i in range(w.size):
        root = np.sqrt(square[i]) * correction
        new_w[i] = shrink * w[i] - rate * (mean[i] / (root + eps))


@part
def _decayed(g, w, decay):
    """The gradient with the decay in it; no decay is no 0 * w, which could be NaN."""
    return g + decay * w if decay != 0 else g
