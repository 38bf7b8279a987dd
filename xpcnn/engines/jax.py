"""XLA's own convolutions and reductions of windows; all else is compiled as one program.

The gradients of convolutions and averages are the transposes that jax.grad takes. That of a maximum
goes by an index, which takes less time than the search by which jax.grad finds the places again.
Columns are those of `generic`: a convolution would make NaN of infinite neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jax import numpy as jnp

from .._xp import Array, product
from ..window import Window
from . import Divisor, generic

_of_window = partial(jax.jit, static_argnames=("window",))
_of_average = partial(jax.jit, static_argnames=("window", "divisor"))


@_of_window
def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    y = lax.conv_general_dilated(
        x,
        w,
        window.stride,
        _padding(window),
        rhs_dilation=window.dilation,
        feature_group_count=window.groups,
        precision=lax.Precision.HIGHEST,
    )
    return y if b is None else y + jnp.reshape(b, (-1, *(1,) * window.rank))


@_of_window
def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    shape = (dy.shape[0], w.shape[1] * window.groups, *window.in_size)
    return _transpose(lambda x: conv(x, w, window), shape, dy)


@_of_window
def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    shape = (dy.shape[1], x.shape[1] // window.groups, *window.kernel)
    return _transpose(lambda w: conv(x, w, window), shape, dy)


@partial(jax.jit, static_argnames=("window", "indices"))
def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    # of windows that are dilated or that crop, JAX has no gradient
    if indices or max(window.dilation) > 1 or min(map(min, _padding(window))) < 0:
        return generic.max_pool(x, window, indices)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    least = -jnp.inf if floating else jnp.iinfo(x.dtype).min
    return _reduce(lax.max, x, window, least), None


@_of_window
def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    shape = (*dy.shape[:2], *window.in_size)
    dy, indices = lax.collapse(dy, 0, 2), lax.collapse(indices, 0, 2)
    plane = jnp.arange(dy.shape[0])[:, None]
    dx = jnp.zeros((dy.shape[0], product(window.in_size)), dy.dtype)
    for part in window.disjoint:  # on a GPU, XLA adds in any order what goes to one place
        places, values = (lax.collapse(a[..., *part], 1) for a in (indices, dy))
        dx = dx.at[plane, places].add(values, unique_indices=True)
    return jnp.reshape(dx, shape)


@_of_average
def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    return _reduce(lax.add, x, window, 0) / generic.as_divisor(x, divisor)


@_of_average
def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    shape = (*dy.shape[:2], *window.in_size)
    return _transpose(lambda x: avg_pool(x, window, divisor), shape, dy)


im2col = _of_window(generic.im2col)
col2im = _of_window(generic.col2im)


def _padding(window: Window) -> list[tuple[int, int]]:
    """What XLA pads; to crop less than a stride, which it drops by itself, would cost it a copy."""
    margins = zip(generic.margins(window), window.stride, strict=True)
    return [(before, 0 if -stride < after < 0 else after) for (before, after), stride in margins]


def _reduce(operation: Callable, x: Array, window: Window, start: float) -> Array:
    """What `operation` makes of each window of x, padded by `start`."""
    return lax.reduce_window(
        x,
        x.dtype.type(start),  # a JAX array would hide from JAX which gradient this has
        operation,
        (1, 1, *window.kernel),
        (1, 1, *window.stride),
        ((0, 0), (0, 0), *_padding(window)),
        window_dilation=(1, 1, *window.dilation),
    )


def _transpose(linear: Callable, shape: tuple[int, ...], dy: Array) -> Array:
    """The gradient, by dy, of the array of `shape` that `linear` was given."""
    (gradient,) = jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, dy.dtype))(dy)
    return gradient
