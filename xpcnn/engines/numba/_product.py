"""Products of matrices, as the convolution by a kernel of one place, or its weight gradient.

NumPy's BLAS does them as fast; but its threads, once called, keep a core busy for a tenth of a
second, in case another product comes, and all that we do in that time would wait for them.
"""

from __future__ import annotations

from operator import itemgetter

import numpy as np

from ..._xp import Array
from .._lines import empty
from . import _correlation, _direct
from ._bands import Geometry
from ._jit import takes

LEAST = 2**17
"""Products of numbers from which on BLAS would call its threads."""

ROW = 64
"""Pixels of a row into which those of a matrix are cut, or half or twice as many, if they can."""

POINTWISE: Geometry = (1,) * 9 + (0,) * 3


def matmul(a: Array, b: Array, add: Array | None = None) -> Array:
    if not takes(a, b) or a.ndim != 2 or b.ndim != 2 or len(a) * b.size < LEAST:
        return NotImplemented
    ways = (
        (_pixels_copied(a, b), _by_pixels, a, b),
        (_pixels_copied(b.T, a.T), _by_pixels, b.T, a.T),
        (_terms_copied(a, b), _by_terms, a, b),
        (_terms_copied(b.T, a.T), _by_terms, b.T, a.T),
    )
    _, way, left, right = min(ways, key=itemgetter(0))
    product = np.ascontiguousarray(way(left, right) if left is a else way(left, right).T)
    if add is not None:
        product += add
    return product


def _pixels_copied(a: Array, b: Array) -> int:
    """About the numbers to copy for a (P, C) as pixels, channels last, and b (C, O) as weights."""
    return b.size + (0 if a.strides[1] == a.itemsize else a.size)


def _terms_copied(a: Array, b: Array) -> int:
    """About the numbers to copy for a (P, C) as C pixels of P channels, and the sums."""
    return a.size + len(a) * b.shape[1] + (0 if b.strides[1] == b.itemsize else b.size)


def _by_pixels(a: Array, b: Array) -> Array:
    """A convolution of the rows of a by b."""
    (pixels, channels), out_channels = a.shape, b.shape[1]
    c = empty((pixels, out_channels), a.dtype)
    about = range(max(1, pixels // (2 * ROW)), 2 * pixels // ROW + 1)
    rows = next((n for n in about if pixels % n == 0), 1)
    image = np.ascontiguousarray(a).reshape(1, 1, rows, -1, channels)
    weights = b.T.reshape(1, out_channels, channels, 1, 1, 1)
    _direct.forward(image, weights, None, POINTWISE, c.reshape(1, 1, rows, -1, out_channels))
    return c


def _by_terms(a: Array, b: Array) -> Array:
    """A weight gradient: the sum over rows of b, read where they are, times columns of a."""
    c = empty((len(a), b.shape[1]), a.dtype)
    image, grads = (m[None, None, None] for m in (np.ascontiguousarray(a.T), b))
    _correlation.weight_gradient(image, grads, POINTWISE, c.T.reshape(1, *c.T.shape, 1, 1, 1))
    return c
