"""Options of optimizers and schedules, checked once and held as Python numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WHOLE = int | np.integer
REAL = WHOLE | float | np.floating


def settle(record: Any, name: str, below: float = math.inf, least: float = 0.0) -> None:
    """Hold an option as a Python float, once it is known to lie in [least, below)."""
    value = getattr(record, name)
    call = f"{type(record).__name__}({name}={value!r})"
    if not isinstance(value, REAL):
        raise TypeError(f"{call}: {name} must be a number")
    if not least <= value < below:
        raise ValueError(f"{call}: {name} must lie in [{least:g}, {below:g})")
    object.__setattr__(record, name, float(value))


def settle_count(record: Any, name: str, least: int) -> None:
    """Hold an option as a Python int, once it is known to be `least` or more."""
    value = getattr(record, name)
    call = f"{type(record).__name__}({name}={value!r})"
    if not isinstance(value, WHOLE):
        raise TypeError(f"{call}: {name} must be an integer")
    if value < least:
        raise ValueError(f"{call}: {name} must be at least {least}")
    object.__setattr__(record, name, int(value))


def settle_betas(record: Any) -> None:
    """Hold `betas` as two Python floats, once they are known to lie in [0, 1)."""
    betas = record.betas if isinstance(record.betas, tuple | list) else ()
    if len(betas) != 2 or not all(isinstance(b, REAL) and 0 <= b < 1 for b in betas):
        raise ValueError(
            f"{type(record).__name__}(betas={record.betas!r}): "
            "betas must be two numbers in [0, 1), such as (0.9, 0.999)"
        )
    object.__setattr__(record, "betas", tuple(float(b) for b in betas))


def python_number(x: Any) -> Any:
    """x, or for a NumPy scalar or 0-d array the Python number, which leaves float32 alone."""
    return x.item() if isinstance(x, np.generic | np.ndarray) else x
