"""Compiling kernels when they are first wanted, and running them on all cores."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import event
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from ..._xp import Array
from ..settings import current

log = logging.getLogger("xpcnn")

INT, BOOL = types.intp, types.boolean

TASKS = types.Array(INT, 1, "C")
"""The type of what a kernel takes its tasks from."""


FLOATING = (np.dtype(np.float32), np.dtype(np.float64))


def takes(*arrays: Array) -> bool:
    """Whether all are plain arrays of one dtype that kernels know, with no byte out of place."""
    dtype = arrays[0].dtype
    return dtype in FLOATING and all(
        type(a) is np.ndarray and a.dtype == dtype and a.flags.aligned for a in arrays
    )


def read(rank: int) -> Callable:
    """The type of an array that is only read, of any strides."""
    return lambda number: types.Array(number, rank, "A", readonly=True)


def write(rank: int) -> Callable:
    """The type of an array of any strides that is written."""
    return lambda number: types.Array(number, rank, "A")


def number(number: types.Float) -> types.Float:
    """The type of a single entry."""
    return number


def ints(count: int) -> types.UniTuple:
    """The type of a tuple of integers."""
    return types.UniTuple(INT, count)


def kernel(*arguments: Any) -> Callable:
    """Compile a function `f(tasks, *arguments)` that does what is `taken(tasks)`, without the GIL.

    Returns `run(tasks, *arrays and numbers)`, which shares the tasks among threads. The entries'
    type is that of the first array; each type is compiled when it is first asked for, then kept on
    disk. Arrays are declared with any strides, lest every memory layout be compiled apart.
    """

    def decorate(function: Callable) -> Callable:
        @functools.cache
        def compiled(dtype: np.dtype) -> Callable:
            entry = numba.from_dtype(dtype)
            given = [a if isinstance(a, types.Type) else a(entry) for a in arguments]
            made: Any = numba.njit(nogil=True)(function)
            with contextlib.suppress(RuntimeError):  # where no folder may be written: not kept
                made._cache = _Cache(function)
            name = f"{function.__name__}({dtype})"
            with event.install_listener("numba:compile", _Announce(name)):
                made.compile(types.void(TASKS, *given))
            made.disable_compile()
            return made

        @functools.wraps(function)
        def run(tasks: int, *given: Any) -> None:
            array = next(a for a in given if isinstance(a, np.ndarray) and a.dtype.kind == "f")
            spread(compiled(array.dtype), tasks, *given)

        return run

    return decorate


class _Cache(FunctionCache):
    """Kernels on disk, compiled anew when any file of this engine or beside it has changed.

    Numba looks at a function's own file alone, and not at what it calls.
    """

    def _index_key(self, signature: Any, codegen: Any) -> tuple:
        return (*super()._index_key(signature, codegen), _sources())


@functools.cache
def _sources() -> str:
    here = Path(__file__).parent
    files = sorted((*here.glob("*.py"), *here.parent.glob("*.py")))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Announce(event.Listener):
    """Says what is being compiled, since it takes a while; what comes from the disk is silent."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_start(self, event: Any) -> None:
        if self.name:
            log.info("compiling the kernel %s; it is kept on disk where that can be", self.name)
        self.name = ""

    def on_end(self, event: Any) -> None:
        pass


@intrinsic
def _fetch_add(context, address, count):
    """Add `count` to the integer at an address, for all threads at once; its value before."""

    def generate(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "monotonic")

    return types.intp(types.intp, types.intp), generate


@numba.njit
def taken(tasks):
    """The numbers of tasks to do, a share at a time: whoever is done takes the next.

    `tasks` are three numbers: the next task, how many there are, and how many make a share.
    """
    _, end, share = tasks
    while True:
        first = _fetch_add(tasks.ctypes.data, share)
        if first >= end:
            return
        for task in range(first, min(first + share, end)):  # noqa: UP028 unknown to Numba
            yield task


def spread(function: Callable, count: int, *arguments: Any) -> None:
    """Call `function(tasks, *arguments)` with so many tasks, in several threads.

    A first share is done alone and timed: others are woken only where what is left takes longer
    than that. Who is done takes the next share, so that a core which another program holds delays
    no one else. The threads are our own: Numba's must not be used by two callers at once.
    """
    workers = min(threads(), count)
    if workers <= 1:
        function(np.array([0, count, count]), *arguments)
        return
    begun, probe = time.perf_counter(), -(-count // (workers * PROBES))
    function(np.array([0, probe, probe]), *arguments)
    if (time.perf_counter() - begun) * (count - probe) < WAKING * probe:
        function(np.array([probe, count, count]), *arguments)
        return
    left = np.array([probe, count, -(-(count - probe) // (workers * SHARES))])
    _together(lambda: function(left, *arguments), workers - 1)


PROBES, SHARES = 16, 8
"""Shares of each thread, if all were as small as the first, and of the rest."""

WAKING = 2e-4
"""Seconds of work that are worth waking a thread, which takes about a quarter of that."""


def _together(work: Callable[[], None], others: int) -> None:
    """Call `work` here and in so many other threads; raise what one of them raises."""
    joined: list[None] = []
    done: SimpleQueue = SimpleQueue()

    def join() -> None:
        joined.append(None)
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        done.put(error)

    for _ in range(others):
        _queue().put(join)
    join()  # whoever has not joined by its end will find no work, and is not waited for
    for error in [done.get() for _ in joined]:
        if error:
            raise error


@functools.cache
def _queue() -> SimpleQueue:
    """What our threads, which wait for it, are to call."""
    queue: SimpleQueue = SimpleQueue()

    def serve() -> None:
        while True:
            queue.get()()

    for number in range(1, max(2, cores())):  # one at least, for `use(threads=2)`
        threading.Thread(target=serve, name=f"xpcnn-{number}", daemon=True).start()
    return queue


def threads() -> int:
    """How many threads share the tasks."""
    return current().threads or cores()


@functools.cache
def cores() -> int:
    """OMP_NUM_THREADS, or how many cores this process may run on."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_queue.cache_clear)  # threads do not survive a fork
