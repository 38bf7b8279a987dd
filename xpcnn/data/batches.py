"""Which images go together in one step."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator

import numpy as np

from ..random import Key, fold_in, permutation, threefry, uniform

WINDOW = 256  # runs that are shuffled with each other
ROUNDS = 8  # of the network that deals the runs: four are enough for many, not for a few runs
OFFSET, RUNS, WITHIN = range(3)  # what the key is folded with


def batches(
    n: int, size: int, key: Key | None = None, *, run: int = 1, start: int = 0
) -> Iterator[np.ndarray]:
    """The indices 0 to n - 1 in batches of `size`, the last one perhaps smaller: int64 arrays.

    In a random order told by `key`, or as they come where it is None. For another order in each
    epoch, fold the epoch into the key. The first `start` batches are left out, and not made.

    With a `run` above 1 the order suits what is read from a disk: runs of so many neighbours are
    dealt at random, and shuffled within a window of 256 runs and more. No more than two windows'
    indices are held at a time, however large n is.

    Raises ValueError for n < 0, size < 1, run < 1 or start < 0, and TypeError where they are no
    integers.

    >>> list(batches(5, 2))
    [array([0, 1]), array([2, 3]), array([4])]

    Source: torch.utils.data.BatchSampler; with a run, the buffer of tf.data.Dataset.shuffle.
    """
    n, size, run, start = map(operator.index, (n, size, run, start))
    if n < 0 or size < 1 or run < 1 or start < 0:
        raise ValueError(
            "batches: n and start must be >= 0, and size and run >= 1; they are"
            f" n={n}, start={start}, size={size}, run={run}"
        )
    if key is None:
        firsts = range(start * size, n, size)
        return (np.arange(first, min(first + size, n), dtype=np.int64) for first in firsts)
    if run == 1:
        order = permutation(key, n)
        return (order[first : first + size] for first in range(start * size, n, size))
    return _streamed(n, size, key, run, start)


def _streamed(n: int, size: int, key: Key, run: int, start: int) -> Iterator[np.ndarray]:
    """Batches of windows laid end to end."""
    windows = max(1, n // run // WINDOW)
    first = min(start * size // (run * WINDOW), windows - 1)
    skip = start * size - first * run * WINDOW
    held = np.empty(0, np.int64)
    for number in range(first, windows):
        held = np.concatenate([held, _window(n, key, run, number, number == windows - 1)[skip:]])
        skip, whole = 0, held.size - held.size % size
        yield from held[:whole].reshape(-1, size)
        held = held[whole:]
    if held.size:
        yield held


def _window(n: int, key: Key, run: int, number: int, last: bool) -> np.ndarray:
    """The indices of a window, shuffled. The last takes up what is too little for one."""
    runs = n // run
    places = np.arange(number * WINDOW, runs if last else (number + 1) * WINDOW, dtype=np.int64)
    dealt = _dealt(fold_in(key, RUNS), places, runs)
    indices = (dealt[:, np.newaxis] * run + np.arange(run)).reshape(-1)
    if last:
        indices = np.concatenate([indices, np.arange(runs * run, n)])
    indices += int(uniform(fold_in(key, OFFSET), (1,))[0] * n)  # runs begin elsewhere each time
    indices %= max(n, 1)
    return indices[permutation(fold_in(fold_in(key, WITHIN), number), indices.size)]


def _dealt(key: Key, places: np.ndarray, count: int) -> np.ndarray:
    """Where a random permutation of 0 to count - 1 puts `places`: only these are computed.

    A Feistel network permutes rows and columns of a table that is little larger. What comes to lie
    beyond `count` goes through it again, until it does not.

    Source: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
    """
    columns = math.isqrt(max(count, 1) - 1) + 1
    rows = -(-count // columns)
    words = np.asarray([[int(word)] for word in key], np.int32)

    def permuted(numbers: np.ndarray) -> np.ndarray:
        one, other = np.divmod(numbers, columns)
        for turn in range(ROUNDS):
            counter = other.astype(np.int32), np.full(1, turn, np.int32)
            noise, _ = threefry((words[0], words[1]), counter)
            one, other = other, (one + noise.view(np.uint32)) % (columns if turn % 2 else rows)
        return one * columns + other

    dealt = permuted(places)
    while (outside := dealt >= count).any():
        dealt[outside] = permuted(dealt[outside])
    return dealt
