"""The output of every layer of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._xp import Array
from ..layers import Branches, Layer
from ..layers._walk import rebuilt
from ..layers.combinators import Combinator
from ..layers.tree import Tree


def features(model: Layer, params: Tree, x: Array) -> dict[str, Array]:
    """Every layer's output for x (N, ...), in inference, by dotted name in the order of computing.

    What lies within Sequential, Graph, Frozen and blocks bears the name that its parameters have;
    Branches and Residual tell what they merged as well, under their own. A layer is seen as it
    stands in the model: of a BatchNorm what a ReLU after it is given, though the two else run as
    one. A model that is a single layer has the name "".

    Raises what the model raises, and TypeError for what is no layer.

    >>> import numpy as np
    >>> from xpcnn import models, random
    >>> model = models.classic()
    >>> params, _ = model.init(random.key(0), (1, 8, 8))
    >>> seen = features(model, params, np.ones((2, 1, 8, 8), np.float32))
    >>> list(seen)[:3], seen["2"].shape
    (['0', '1', '2'], (2, 4, 4, 4))

    Source: Zeiler & Fergus, "Visualizing and understanding convolutional networks", 2014.
    """
    require_layer("features", model)
    outputs: dict[str, Array] = {}
    watched(model, outputs, {})(params, x)
    return outputs


def require_layer(call: str, model: Any) -> None:
    """Raise TypeError for what is no layer; a classifier, say."""
    if not isinstance(model, Layer):
        raise TypeError(
            f"{call}: model must be a layer, such as a classifier's model_, with its params_; it "
            f"is a {type(model).__name__}"
        )


def watched(model: Layer, outputs: dict[str, Array], gradients: dict[str, Array]) -> Layer:
    """The model, which tells each layer's output and, in pulls, the gradient of it, by name."""

    def change(name: str, layer: Layer, run: Layer) -> Layer:
        if not isinstance(layer, Combinator):
            return _Watched(layer, name, outputs, gradients)
        return _Watched(run, name, outputs, gradients) if isinstance(layer, Branches) else run

    return rebuilt(change, model)


@dataclass(frozen=True, repr=False)
class _Watched(Layer):
    """`inner`, which tells what it makes and the gradient that comes back to that."""

    inner: Layer
    name: str
    outputs: dict[str, Array]
    gradients: dict[str, Array]

    def __call__(self, params: Tree, x: Array) -> Array:
        self.outputs[self.name] = self.inner(params, x)
        return self.outputs[self.name]

    def vjp(self, params, x, *, key=None, wrt=None):
        y, inner_pull = self.inner.vjp(params, x, key=key, wrt=wrt)
        self.outputs[self.name] = y

        def pull(dy: Array) -> tuple[Tree, Array]:
            self.gradients[self.name] = dy
            return inner_pull(dy)

        return y, pull
