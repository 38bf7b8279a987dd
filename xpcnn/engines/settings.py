"""What a caller may set for a while: which engine, and how much memory it may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .._check import require_count

NAMES = ("numpy", "generic")


@dataclass(frozen=True)
class Settings:
    """`engine` None takes the library's own order; `workspace` is in bytes."""

    engine: str | None = None
    workspace: int = 64 * 2**20


_settings: ContextVar[Settings] = ContextVar("xpcnn_settings", default=Settings())


def current() -> Settings:
    """The settings in force in this context."""
    return _settings.get()


@contextmanager
def use(engine: str | None = None, *, workspace: int | None = None) -> Iterator[Settings]:
    """Force an engine, or bound the memory engines take beyond inputs and outputs, for a block.

    `engine`: "generic" (the definition, Array API only) or "numpy". `workspace`: bytes, 64 MiB
    unless set; an engine works in blocks that fit it. What is not given stays as it was. The
    settings hold in this thread and task alone; under jax.jit, while the function is traced.

    Raises ValueError for an unknown engine or a workspace below 1, TypeError where it is no int.

    >>> import numpy as np, xpcnn
    >>> with xpcnn.use("generic", workspace=2**20):
    ...     xpcnn.ops.max_pool1d(np.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2)
    array([[[3., 2.]]])

    Source: contextvars, PEP 567.
    """
    if engine is not None and engine not in NAMES:
        raise ValueError(f"use({engine!r}): no such engine; choose one of {', '.join(NAMES)}")
    if workspace is not None:
        require_count("use", "workspace", workspace)
    now = current()
    token = _settings.set(Settings(engine or now.engine, workspace or now.workspace))
    try:
        yield current()
    finally:
        _settings.reset(token)
