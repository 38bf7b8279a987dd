"""Which images are held back to test with."""

from __future__ import annotations

import numpy as np

from ..random import fold_in, key, permutation

HELD_BACK = 0.2  # of a set that comes in one piece


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold back a fraction of each class: (train, test) indices, ascending int64, by `seed`.

    Test has round(fraction * N) of the N labels, each class its share rounded up or down; except
    that a class of two or more has at least one on each side, and a class of one is for training.
    Raises ValueError for labels that are not (N,), a fraction outside (0, 1), or where no class has
    two members.

    >>> stratified_split(np.array([0, 1, 0, 1, 0, 1, 0, 1]), 0.25, seed=0)
    (array([1, 2, 3, 4, 6, 7]), array([0, 5]))

    Source: the largest-remainder method (Hamilton's apportionment).
    """
    if labels.ndim != 1:
        raise ValueError(f"stratified_split: labels must be (N,); they are {labels.shape}")
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"stratified_split: fraction must lie in (0, 1); it is {fraction}")
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.max(initial=0) < 2:
        raise ValueError("stratified_split: labels must hold a class of two members at least")
    held = np.zeros(labels.size, np.bool_)
    for number, quota in enumerate(_quotas(counts, fraction)):
        members = np.flatnonzero(class_of == number)
        held[members[permutation(fold_in(key(seed), number), members.size)[:quota]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _quotas(counts: np.ndarray, fraction: float) -> np.ndarray:
    """How many of each class to hold back."""
    shares = (counts * fraction).round(9)  # 9: no remainder of 4e-16 where the share is whole
    quotas = np.floor(shares).astype(np.int64)
    total = int(counts.sum() * fraction + 0.5)
    largest = np.argsort(quotas - shares, kind="stable")
    quotas[largest[: total - quotas.sum()]] += 1
    return np.clip(quotas, np.minimum(counts - 1, 1), counts - 1)
