"""Sums that keep their digits."""

from __future__ import annotations

from .._xp import Array, namespace
from ._offered import offered


@offered("channel_sums")
def channel_sums(x: Array) -> Array:
    """Sums (C,) of x (N, C, *space) over all axes but that of the channels."""
    return sum_over(x, (0, *range(2, x.ndim)))


def sum_over(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """Sum of x over `axes`: over those of a sample first, then over the batch, axis 0.

    NumPy adds what is not contiguous one by one, so that in float32 a long sum over channels-last
    memory would lose two digits; two shorter ones cost no more.

    >>> import numpy as np
    >>> sum_over(np.ones((2, 3, 4)), (0, 2))
    array([8., 8., 8.])

    Source: Higham, "The accuracy of floating point summation", 1993.
    """
    xp = namespace(x)
    for together in (
        tuple(axis for axis in axes if axis),
        tuple(axis for axis in axes if not axis),
    ):
        if together:
            x = xp.sum(x, axis=together, keepdims=True)
    return x if keepdims else xp.squeeze(x, axis=axes)
