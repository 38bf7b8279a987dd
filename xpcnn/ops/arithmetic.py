"""Arithmetic between arrays whose shapes broadcast."""

from __future__ import annotations

from .._xp import Array
from ._op import op
from ._sums import sum_over


@op
def multiply(x: Array, y: Array) -> Array:
    """Product of x and y, entry by entry; what has size 1 along an axis repeats there.

    A gate of shape (N, C, 1, 1) so scales the channels of images. The gradient of what repeats is
    summed.

    Raises ValueError where ranks differ, or sizes of which none is 1.

    >>> import numpy as np
    >>> multiply(np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([[10.0], [1.0]]))
    array([[10., 20.],
           [ 3.,  4.]])

    Source: the Python array API standard's multiply; torch.mul.
    """
    _check(x, y)
    return x * y


@multiply.pullback
def _(x, y):
    def pull(dy: Array) -> tuple:
        return lambda: _summed(dy * y, x.shape), lambda: _summed(dy * x, y.shape)

    return multiply(x, y), pull


def _summed(grad: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of repeating an array of `shape`."""
    repeated = tuple(axis for axis, size in enumerate(shape) if size != grad.shape[axis])
    return sum_over(grad, repeated, keepdims=True)


def _check(x: Array, y: Array) -> None:
    sizes = zip(x.shape, y.shape, strict=False)
    if x.ndim != y.ndim or any(a != b and 1 not in (a, b) for a, b in sizes):
        raise ValueError(
            f"multiply: x {tuple(x.shape)} and y {tuple(y.shape)} must agree in rank and in every "
            "size, save where one is 1"
        )
