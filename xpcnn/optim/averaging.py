"""Averages of the weights over the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._xp import Array, namespace
from ..layers import tree
from ..layers.tree import Tree
from ..ops._op import in_float32
from ._options import python_number, settle
from .optimizer import State, Wrapper, beside


@dataclass(frozen=True)
class Averaged(Wrapper):
    """An optimizer that keeps an exponential moving average of the weights, to predict with.

    After step t, counted from 0, average = d average + (1 - d) weights, with
    d = min(decay, (1 + t) / (10 + t)): early steps, when the average still holds what the weights
    began with, count more. `averaged` gives it, with the buffers of the last step; the steps
    themselves go on from the weights. Raises ValueError for a decay outside [0, 1).

    >>> import numpy as np
    >>> from xpcnn.optim import SGD
    >>> optimizer, weights = Averaged(SGD(1.0)), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"], optimizer.averaged(weights, state)["0"]["bias"]
    (array([0., 0.]), array([0.1, 0.1]))

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992;
    TensorFlow's tf.train.ExponentialMovingAverage (d of the early steps).
    """

    decay: float = 0.999
    own = ("average",)

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "decay", below=1.0)

    def init(self, weights: Tree) -> State:
        return self.optimizer.init(weights) | {"average": weights}

    def update(
        self, weights: Tree, grads: Tree, state: State, lr: float | Array | None = None
    ) -> tuple[dict[str, Any], State]:
        inner, own = self._parted("update", state)
        step = python_number(state["step"])
        weights, inner = self.optimizer.update(weights, grads, inner, lr)

        def approach(average: Array, w: Array) -> Array:
            return in_float32(_approach, average, w, beside(step, w), self.decay)

        return weights, inner | {"average": tree.map(approach, own["average"], weights)}

    def averaged(self, params: Tree, state: State) -> Tree:
        _, own = self._parted("averaged", state)
        return tree.unflatten(tree.flatten(params) | tree.flatten(own["average"]))


def _approach(average: Array, w: Array, step: Any, decay: float) -> Array:
    early = (1.0 + step) / (10.0 + step)
    d = min(decay, early) if isinstance(early, float) else namespace(w).clip(early, max=decay)
    return average + (1.0 - d) * (w - average)
