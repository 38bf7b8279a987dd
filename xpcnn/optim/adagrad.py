"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._xp import Array, namespace
from ..ops._op import in_float32
from ._options import settle
from .optimizer import PerTensor, decayed


@dataclass(frozen=True)
class Adagrad(PerTensor):
    """Adagrad: steps by the gradient over the root of the sum of all its squares, plus `eps`.

    The sums start from `initial_accumulator_value`. Decay is coupled, as in SGD. Raises ValueError
    for options out of range.

    >>> import numpy as np
    >>> optimizer, weights = Adagrad(0.5), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"], state["sum"]["0"]["bias"]
    (array([0.5, 0.5]), array([1., 1.]))

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", 2011; torch.optim.Adagrad.
    """

    lr: float | Callable[[int], float] = 0.01
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    exempt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "initial_accumulator_value")
        settle(self, "eps")

    def _kept(self) -> tuple[str, ...]:
        return ("sum",)

    def _first(self, name: str, w: Array) -> Array:
        return namespace(w).full_like(w, self.initial_accumulator_value)

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        return in_float32(_adagrad, w, g, *kept, lr, self.eps, self._decay(w))


def _adagrad(
    w: Array, g: Array, total: Array, lr: Any, eps: float, decay: float
) -> tuple[Array, Array]:
    g = decayed(g, w, decay)
    total = total + g * g
    return w - lr * (g / (namespace(w).sqrt(total) + eps)), total
