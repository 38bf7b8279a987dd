"""Products of matrices, as the direct convolution of a 1x1 kernel.

NumPy's BLAS does them as fast; but its threads, once called, keep a core busy for a tenth of a
second, in case another product comes, and all that we do in that time would wait for them.
"""

from __future__ import annotations

import numpy as np

from ..._xp import Array
from . import _direct
from ._arrays import empty
from ._bands import Geometry
from ._jit import takes

LEAST = 2**17
"""Products of numbers from which on BLAS would call its threads."""

ROW = 64
"""Pixels of a row into which those of a matrix are cut, or half or twice as many, if they can."""

POINTWISE: Geometry = (1,) * 9 + (0,) * 3


def matmul(a: Array, b: Array) -> Array:
    if not takes(a, b) or a.ndim != 2 or b.ndim != 2:
        return NotImplemented
    if len(a) * b.size < LEAST:
        return NotImplemented
    if _copied(b.T, a.T) < _copied(a, b):
        return np.ascontiguousarray(_product(b.T, a.T).T)
    return _product(a, b)


def _copied(a: Array, b: Array) -> int:
    """Numbers to be copied for a (P, C) as pixels with channels last, and b (C, O) as weights."""
    return b.size + (0 if a.strides[1] == a.itemsize else a.size)


def _product(a: Array, b: Array) -> Array:
    (pixels, channels), out_channels = a.shape, b.shape[1]
    c = empty((pixels, out_channels), a.dtype)
    about = range(max(1, pixels // (2 * ROW)), 2 * pixels // ROW + 1)
    rows = next((n for n in about if pixels % n == 0), 1)
    image = np.ascontiguousarray(a).reshape(1, 1, rows, -1, channels)
    weights = b.T.reshape(1, out_channels, channels, 1, 1, 1)
    _direct.forward(image, weights, None, POINTWISE, c.reshape(1, 1, rows, -1, out_channels))
    return c
