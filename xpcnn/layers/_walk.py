"""A model taken apart and put together again, with others in the places of its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .._xp import Array
from .base import Layer, wanted
from .blocks import Block
from .combinators import Combinator, Frozen
from .tree import Tree

Change = Callable[[str, Layer, Layer], Layer]
"""From a layer's dotted name, itself, and what is run in its place, to what shall be."""


def rebuilt(change: Change, model: Layer, run: Layer | None = None, name: str = "") -> Layer:
    """What behaves as `model`, of which `change` made every part, the innermost first.

    What is run in a layer's place is mostly itself, but BatchNorm and ReLU in a row are a BatchNorm
    that clips and an Identity; in a combinator's place it is that, rebuilt. A block is what lies
    inside it, and the model by itself has no name.
    """
    run = model if run is None else run
    if isinstance(run, Frozen):
        return replace(run, inner=rebuilt(change, run.inner, name=name))
    if isinstance(run, Block):
        return _Opened(run, name, change)
    if isinstance(run, Combinator):
        lead = f"{name}." if name else ""
        pairs = zip(run.children, run.run, strict=True)
        parts = (rebuilt(change, child, inner, lead + own) for (own, child), inner in pairs)
        run = replace(run, layers=tuple(parts))
    return change(name, model, run)


@dataclass(frozen=True, repr=False)
class _Opened(Layer):
    """A block of which the layers inside are rebuilt."""

    block: Block
    name: str
    change: Change

    def __call__(self, params: Tree, x: Array) -> Array:
        return self._inside(x)(params, x)

    def vjp(self, params, x, *, key=None, wrt=None):
        return self._inside(x).vjp(params, x, key=key, wrt=wanted(self, wrt))

    def _inside(self, x: Array) -> Layer:
        return rebuilt(self.change, self.block.inside(x.shape[1]), name=self.name)
