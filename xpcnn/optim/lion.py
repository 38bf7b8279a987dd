"""Lion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._xp import Array, namespace
from ..ops._op import in_float32
from ._options import settle_betas
from .optimizer import PerTensor, decayed


@dataclass(frozen=True)
class Lion(PerTensor):
    """Lion: steps of one length, by the sign of a mean m of gradients alone.

    w = w - lr (sign(betas[0] m + (1 - betas[0]) g) + weight_decay w), and then
    m = betas[1] m + (1 - betas[1]) g. Decay is decoupled, as in AdamW; the paper has learning rates
    3 to 10 times smaller than Adam's, and decays as much larger. Raises ValueError for options out
    of range.

    >>> import numpy as np
    >>> optimizer, weights = Lion(0.5), {"0": {"bias": np.asarray([1.0, -3.0])}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"]
    array([ 0.5, -2.5])

    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """

    lr: float | Callable[[int], float] = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    exempt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_betas(self)

    def _kept(self) -> tuple[str, ...]:
        return ("mean",)

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        return in_float32(_lion, w, g, *kept, lr, *self.betas, self._decay(w))


def _lion(
    w: Array, g: Array, mean: Array, lr: Any, beta1: float, beta2: float, decay: float
) -> tuple[Array, Array]:
    sign = namespace(w).sign(beta1 * mean + (1.0 - beta1) * g)
    return w - lr * decayed(sign, w, decay), beta2 * mean + (1.0 - beta2) * g
