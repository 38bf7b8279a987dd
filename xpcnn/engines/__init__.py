"""The seam between operations and whoever computes them: nine verbs over one window.

`conv`, `conv_dx` and `conv_dw` are each other's adjoints: <conv(x, w), dy> = <x, conv_dx(dy, w)> =
<w, conv_dw(x, dy)>. Arrays are logical NCHW with whatever strides. A library's engines are asked in
order; one that does not do a call returns NotImplemented. `generic` is the definition of truth and
never declines.

Source: the three verbs are NNlib.jl's conv, grad conv data and grad conv filter.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .._xp import Array, library
from ..window import Ints, Window
from .settings import current, use

__all__ = [
    "ENGINES", "avg_pool", "avg_pool_dx", "col2im", "conv", "conv_dw", "conv_dx", "im2col",
    "max_pool", "max_pool_dx", "use",
]  # fmt: skip

ENGINES = {
    "numpy": ("numpy", "generic"),
    "cupy": ("generic",),
    "torch": ("generic",),
    "jax": ("generic",),
    "strict": ("generic",),
}

Divisor = int | tuple[Ints, ...]
"""One divisor for all outputs, or one per output and axis, whose outer product divides."""


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


def _ask(verb: str, x: Array, *rest: Any) -> Any:
    forced = current().engine
    names = ENGINES[library(x)]
    if forced and forced not in names:
        raise ValueError(
            f"use({forced!r}): that engine takes no {library(x)} arrays; "
            f"they have {', '.join(names)}"
        )
    for name in (forced,) if forced else names:
        answer = getattr(import_module(f".{name}", __name__), verb)(x, *rest)
        if answer is not NotImplemented:
            return answer
    raise ValueError(f"use({forced!r}): that engine declines this {verb}; leave the choice open")
