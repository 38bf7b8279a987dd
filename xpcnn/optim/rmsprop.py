"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._xp import Array, namespace
from ..ops._op import in_float32
from ._options import settle
from .optimizer import PerTensor, decayed


@dataclass(frozen=True)
class RMSprop(PerTensor):
    """RMSprop: steps by the gradient over the root of its running square, plus `eps`.

    `alpha` is the weight of the old square; `centered` takes the square of the running mean off, so
    that a variance is left. With `momentum` the steps go into a velocity, as in SGD. Decay is
    coupled. Raises ValueError for options out of range.

    >>> import numpy as np
    >>> optimizer, weights = RMSprop(0.5, alpha=0.75), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"].round(6)
    array([0., 0.])

    Source: Tieleman and Hinton, "Lecture 6.5: RMSprop", 2012; Graves, "Generating sequences with
    recurrent neural networks", 2013 (centered); torch.optim.RMSprop.
    """

    lr: float | Callable[[int], float] = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    exempt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "alpha", below=1.0)
        settle(self, "eps")
        settle(self, "momentum", below=1.0)

    def _kept(self) -> tuple[str, ...]:
        return ("square", *("mean",) * self.centered, *("velocity",) * bool(self.momentum))

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        held = dict(zip(self._kept(), kept, strict=True))
        old = held["square"], held.get("mean"), held.get("velocity")
        options = lr, self.alpha, self.eps, self.momentum, self._decay(w)
        new = in_float32(_rmsprop, w, g, *old, *options)
        return tuple(array for array in new if array is not None)


def _rmsprop(
    w: Array, g: Array, square: Array, mean: Array | None, velocity: Array | None, lr: Any,
    alpha: float, eps: float, momentum: float, decay: float,
) -> tuple[Array, Array, Array | None, Array | None]:  # fmt: skip
    xp, g = namespace(w), decayed(g, w, decay)
    spread = square = alpha * square + (1.0 - alpha) * g * g
    if mean is not None:
        mean = alpha * mean + (1.0 - alpha) * g
        spread = xp.clip(square - mean * mean, min=0.0)  # rounding may leave less than nothing
    step = g / (xp.sqrt(spread) + eps)
    if velocity is not None:
        step = velocity = momentum * velocity + step
    return w - lr * step, square, mean, velocity
