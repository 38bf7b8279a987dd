"""Compare what two functions compute, and time them in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

SAMPLE = 0.01
"""Seconds a sample lasts at least; shorter calls are repeated to fill it."""

PAUSE = 0.005
"""Seconds in which a process whose threads all sleep uses next to no processor."""


class Effort(NamedTuple):
    """How long to measure one case: at least so many rounds, and on for so many seconds."""

    rounds: int
    seconds: float


class Times(NamedTuple):
    """Seconds of one call."""

    median: float
    least: float


def measure(functions: Sequence[Callable[[], Any]], effort: Effort) -> list[Times]:
    """Time functions in turn, round by round, so that what slows the machine slows all alike."""
    repeats = [max(1, round(SAMPLE / _seconds(function, 1))) for function in functions]
    samples: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + effort.seconds
    while len(samples[0]) < effort.rounds or time.perf_counter() < end:
        for function, repeat, taken in zip(functions, repeats, samples, strict=True):
            taken.append(_seconds(function, repeat))
    return [Times(statistics.median(taken), min(taken)) for taken in samples]


def _seconds(function: Callable[[], Any], repeat: int) -> float:
    """Of one call, the mean of `repeat`; several are preceded by one that wakes the threads."""
    _settle()
    if repeat > 1:
        function()
    start = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - start) / repeat


def _settle() -> None:
    """Wait until all threads sleep: OpenBLAS's keep a core busy for up to 0.1 s after a product.

    They wait for the next one there, and would slow the other library, by more than tenfold.
    """
    used = -1.0
    while (now := time.process_time()) - used > PAUSE / 10:
        used = now
        time.sleep(PAUSE)


def difference(ours: Any, theirs: Any) -> float:
    """The largest of |ours - theirs| over the largest of |theirs|; the worst of several arrays."""
    return max(_difference(a, b) for a, b in zip(_arrays(ours), _arrays(theirs), strict=True))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    off = float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
    return off if off == off else float("inf")


def _arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(part) for part in parts if part is not None]
