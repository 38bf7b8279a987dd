"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._xp import Array
from ..ops._offered import offered
from ._options import settle
from .optimizer import PerTensor, decayed


@dataclass(frozen=True)
class SGD(PerTensor):
    """Stochastic gradient descent: v = momentum v + g, w = w - lr v, with v = g in the first step.

    `nesterov` goes by g + momentum v instead of v. Decay is coupled: g + weight_decay w is the
    gradient. Raises ValueError for options out of range and for nesterov without momentum.

    >>> import numpy as np
    >>> optimizer, weights = SGD(0.5, momentum=0.5), {"0": {"weight": np.ones((1, 2))}}
    >>> state = optimizer.init(weights)
    >>> for _ in range(2):
    ...     weights, state = optimizer.update(weights, weights, state)
    >>> weights["0"]["weight"], state["step"]
    (array([[0., 0.]]), 2)

    Source: PyTorch's torch.optim.SGD; Sutskever et al., "On the importance of initialization and
    momentum in deep learning", 2013 (nesterov).
    """

    lr: float | Callable[[int], float] = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    exempt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "momentum", below=1.0)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD(nesterov=True): momentum is 0; give one, such as momentum=0.9")

    def _kept(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        velocity = kept[0] if kept else None
        new = _sgd(w, g, velocity, lr, self.momentum, self.nesterov, self._decay(w))
        return new[: 1 + len(kept)]


@offered("sgd")
def _sgd(
    w: Array, g: Array, velocity: Array | None, lr: Any, momentum: float, nesterov: bool,
    decay: float,
) -> tuple[Array, Array | None]:  # fmt: skip
    g = decayed(g, w, decay)
    if velocity is None:
        return w - lr * g, None
    v = momentum * velocity + g
    return w - lr * (g + momentum * v if nesterov else v), v
