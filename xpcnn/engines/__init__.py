"""The seam between operations and whoever computes them: nine verbs over one window.

`conv`, `conv_dx` and `conv_dw` are each other's adjoints: <conv(x, w), dy> = <x, conv_dx(dy, w)> =
<w, conv_dw(x, dy)>. Arrays are logical NCHW with whatever strides. A library's engines are asked in
order; one that does not do a call returns NotImplemented. `generic` is the definition of truth and
never declines.

Source: the three verbs are NNlib.jl's conv, grad conv data and grad conv filter.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from .._xp import Array, library
from ..window import Ints, Window
from .settings import current, note_choice, noted, use

__all__ = [
    "ENGINES", "avg_pool", "avg_pool_dx", "col2im", "conv", "conv_dw", "conv_dx", "im2col",
    "max_pool", "max_pool_dx", "noted", "offered", "takes_half", "use",
]  # fmt: skip

ENGINES = {
    "numpy": ("numba", "numpy", "generic"),
    "cupy": ("cuda", "generic"),
    "torch": ("torch", "generic"),
    "jax": ("jax", "generic"),
    "strict": ("generic",),
}

Divisor = int | tuple[Ints, ...]
"""One divisor for all outputs, or one per output and axis, whose outer product divides."""

Bounds = tuple[float, float | None]
"""The least and the largest that a result is clipped to; no bound where high is None."""


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    """Cross-correlate x (N, C, *in) with w (O, C/G, *kernel), add b (O,): (N, O, *out)."""
    return _ask("conv", x, w, window, b)


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    """Gradient of x (N, C, *in) from dy (N, O, *out)."""
    return _ask("conv_dx", dy, w, window)


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    """Gradient of w (O, C/G, *kernel) from x and dy (N, O, *out)."""
    return _ask("conv_dw", x, dy, window)


def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    """Maxima (N, C, *out) and, on request, their flat places in each unpadded input plane."""
    return _ask("max_pool", x, window, indices)


def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    """Gradient of x (N, C, *in): dy goes to the one place that held the maximum."""
    return _ask("max_pool_dx", dy, indices, window)


def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    """Sums over windows, padding being 0, divided: (N, C, *out)."""
    return _ask("avg_pool", x, window, divisor)


def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    """Gradient of x (N, C, *in): dy / divisor spread over each window."""
    return _ask("avg_pool_dx", dy, window, divisor)


def im2col(x: Array, window: Window) -> Array:
    """Columns (N, C*K, L) of x (N, C, *in): K kernel places, L outputs."""
    return _ask("im2col", x, window)


def col2im(cols: Array, window: Window) -> Array:
    """The adjoint of im2col: every column entry is added where it came from."""
    return _ask("col2im", cols, window)


def offered(verb: str, x: Array, *rest: Any) -> Any:
    """What an engine offers to do in fewer passes over memory; NotImplemented where none does.

    These verbs are not asked of every engine, `generic` has none of them: whoever calls has the
    definition. Channels are axis 1.

    - `clip(x, low, high)`: x within [low, high], NaN passing, no bound where high is None;
      `clip_dx(dy, y, low, high)`: dy * 1 where low < y < high, dy * 0 elsewhere,
      or 0 itself if dy is infinite.
    - `activation(x, name, *options)`: what the op of that name makes of x; `activation_dx(dy, held,
      name, *options)`: the gradient of its x, of x or, for sigmoid and tanh, y.
    - `dropout(x, threshold, scale, key)`: x * scale where the higher 24 bits of the key's word of
      an entry, by `random.bits`, are below threshold, else 0.
    - `channel_sums(x)`: (C,), over all other axes.
      `matmul(a, b, add)`: the product of a (..., K) and b (K, M), plus add (M,) unless None.
    - `batch_norm(x, mean, var, weight, bias, eps, bounds)`: y, clipped unless bounds are None.
    - `batch_norm_train(x, weight, bias, eps, bounds)`: (y, mean, var); `batch_norm_train_dx(dy, x,
      mean, var, weight, bias, eps, bounds)`: (dx, dweight, dbias).
    - `sgd(w, g, velocity, lr, momentum, nesterov, decay)`: (w, velocity); `adam(w, g, mean, square,
      lr, beta1, beta2, eps, count, decay, decoupled)`: (w, mean, square). All are new arrays, but
      velocity is None where there is no momentum.
    """
    for engine in _engines(x):
        function = getattr(engine, verb, None)
        answer = function(x, *rest) if function else NotImplemented
        if answer is not NotImplemented:
            note_choice(verb, engine.__name__.rpartition(".")[2])
            return answer
    return NotImplemented


def takes_half(x: Array) -> bool:
    """Whether x's engine computes half precision in float32 by itself, and rounds once."""
    return getattr(next(_engines(x)), "HALF", False)


def _ask(verb: str, x: Array, *rest: Any) -> Any:
    answer = offered(verb, x, *rest)
    assert answer is not NotImplemented, f"generic declined {verb}"
    return answer


def _engines(x: Array) -> Iterator[ModuleType]:
    """Those to ask in turn: the library's own, from the forced one on."""
    forced, names = current().engine, ENGINES[library(x)]
    if forced and forced not in names:
        raise ValueError(
            f"use({forced!r}): that engine takes no {library(x)} arrays; "
            f"they have {', '.join(names)}"
        )
    if forced and _engine(forced) is None:
        raise ValueError(f"use({forced!r}): {forced} cannot be imported; pip install {forced}")
    for name in names[names.index(forced) :] if forced else names:
        if engine := _engine(name):
            yield engine


@functools.cache
def _engine(name: str) -> ModuleType | None:
    """The engine's module; None where what it needs is not installed, or not for this NumPy."""
    if name == "numba" and find_spec(name) is None:
        return None
    try:
        return import_module(f".{name}", __name__)
    except ImportError as error:
        ours = (error.name or "").partition(".")[0] == "xpcnn"
        if name != "numba" or ours:
            raise
        logging.getLogger("xpcnn").warning("going on without numba: %s", error)
        return None
