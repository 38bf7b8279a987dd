"""Softmax along an axis, and its logarithm."""

from __future__ import annotations

from .._check import is_int
from .._xp import Array, namespace
from ._op import op


@op
def softmax(x: Array, dim: int = 1) -> Array:
    """e**x over its sum along the axis `dim`, by default the channels: positive, with sum 1.

    Infinities are taken by their limits, and equal ones share alike: a row (inf, inf, 0) gives
    (1/2, 1/2, 0) and a row of -inf equal parts.

    Raises ValueError for an axis that x lacks or that is empty.

    >>> import numpy as np
    >>> softmax(np.asarray([[0.0, 0.0], [1e9, np.inf]]))
    array([[0.5, 0.5],
           [0. , 1. ]])

    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs",
    1990.
    """
    xp = namespace(x)
    parts = xp.exp(_below_largest("softmax", x, dim))
    return parts / xp.sum(parts, axis=dim, keepdims=True)


@softmax.pullback
def _(x, dim=1):
    y, xp = softmax(x, dim), namespace(x)

    def pull(dy: Array) -> tuple:
        weighted = y * dy
        return (weighted - y * xp.sum(weighted, axis=dim, keepdims=True),)

    return y, pull


@op
def log_softmax(x: Array, dim: int = 1) -> Array:
    """The logarithm of `softmax` along the axis `dim`, by default the channels, to full precision.

    Raises ValueError for an axis that x lacks or that is empty.

    >>> import numpy as np
    >>> log_softmax(np.asarray([[0.0, 0.0], [0.0, 1e9]])).round(4)
    array([[-6.931e-01, -6.931e-01],
           [-1.000e+09,  0.000e+00]])

    Source: torch.nn.functional.log_softmax.
    """
    xp = namespace(x)
    below = _below_largest("log_softmax", x, dim)
    return below - xp.log(xp.sum(xp.exp(below), axis=dim, keepdims=True))


@log_softmax.pullback
def _(x, dim=1):
    y, xp = log_softmax(x, dim), namespace(x)
    return y, lambda dy: (dy - xp.exp(y) * xp.sum(dy, axis=dim, keepdims=True),)


def _below_largest(call: str, x: Array, dim: int) -> Array:
    """x less its maximum along dim; what equals the maximum, an infinity too, gives 0."""
    if not is_int(dim):
        raise TypeError(f"{call}: dim={dim!r}; give an int, the number of an axis")
    if not -x.ndim <= dim < x.ndim or x.shape[dim] == 0:
        wrong = "is empty along it" if -x.ndim <= dim < x.ndim else f"has axes 0 to {x.ndim - 1}"
        raise ValueError(f"{call}: dim={dim}, but x {tuple(x.shape)} {wrong}; name another axis")
    xp = namespace(x)
    largest = xp.max(x, axis=dim, keepdims=True)
    top, zero = x == largest, xp.zeros_like(largest)
    return xp.where(top, zero, x) - xp.where(top, zero, largest)
