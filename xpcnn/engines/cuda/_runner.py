"""Who runs launches: CuPy on a device. The engine itself touches no device and imports no CuPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol

from ..._xp import Array, library
from ...window import Ints
from ._launch import Launch
from ._product import Product


class Runner(Protocol):
    """What the engine asks of a device; all is queued in order, and nothing waits."""

    out_of_memory: type[Exception]

    def on(self, x: Array) -> AbstractContextManager:
        """A context in which everything happens where x lies."""

    def empty(self, shape: Ints, dtype: Any) -> Array:
        """A new array in C order, its values not set."""

    def launch(self, launch: Launch) -> None:
        """Run a kernel."""

    def multiply(self, product: Product) -> None:
        """Multiply matrices."""

    def free(self) -> int:
        """Bytes that could still be had."""


RUNNERS: dict[str, Runner] = {}
"""By library; CuPy's comes when it is first asked for."""


def runner_of(x: Array) -> Runner:
    """Who runs what is to be done with x."""
    kind = library(x)
    if kind not in RUNNERS:
        RUNNERS[kind] = import_module("._cupy", __package__).CuPy()
    return RUNNERS[kind]


def verb(function: Callable) -> Callable:
    """Decorate f(runner, x, *rest): called as f(x, *rest), where x lies, by its runner."""

    @functools.wraps(function)
    def call(x: Array, *rest: Any) -> Any:
        runner = runner_of(x)
        with runner.on(x):
            return function(runner, x, *rest)

    return call
