"""LARS: layer-wise adaptive rate scaling, for large batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._xp import Array, namespace
from ..ops._op import in_float32
from ._options import settle
from .optimizer import PerTensor, decayed


@dataclass(frozen=True)
class LARS(PerTensor):
    """SGD whose rate is, for each tensor, a share of its norm over that of its gradient.

    v = momentum v + lr r (g + weight_decay w) and w = w - v, with the trust ratio
    r = trust_coefficient |w| / (|g| + weight_decay |w|), or 1 where |w| or |g| is 0. `exempt`, here
    as a rule, spares tensors of rank below 2 from the ratio as well as from the decay. Raises
    ValueError for options out of range.

    >>> import numpy as np
    >>> optimizer = LARS(0.5, trust_coefficient=0.5)
    >>> weights = {"0": {"weight": np.ones((1, 2)), "bias": np.ones(2)}}
    >>> grads = {"0": {"weight": np.full((1, 2), 9.0), "bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, grads, optimizer.init(weights))
    >>> weights["0"]["weight"], weights["0"]["bias"]
    (array([[0.75, 0.75]]), array([0.5, 0.5]))

    Source: You, Gitman and Ginsburg, "Large batch training of convolutional networks", 2017.
    """

    lr: float | Callable[[int], float] = 0.1
    momentum: float = 0.9
    trust_coefficient: float = 0.001
    weight_decay: float = 0.0
    exempt: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "momentum", below=1.0)
        settle(self, "trust_coefficient")

    def _kept(self) -> tuple[str, ...]:
        return ("velocity",)

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        trust = None if self.exempt and w.ndim < 2 else self.trust_coefficient
        return in_float32(_lars, w, g, *kept, lr, self.momentum, trust, self._decay(w))


def _lars(
    w: Array, g: Array, velocity: Array, lr: Any, momentum: float, trust: float | None,
    decay: float,
) -> tuple[Array, Array]:  # fmt: skip
    rate = lr if trust is None else lr * _ratio(w, g, trust, decay)
    velocity = momentum * velocity + rate * decayed(g, w, decay)
    return w - velocity, velocity


def _ratio(w: Array, g: Array, trust: float, decay: float) -> Array:
    xp = namespace(w)
    length, slope = (xp.sqrt(xp.sum(a * a)) for a in (w, g))
    known, one = (length > 0.0) & (slope > 0.0), xp.ones_like(length)
    return xp.where(known, trust * length / xp.where(known, slope + decay * length, one), one)
