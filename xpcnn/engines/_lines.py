"""NumPy arrays that begin with a line of memory, lest each of their vectors lie in two of them."""

from __future__ import annotations

import numpy as np

LINE = 64
"""Bytes that come from memory together."""


def empty(shape, dtype):
    """A new array of a dtype; its entries are not set."""
    size = 1
    for length in shape:  # Numba compiles this too, and knows no math.prod
        size *= length
    memory = np.empty(size + LINE, dtype)
    start = -memory.ctypes.data % LINE // memory.itemsize
    return memory[start : start + size].reshape(shape)


def zeros(shape, dtype):
    """The same, of zeros."""
    array = empty(shape, dtype)
    array[...] = 0
    return array
