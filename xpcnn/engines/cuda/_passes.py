"""Elementwise work in one pass over memory: clipping, activations, dropout, steps of optimizers.

Arrays are taken as they lie in memory, flat: which entry is which matters to dropout alone. What
does not lie as it should is copied first.
"""

from __future__ import annotations

import math
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

from ..._xp import Array, product
from ...window import Ints
from ._arrays import (
    alike,
    channels_last,
    empty,
    kind,
    laid,
    memory_order,
    numbers,
    rows_first,
    wider,
)  # fmt: skip
from ._geometry import DIVIDER, LIMIT, divider
from ._launch import BLOCK, Launch
from ._runner import Runner, verb
from ._table import ACTIVATIONS, PACK

ADAM = {
    number: np.dtype([(f"number{i}", number) for i in range(9)])
    for number in (np.dtype("float32"), np.dtype("float64"))
}
"""kernels/optimizers.cu's Adam."""


def bounds_of(low: float | None, high: float | None) -> tuple[float, float]:
    """To the kernels, a bound of NaN is none."""
    return math.nan if low is None else low, math.nan if high is None else high


@verb
def clip(runner: Runner, x: Array, low: float | None, high: float | None) -> Array:
    if not alike(x):
        return NotImplemented
    bounds = numbers(x, *bounds_of(low, high))
    return _pass(runner, f"clip<{kind(x.dtype)}>", x, (x,), *bounds, packs=2)[0]


@verb
def clip_dx(runner: Runner, dy: Array, y: Array, low: float | None, high: float | None) -> Array:
    if not alike(dy, y):
        return NotImplemented
    bounds = numbers(y, *bounds_of(low, high))
    return _pass(runner, f"clip_gradient<{kind(y.dtype)}>", y, (dy, y), *bounds)[0]


@verb
def activation(runner: Runner, x: Array, name: str, *options: Any) -> Array:
    function = _function(name, options)
    if function is None or not alike(x):
        return NotImplemented
    kernel = f"activation<{kind(x.dtype)}, {function}>"
    return _pass(runner, kernel, x, (x,), *_options(x, options))[0]


@verb
def activation_dx(runner: Runner, dy: Array, held: Array, name: str, *options: Any) -> Array:
    function = _function(name, options)
    if function is None or not alike(dy, held):
        return NotImplemented
    kernel = f"activation_gradient<{kind(held.dtype)}, {function}>"
    return _pass(runner, kernel, held, (dy, held), *_options(held, options))[0]


@verb
def dropout(runner: Runner, x: Array, threshold: int, scale: float, key: tuple[Any, Any]) -> Array:
    if not alike(x) or x.size >= LIMIT or not all(isinstance(k, int | np.integer) for k in key):
        return NotImplemented
    order = memory_order(x)
    last = order != rows_first(x.ndim) and order == channels_last(x.ndim)
    order = order if last else rows_first(x.ndim)
    channels, space = (x.shape[1], product(x.shape[2:])) if last else (1, 1)
    noise = _noise(wider(x.dtype), scale, threshold, *map(int, key), channels, space)
    kernel = f"dropout<{kind(x.dtype)}, {str(last).lower()}>"
    return _pass(runner, kernel, x, (x,), noise, packs=2, order=order)[0]


@verb
def sgd(
    runner: Runner, w: Array, g: Array, velocity: Array | None, lr: float, momentum: float,
    nesterov: bool, decay: float,
) -> tuple[Array, Array | None]:  # fmt: skip
    arrays = (w, g) if velocity is None else (w, g, velocity)
    if not alike(*arrays) or not isinstance(lr, Real):
        return NotImplemented
    lr, momentum, decay = numbers(w, lr, momentum, decay)
    if velocity is None:
        return *_pass(runner, f"sgd<{kind(w.dtype)}>", w, arrays, lr, decay), None
    given = lr, momentum, np.int32(nesterov), decay
    new_w, new_velocity = _pass(
        runner, f"sgd_momentum<{kind(w.dtype)}>", w, arrays, *given, results=2
    )
    return new_w, new_velocity


@verb
def adam(
    runner: Runner, w: Array, g: Array, mean: Array, square: Array, lr: float, beta1: float,
    beta2: float, eps: float, count: int, decay: float, decoupled: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    arrays = w, g, mean, square
    if not alike(*arrays) or not isinstance(lr, Real) or not isinstance(count, Real):
        return NotImplemented
    shrink, coupled = (1.0 - lr * decay, 0.0) if decoupled else (1.0, decay)
    rate, correction = lr / (1.0 - beta1**count), 1.0 / math.sqrt(1.0 - beta2**count)
    step = beta1, 1.0 - beta1, beta2, 1.0 - beta2, rate, correction, eps, shrink, coupled
    given = np.array([step], ADAM[wider(w.dtype)])
    new_w, new_mean, new_square = _pass(
        runner, f"adam<{kind(w.dtype)}>", w, arrays, given, results=3
    )
    return new_w, new_mean, new_square


def _pass(
    runner: Runner, kernel: str, like: Array, arrays: tuple[Array, ...], *given: Any,
    packs: int = 1, results: int = 1, order: Ints | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    """What a kernel makes of arrays, `packs` a thread, and of more: arrays that lie as `like`."""
    order = memory_order(like) if order is None else order
    made = tuple(empty(runner, like.shape, order, like.dtype) for _ in range(results))
    if like.size:
        share = BLOCK * packs * PACK // like.itemsize
        taken = (*(laid(x, order) for x in arrays), *made, np.int64(like.size), *given)
        grid = -(-like.size // share), 1, 1
        runner.launch(Launch(kernel, grid, (BLOCK, 1, 1), 0, taken))
    return made


def _function(name: str, options: tuple[Any, ...]) -> str | None:
    """The kernels' name of an activation with such options; None where they have none."""
    if not all(isinstance(option, str | Real) for option in options):
        return None
    if name == "softplus" and not options[0] > 0:  # wrong, as the definition says
        return None
    return ACTIVATIONS.get((name, *(option for option in options if isinstance(option, str))))


def _options(x: Array, options: tuple[Any, ...]) -> tuple[Any, ...]:
    """The two numbers that every activation takes, 0 for those that it has not."""
    given = [option for option in options if not isinstance(option, str)]
    return numbers(x, *given, *(0.0,) * (2 - len(given)))


@lru_cache(maxsize=64)
def _noise(
    number: np.dtype, scale: float, threshold: int, low: int, high: int, channels: int, space: int
) -> np.ndarray:
    """kernels/dropout.cu's Dropout."""
    names = [("scale", number), ("threshold", "u4"), ("key", "u4", 2)]
    struct = np.dtype([*names, ("channels", DIVIDER), ("space", DIVIDER)], align=True)
    key = low % 2**32, high % 2**32
    axes = divider(channels, "int"), divider(space, "int")
    return np.array([(scale, threshold, key, *axes)], struct)
