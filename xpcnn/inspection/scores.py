"""What a classifier gets right and wrong, counted on the host."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._check import require_count
from .._xp import Array, to_numpy


class ClassScores(NamedTuple):
    """For each class, floating but for `support`, how many images are of it: arrays (K,).

    `precision` is the share of those said to be of the class that are, `recall` of those that are
    of it that were said to be, `f1` the harmonic mean of the two; 0 where there are none.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> np.ndarray:
    """How many images of each class (rows) were taken for each (columns): int64 (K, K).

    `labels` and `predicted` (N,) hold integers from 0 to K - 1, K being `classes`.

    Raises ValueError for others, and for two of different length; TypeError for other kinds.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2)
    array([[1, 1],
           [0, 1]])

    Source: sklearn.metrics.confusion_matrix.
    """
    call = "confusion_matrix"
    require_count(call, "classes", classes)
    rows = codes(call, "labels", labels, classes)
    columns = codes(call, "predicted", predicted, classes, len(rows))
    counts = np.bincount(rows * classes + columns, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.int64)


def class_scores(matrix: Array) -> ClassScores:
    """Precision, recall, F1 and support of each class, from a confusion matrix (K, K).

    Raises ValueError where it is not square or holds counts below 0, TypeError for other kinds.

    >>> class_scores([[1, 1], [0, 1]]).recall
    array([0.5, 1. ])

    Source: sklearn.metrics.precision_recall_fscore_support, with zero_division=0.
    """
    counts = _host(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(
            f"class_scores: matrix must be (K, K), true by predicted; it is {counts.shape}"
        )
    if counts.dtype.kind not in "iu":
        raise TypeError(f"class_scores: matrix must hold integers, not {counts.dtype}")
    if counts.min() < 0:
        raise ValueError(f"class_scores: matrix must hold counts; one is {counts.min()}")
    right, support, said = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    return ClassScores(
        _share(right, said), _share(right, support), _share(2 * right, said + support), support
    )


def most_confident_mistakes(labels: Array, probabilities: Array, count: int) -> np.ndarray:
    """Where the likeliest class is not the label, the surest first: indices (M,), M <= `count`.

    `labels` (N,) hold integers from 0 to K - 1, `probabilities` are (N, K). Of equals the first
    comes first.

    Raises ValueError for other shapes, labels and counts, TypeError for other kinds.

    >>> most_confident_mistakes([0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]], 2)
    array([2, 1])

    Source: Nielsen, "Neural networks and deep learning", 2015, chapter 6.
    """
    call = "most_confident_mistakes"
    require_count(call, "count", count)
    rows = _host(probabilities)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"{call}: probabilities must be (N, K); they are {rows.shape}")
    if rows.dtype.kind != "f":
        raise TypeError(f"{call}: probabilities must be floating, not {rows.dtype}")
    truth = codes(call, "labels", labels, rows.shape[1], len(rows))
    wrong = np.flatnonzero(np.argmax(rows, axis=1) != truth)
    surest_first = np.argsort(-np.max(rows[wrong], axis=1), stable=True)
    return wrong[surest_first][:count]


def codes(call: str, name: str, given: Any, classes: int, count: int | None = None) -> np.ndarray:
    """Integers (N,) from 0 to classes - 1 on the host, int64; N is `count` where that is given.

    Raises ValueError for another shape or range, TypeError for what are no integers.

    >>> codes("saliency", "classes", [2, 0], 3)
    array([2, 0])
    """
    found = _host(given)
    if found.ndim != 1 or count not in (None, len(found)):
        length = "N" if count is None else count
        raise ValueError(f"{call}: {name} must be ({length},); they are {found.shape}")
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(f"{call}: {name} must be integers, not {found.dtype}")
    beyond = found[(found < 0) | (found >= classes)]
    if beyond.size:
        raise ValueError(
            f"{call}: {name} must be from 0 to {classes - 1}; one of them is {beyond[0]}"
        )
    return found.astype(np.int64)


def _host(given: Any) -> np.ndarray:
    return to_numpy(given) if hasattr(given, "shape") else np.asarray(given)


def _share(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    """some / of, 0 where there are none."""
    return np.divide(some, of, out=np.zeros(len(of)), where=of > 0)
