"""What an engine may do in fewer passes over memory than the definition takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .. import engines
from .._xp import Array
from ._op import in_float32


def offered(verb: str) -> Callable:
    """Decorate the definition f(x, *rest) of what engines may offer as `verb`."""

    def decorate(definition: Callable) -> Callable:
        @functools.wraps(definition)
        def ask(x: Array, *rest: Any) -> Any:
            answer = engines.offered(verb, x, *rest)
            return in_float32(definition, x, *rest) if answer is NotImplemented else answer

        return ask

    return decorate
