"""Batches fetched ahead, while the last one is computed on."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(fetch: Callable[[T], R], orders: Iterable[T], ahead: int = 2) -> Iterator[R]:
    """Yield `fetch(order)` for each of the orders, made up to `ahead` of them early, in a thread.

    `fetch` runs in one thread, in the caller's context, and what it raises is raised where its
    result is due. The orders are drawn in the caller's own thread. Once the iterator has ended or
    is closed, the thread has ended too: closing waits for a fetch that has begun.

    Raises ValueError for ahead < 1, TypeError where it is no integer.

    >>> list(prefetch(abs, [-1, 2, -3]))
    [1, 2, 3]

    Source: tf.data.Dataset.prefetch.
    """
    if operator.index(ahead) < 1:
        raise ValueError(f"prefetch: ahead must be at least 1; it is {ahead}")
    return _fetched(fetch, orders, ahead)


def _fetched(fetch: Callable[[T], R], orders: Iterable[T], ahead: int) -> Iterator[R]:
    context, waiting = copy_context(), deque[Future[R]]()
    pool = ThreadPoolExecutor(1, thread_name_prefix="xpcnn-prefetch")
    try:
        for order in orders:
            waiting.append(pool.submit(context.run, fetch, order))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
