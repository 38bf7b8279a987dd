"""Sharing a kernel's tasks among threads, which wait for each other without the GIL.

To wake a thread takes as long as many a kernel. Ours therefore stay awake for a moment after each,
within compiled code, until a bell rings for the next. The threads are our own: Numba's must not be
used by two callers at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..settings import current

LEAST = 2**17
"""Bytes of arrays from which on a kernel is shared: others are done before help would come."""

SHARES = 8
"""Shares of the tasks for each thread, so that a core which another program holds delays no one."""

PATIENCE = 50_000
"""How often a thread looks for the bell before it sleeps: for a few milliseconds, during which it
holds the last kernel's arrays."""

CALLERS = 500_000
"""How often a caller looks whether all is done before it sleeps, `POLL` seconds at a time."""
POLL = 1e-3

LOOKS = 32
"""Looks after which a thread gives way, lest the one it waits for be waiting for its processor."""


class Tasks(NamedTuple):
    """What a kernel takes its tasks from, rings first, and waits for in the end.

    The tally is the next task, how many there are, how many make a share, and how many are done.
    `bell` is an address, or 0; at the address `awaited` a number is to reach `until`, and is looked
    at so often.
    """

    tally: np.ndarray
    bell: int = 0
    awaited: int = 0
    until: int = 0
    looks: int = 0


NEXT, DONE = 0, 3
"""Places in a tally."""

TASKS = types.NamedTuple((types.Array(types.intp, 1, "C"), *[types.intp] * 4), Tasks)


@njit
def taken(tasks):
    """The numbers of tasks to do, a share at a time: whoever is done takes the next."""
    tally, bell, awaited, until, looks = tasks
    _, count, share, _ = tally
    if bell:
        _add(bell, 1)
    while True:
        first = _add(tally.ctypes.data, share)
        if first >= count:
            break
        beyond = min(first + share, count)
        for task in range(first, beyond):  # noqa: UP028 unknown to Numba
            yield task
        _add(tally[DONE:].ctypes.data, beyond - first)
    for look in range(looks):
        if _look(awaited) >= until:
            break
        if look % LOOKS == LOOKS - 1:
            _give_way()
        else:
            _pause()


def spread(function: Callable, count: int, *arguments: Any) -> None:
    """Call `function(tasks, *arguments)` with so many tasks, in several threads."""
    workers = min(threads(), count)
    if workers > 1 and sum(a.nbytes for a in arguments if isinstance(a, np.ndarray)) >= LEAST:
        _together(function, count, workers, arguments)
    else:
        function(Tasks(np.array([0, count, count, 0])), *arguments)


def _together(function: Callable, count: int, workers: int, arguments: tuple) -> None:
    pool = _pool()
    others = min(pool.threads, workers - 1)
    tally = np.array([0, count, -(-count // ((others + 1) * SHARES)), 0])
    bell, done = pool.bell.ctypes.data, tally[DONE:].ctypes.data
    next_ring = int(pool.bell[0]) + 2  # after that of this call
    errors: SimpleQueue = SimpleQueue()

    def assist() -> None:
        try:
            if tally[NEXT] < count:
                function(Tasks(tally, 0, bell, next_ring, PATIENCE), *arguments)
        except BaseException as error:
            errors.put(error)

    for _ in range(others):
        pool.queue.put(assist)
    try:
        function(Tasks(tally, bell, done, count, CALLERS), *arguments)
        while tally[DONE] < count:  # who takes no task is not waited for
            with contextlib.suppress(Empty):
                raise errors.get(timeout=POLL)
    finally:
        tally[NEXT] = count  # after an error, nobody is to go on


class Pool(NamedTuple):
    """Threads, what they are to call, and a bell that tells those awake of it."""

    queue: SimpleQueue
    bell: np.ndarray
    threads: int


@functools.cache
def _pool() -> Pool:
    pool = Pool(SimpleQueue(), np.zeros(1, np.intp), max(1, cores() - 1))  # one for `threads=2`

    def serve() -> None:
        while True:
            pool.queue.get()()

    for number in range(1, pool.threads + 1):
        threading.Thread(target=serve, name=f"xpcnn-{number}", daemon=True).start()
    return pool


def threads() -> int:
    """How many threads share the tasks."""
    return current().threads or cores()


@functools.cache
def cores() -> int:
    """OMP_NUM_THREADS, or how many cores this process may run on, whatever a container's quota."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


@intrinsic
def _add(context, address, count):
    """Add `count` to the integer at an address, for all threads at once; its value before."""

    def generate(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "acq_rel")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def _look(context, address):
    """The integer at an address, as the others have left it."""

    def generate(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[0].type.as_pointer())
        return builder.load_atomic(pointer, "acquire", align=8)

    return types.intp(types.intp), generate


@intrinsic
def _give_way(context):
    """Let another thread run that waits for this processor."""

    def generate(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        _call(builder, ir.IntType(32), name)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _pause(context):
    """Let a processor that waits leave the core to its other half."""

    def generate(context, builder, signature, args):
        processor = builder.module.triple.partition("-")[0]
        name, *numbers = HINTS.get(processor, ("llvm.sideeffect",))
        _call(builder, ir.VoidType(), name, *map(ir.IntType(32), numbers))
        return context.get_dummy_value()

    return types.void(), generate


def _call(builder: ir.IRBuilder, result: ir.Type, name: str, *given: ir.Constant) -> None:
    kind = ir.FunctionType(result, [number.type for number in given])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)


HINTS = {
    "x86_64": ("llvm.x86.sse2.pause",),
    "aarch64": ("llvm.aarch64.hint", 1),
    "arm64": ("llvm.aarch64.hint", 1),
}
"""What tells a processor that it waits, by the first word of its triple: name and arguments."""
