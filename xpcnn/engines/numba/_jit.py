"""Compiling kernels when they are first wanted, and keeping them on disk."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import event
from numba.core.caching import FunctionCache

from ..._xp import Array
from ._threads import TASKS, spread

log = logging.getLogger("xpcnn")

INT, BOOL = types.intp, types.boolean

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
