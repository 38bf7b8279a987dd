"""xpcnn: convolutional neural networks for any array.

One code against the Python Array API standard trains and runs CNNs on NumPy, CuPy, PyTorch, JAX and
array-api-strict arrays. Names are loaded when first used, so that `import xpcnn` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "vjp": "ops",
    "use": "engines",
    "explain": "ops",
    "Explanation": "ops._explain",
    "Device": "_xp",
    "device": "_xp",
    "devices": "_xp",
    "Classifier": "training",
    "load": "training",
}
_MODULES = (
    "data", "engines", "inspection", "io", "layers", "models", "ops", "optim", "random", "training",
)  # fmt: skip
_OPTIONAL = ("plots",)  # import * must do without Matplotlib

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES + _OPTIONAL:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module 'xpcnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_OPTIONAL])
