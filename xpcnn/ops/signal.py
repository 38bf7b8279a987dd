"""Correlation and convolution in the mathematical sense, of plain 1-d and 2-d arrays.

What networks call a convolution is a correlation: the kernel is not flipped. Here both have their
own names.
"""

from __future__ import annotations

from .. import engines
from .._xp import Array, namespace
from ..window import Window, conv_window
from ._op import op


@op(integers=("x", "k"))
def correlate(x: Array, k: Array, mode: str = "full") -> Array:
    """Slide k over x, both of rank 1 or both of rank 2, and sum the products.

    With `mode` "full" wherever they meet: (X + K - 1) outputs an axis; "same": the middle X of
    those; "valid": where k lies wholly within x, X - K + 1. Real floats or integers, of one dtype.

    Raises ValueError for other ranks or modes, or where k does not fit in "valid".

    >>> import numpy as np
    >>> x = np.reshape(np.arange(9), (3, 3))
    >>> correlate(x, np.asarray([[0, 1], [2, 3]]), "valid")
    array([[19, 25],
           [37, 43]])

    Source: scipy.signal.correlate.
    """
    window = _window("correlate", x, k, mode)
    return engines.conv(_as_image(x), _as_image(k), window)[0, 0, ...]


@correlate.pullback
def _(x, k, mode="full"):
    window = _window("correlate", x, k, mode)
    image, kernel = _as_image(x), _as_image(k)

    def pull(dy: Array) -> tuple:
        dy = _as_image(dy)
        return (
            lambda: engines.conv_dx(dy, kernel, window)[0, 0, ...],
            lambda: engines.conv_dw(image, dy, window)[0, 0, ...],
        )

    return engines.conv(image, kernel, window)[0, 0, ...], pull


@op(integers=("x", "k"))
def convolve(x: Array, k: Array, mode: str = "full") -> Array:
    """Convolve x with k: `correlate` with k flipped along every axis.

    Two dice: the sum's distribution is the convolution of theirs.

    >>> import numpy as np
    >>> die = np.ones(6) / 6
    >>> round(float(convolve(die, die)[4 - 2]) * 36)
    3

    Source: scipy.signal.convolve.
    """
    _window("convolve", x, k, mode)
    return correlate(x, namespace(k).flip(k), mode)


@convolve.pullback
def _(x, k, mode="full"):
    xp = namespace(k)
    _window("convolve", x, k, mode)
    y, pull_correlate = correlate.vjp(x, xp.flip(k), mode)

    def pull(dy: Array) -> tuple:
        dx, dk = pull_correlate(dy)
        return dx, xp.flip(dk)

    return y, pull


def _as_image(x: Array) -> Array:
    return x[None, None, ...]


def _window(call: str, x: Array, k: Array, mode: str) -> Window:
    if x.ndim not in (1, 2) or x.ndim != k.ndim or 0 in (*x.shape, *k.shape):
        raise ValueError(
            f"{call}: x and k must both be 1-d or both 2-d, and not empty; they are "
            f"{tuple(x.shape)} and {tuple(k.shape)}"
        )
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"{call}: mode={mode!r}; give 'full', 'same' or 'valid'")
    if k.dtype != x.dtype:
        raise TypeError(
            f"{call}: x is {x.dtype} and k is {k.dtype}; convert one, so that both share a dtype"
        )
    overlap = [max(n - 1, 0) for n in k.shape]
    padding = {
        "full": [(n, n) for n in overlap],
        "same": [(n - n // 2, n // 2) for n in overlap],
        "valid": [(0, 0) for _ in overlap],
    }[mode]
    shapes = ((1, 1, *x.shape), (1, 1, *k.shape))
    return conv_window(call, x.ndim, *shapes, None, 1, padding, 1, 1)
