"""Adam and its kin: steps by a running mean of gradients over the root of their running square."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._xp import Array, device_of, namespace
from ..ops._offered import offered
from ..ops._op import in_float32
from ._options import settle, settle_betas
from .optimizer import PerTensor, decayed


@dataclass(frozen=True)
class Adam(PerTensor):
    """Adam: steps by the gradient's running mean over the root of its running square.

    Both are corrected for starting at zero; `eps` is added outside the corrected root. Decay is
    coupled, as in SGD. Raises ValueError for options out of range.

    >>> import numpy as np
    >>> optimizer, weights = Adam(0.5), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"]
    array([0.5, 0.5])

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015; torch.optim.Adam.
    """

    lr: float | Callable[[int], float] = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    exempt: bool = False
    _decoupled = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "eps")
        settle_betas(self)

    def _kept(self) -> tuple[str, ...]:
        return ("mean", "square")

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        decay, decoupled = self._decay(w), self._decoupled
        return _adam(w, g, *kept, lr, *self.betas, self.eps, count, decay, decoupled)


@offered("adam")
def _adam(
    w: Array, g: Array, mean: Array, square: Array, lr: Any, beta1: float, beta2: float,
    eps: float, count: Any, decay: float, decoupled: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if decoupled:
        w = w * (1.0 - lr * decay) if decay else w
    else:
        g = decayed(g, w, decay)
    mean = beta1 * mean + (1.0 - beta1) * g
    square = beta2 * square + (1.0 - beta2) * g * g
    root = namespace(w).sqrt(square) / _weight(beta2, count) ** 0.5
    return w - lr / _weight(beta1, count) * (mean / (root + eps)), mean, square


def _weight(beta: float, count: Any) -> Any:
    """1 - beta**count, which is how much of a running mean is not what it began with."""
    if isinstance(count, int | float) or not beta:
        return 1.0 - beta**count
    return -namespace(count).expm1(count * math.log(beta))  # a float32 beta**count is too near 1


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled decay: w shrinks by 1 - lr weight_decay, and the averages do not see it.

    >>> import numpy as np
    >>> optimizer, weights = AdamW(0.5, weight_decay=0.5), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"]
    array([0.25, 0.25])

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; torch.optim.AdamW.
    """

    weight_decay: float = 0.01
    _decoupled = True


@dataclass(frozen=True)
class NAdam(PerTensor):
    """Adam with Nesterov's momentum: the mean is looked at as it will be one step ahead.

    The momentum of step t is betas[0] (1 - 0.96**(t momentum_decay) / 2), which grows. Decay is
    coupled, as in SGD. Raises ValueError for options out of range.

    >>> import numpy as np
    >>> optimizer, weights = NAdam(0.5), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"].round(3)
    array([0.472, 0.472])

    Source: Dozat, "Incorporating Nesterov momentum into Adam", 2016; torch.optim.NAdam.
    """

    lr: float | Callable[[int], float] = 0.002
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 0.004
    exempt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "eps")
        settle(self, "momentum_decay")
        settle_betas(self)

    def _kept(self) -> tuple[str, ...]:
        return ("mean", "square", "mu_product")

    def _first(self, name: str, w: Array) -> Array:
        if name != "mu_product":
            return super()._first(name, w)
        return namespace(w).ones((), dtype=w.dtype, device=device_of(w))

    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        now, ahead = self._momentum(count), self._momentum(count + 1)
        options = *self.betas, self.eps, self._decay(w)
        return in_float32(_nadam, w, g, *kept, lr, now, ahead, count, *options)

    def _momentum(self, count: Any) -> Any:
        return self.betas[0] * (1.0 - 0.5 * 0.96 ** (count * self.momentum_decay))


def _nadam(
    w: Array, g: Array, mean: Array, square: Array, mu_product: Array, lr: Any, mu: Any,
    mu_ahead: Any, count: Any, beta1: float, beta2: float, eps: float, decay: float,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    xp, g = namespace(w), decayed(g, w, decay)
    mean = beta1 * mean + (1.0 - beta1) * g
    square = beta2 * square + (1.0 - beta2) * g * g
    mu_product = xp.reshape(mu_product * mu, ())  # NumPy makes a scalar of the product
    root = xp.sqrt(square / _weight(beta2, count)) + eps
    here = (1.0 - mu) / (1.0 - mu_product)
    ahead = mu_ahead / (1.0 - mu_product * mu_ahead)
    return w - lr * (here * g + ahead * mean) / root, mean, square, mu_product
