"""What the steps of an augmentation have in common: what they take, and checked options."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from ... import random
from ..._check import require_axes
from ..._xp import Array, namespace
from ...ops._op import in_float32

EDGE = "edge"
"""The fill that repeats an image's outermost pixels."""


class Step(ABC):
    """A change of images that is drawn anew for each of a batch.

    Called with a key and floating images x (N, C, H, W), it returns them changed, in x's shape and
    dtype, and leaves x alone; float16 is computed in float32. Images have finite pixels. Raises
    ValueError for other shapes, TypeError for what is no key and for images that are not floating.
    """

    def __call__(self, key: random.Key, x: Array) -> Array:
        """The changed images."""
        call = type(self).__name__
        random.require_key(call, key)
        if not namespace(x).isdtype(x.dtype, "real floating"):
            raise TypeError(f"{call}: x must be floating; it is {x.dtype}; scale it to [0, 1]")
        require_axes(call, "x", tuple(x.shape), "NCHW")
        return in_float32(partial(self.change, key), x)

    @abstractmethod
    def change(self, key: random.Key, x: Array) -> Array:
        """The changed images, once x is known to be such, in float32 or float64."""


def draw(key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
    """Host float64 numbers, uniform in [-1, 1)."""
    return 2.0 * random.uniform(key, shape) - 1.0


def settle(step: Any, name: str, least: float, most: float) -> None:
    """Hold an option as a Python float, once it is known to lie in [least, most]."""
    value = getattr(step, name)
    call = f"{type(step).__name__}({name}={value!r})"
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{call}: {name} must be a number")
    if not least <= float(value) <= most:
        raise ValueError(f"{call}: {name} must lie in [{least:g}, {most:g}]")
    object.__setattr__(step, name, float(value))


def settle_fill(step: Any, edge: bool = True) -> None:
    """Hold `fill` as a Python float, or leave "edge" where that can be."""
    value = step.fill
    if edge and isinstance(value, str) and value == EDGE:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        call = f"{type(step).__name__}(fill={value!r})"
        known = f'a finite number, or "{EDGE}"' if edge else "a finite number"
        raise (ValueError if isinstance(value, Real | str) else TypeError)(f"{call}: give {known}")
    object.__setattr__(step, "fill", float(value))
