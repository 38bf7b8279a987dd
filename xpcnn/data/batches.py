"""Which images go together in one step."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np

from ..random import Key, permutation


def batches(n: int, size: int, key: Key | None = None) -> Iterator[np.ndarray]:
    """The indices 0 to n - 1 in batches of `size`, the last one perhaps smaller: int64 arrays.

    In a random order told by `key`, or as they come where it is None. For another order in each
    epoch, fold the epoch into the key. Raises ValueError for n < 0 or size < 1 and TypeError where
    they are no integers.

    >>> list(batches(5, 2))
    [array([0, 1]), array([2, 3]), array([4])]
    """
    n, size = operator.index(n), operator.index(size)
    if n < 0 or size < 1:
        raise ValueError(f"batches: n must be >= 0 and size >= 1; they are {n} and {size}")
    order = np.arange(n, dtype=np.int64) if key is None else permutation(key, n)
    return (order[start : start + size] for start in range(0, n, size))
