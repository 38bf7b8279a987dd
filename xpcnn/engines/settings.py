"""What a caller may set for a while: which engine, and how much memory it may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .._check import require_count

NAMES = ("numba", "numpy", "cuda", "torch", "jax", "generic")
PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class Settings:
    """`engine` None takes the library's own order, `threads` None what the machine has.

    `workspace` is in bytes.
    """

    engine: str | None = None
    workspace: int = 64 * 2**20
    threads: int | None = None
    winograd: bool = True
    precision: str = "tf32" if os.environ.get("CUPY_TF32") == "1" else "float32"


class Choice(NamedTuple):
    """Which engine took a verb, by which algorithm, and why by that."""

    verb: str
    engine: str
    algorithm: str
    why: str


class _Notes:
    """The choices made, and what the engine at work has said of its own."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.said: dict[str, str] = {}


_notes: ContextVar[_Notes | None] = ContextVar("xpcnn_notes", default=None)


@contextmanager
def noted() -> Iterator[list[Choice]]:
    """The choices that engines make in a block, in order."""
    notes = _Notes()
    token = _notes.set(notes)
    try:
        yield notes.choices
    finally:
        _notes.reset(token)


def note(algorithm: str, why: str) -> None:
    """Say, in an engine, what it is about to do, if anybody listens."""
    if notes := _notes.get():
        notes.said[algorithm] = why


def note_choice(verb: str, engine: str) -> None:
    """Say that an engine has taken a verb."""
    if notes := _notes.get():
        why = "; ".join(notes.said.values())
        notes.choices.append(Choice(verb, engine, " and ".join(notes.said), why))
        notes.said = {}


_settings: ContextVar[Settings] = ContextVar("xpcnn_settings", default=Settings())


def current() -> Settings:
    """The settings in force in this context."""
    return _settings.get()


@contextmanager
def use(
    engine: str | None = None,
    *,
    workspace: int | None = None,
    threads: int | None = None,
    winograd: bool | None = None,
    precision: str | None = None,
) -> Iterator[Settings]:
    """Force an engine, or say how engines are to work, for a block.

    `engine`: "generic" (the definition, Array API only), "numpy", "numba", "cuda", "torch" or
    "jax"; what it does not do is left to the next. `workspace`: bytes a convolution of the numpy or
    the cuda engine may take beyond inputs, outputs and weights that lie oddly, 64 MiB unless set;
    they work in pieces that fit. `threads`: how many the numba engine uses, of OMP_NUM_THREADS or
    one per core at most. `winograd=False` forgoes Winograd's algorithm, which the numba and numpy
    engines take for 3x3 and 5x5 kernels in float32, and which costs a digit. `precision="tf32"`
    lets the cuda engine multiply float32 with 10 bits after the point, summed in float32, which
    GPUs from Ampere on have units for; "float32", the default unless the environment has
    CUPY_TF32=1, does not. What is not given stays as it was. The settings hold in this thread and
    task alone; under jax.jit, while the function is traced.

    Raises ValueError for an unknown engine or numbers below 1, TypeError for other kinds.

    >>> import numpy as np, xpcnn
    >>> with xpcnn.use("generic", workspace=2**20):
    ...     xpcnn.ops.max_pool1d(np.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2)
    array([[[3., 2.]]])

    Source: contextvars, PEP 567.
    """
    if engine is not None and engine not in NAMES:
        raise ValueError(f"use({engine!r}): no such engine; choose one of {', '.join(NAMES)}")
    for name, count in (("workspace", workspace), ("threads", threads)):
        if count is not None:
            require_count("use", name, count)
    if winograd is not None and not isinstance(winograd, bool):
        raise TypeError(f"use(winograd={winograd!r}): give True or False")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"use(precision={precision!r}): choose one of {', '.join(PRECISIONS)}")
    given: dict[str, Any] = {
        "engine": engine,
        "workspace": workspace,
        "threads": threads,
        "winograd": winograd,
        "precision": precision,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    token = _settings.set(replace(current(), **changed))
    try:
        yield current()
    finally:
        _settings.reset(token)
