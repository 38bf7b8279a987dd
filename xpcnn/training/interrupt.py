"""Ctrl-C and SIGTERM between two steps instead of within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and has written how far it came.

    `signal` is the number of what asked: SIGINT for Ctrl-C, or SIGTERM; `rank` that of this process
    among `ranks`, all of which stop.
    """

    def __init__(self, message: str, signal: int, rank: int = 0, ranks: int = 1) -> None:
        super().__init__(message)
        self.signal, self.rank, self.ranks = signal, rank, ranks


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int]]:
    """While the block runs, the first Ctrl-C or SIGTERM is noted only: what is yielded tells it.

    That is the signal's number, or 0. A second one acts as it did before. Outside the main thread,
    which alone may ask for signals, nothing is deferred.
    """
    noted = 0
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return

    def note(number: int, frame: object) -> None:
        nonlocal noted
        noted = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: noted
    finally:
        restore()
