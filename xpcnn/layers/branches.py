"""Layers side by side on one input, or around a shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from .._xp import Array
from .base import Layer, Shape, wanted
from .combinators import Combinator, JoinedPull, Pulls, at, fold_key, learns, occupied
from .merge import MERGES, merge, merge_vjp
from .shape import Identity
from .tree import Tree


@dataclass(frozen=True, repr=False, init=False)
class Branches(Combinator):
    """Layers side by side on the same input, merged: "concat" (channels), "sum" or "product".

    Several kernel sizes side by side make an Inception module. In a product, what has size 1 along
    an axis repeats there, so that one branch may gate another's channels.

    >>> from xpcnn import random
    >>> from xpcnn.layers import Conv2d
    >>> Branches(Conv2d(4, 1), Conv2d(8, 3, padding=1)).init(random.key(0), (3, 5, 5))[1]
    (12, 5, 5)

    Source: Szegedy et al., "Going deeper with convolutions", 2014.
    """

    merge: str

    def __init__(
        self,
        *args: Layer,
        merge: str = "concat",
        layers: Sequence[Layer] = (),
        names: Sequence[str] = (),
    ) -> None:
        object.__setattr__(self, "merge", merge)
        super().__init__(*args, layers=layers, names=names)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.merge not in MERGES or not self.layers:
            raise ValueError(
                f"{type(self).__name__}: needs layers and merge='concat', 'sum' or 'product'; "
                f"merge={self.merge!r} with {len(self.layers)} layers"
            )

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        planned, parts = {}, []
        for name, layer in self.children:
            planned[name], shape = at(name, layer.plan, in_shape)
            parts.append(np.zeros((0, *shape)))
        return occupied(planned), tuple(merge(self._call, self.merge, parts).shape[1:])

    def __call__(self, params: Tree, x: Array) -> Array:
        parts = [at(name, layer, own, x) for name, layer, own in self.parts(params)]
        return merge(self._call, self.merge, parts)

    def vjp(self, params, x, *, key=None, wrt=None):
        asked, parts, needed, pulls = wanted(self, wrt), [], [], []
        for number, (name, layer, own) in enumerate(self.parts(params)):
            y, pull = at(name, layer.vjp, own, x, key=fold_key(key, number), wrt=asked)
            parts.append(y)
            needed.append("x" in asked or learns(layer, own, asked))
            if needed[-1]:
                pulls.append((name, pull))
        y, spread = merge_vjp(self._call, self.merge, parts, needed)
        pulls.append((self.merge, spread))

        def fan(dy: Array, pulls: Pulls) -> tuple[Tree, Array]:
            grads, dxs = {}, []
            shares = next(pulls)[1](dy)[::-1]
            wanted_shares = (share for share in shares if share is not None)
            for share, (name, pull) in zip(wanted_shares, pulls, strict=True):
                grads[name], dx = pull(share)
                dxs.append(dx)
            return occupied(grads), reduce(add, dxs[::-1]) if "x" in asked else None

        return y, JoinedPull(pulls, fan)

    @property
    def _call(self) -> str:
        return f"{type(self).__name__}: branches"

    def _notes(self) -> tuple[str, ...]:
        return (f"merge={self.merge!r}",)


class Residual(Branches):
    """body(x) + shortcut(x), the shortcut being the input itself unless given.

    >>> from xpcnn import random
    >>> from xpcnn.layers import Conv2d
    >>> Residual(Conv2d(3, 3, padding=1)).init(random.key(0), (3, 5, 5))[1]
    (3, 5, 5)

    Source: He et al., "Deep residual learning", 2015.
    """

    def __init__(
        self,
        *args: Layer,
        merge: str = "sum",
        layers: Sequence[Layer] = (),
        names: Sequence[str] = ("body", "shortcut"),
    ) -> None:
        layers = (*args, *layers)
        if len(layers) == 1:
            layers = (*layers, Identity())
        if len(layers) != 2:
            raise ValueError(
                f"Residual: takes a body and at most a shortcut, not {len(layers)} layers; "
                "wrap several in Sequential"
            )
        if merge != "sum":
            raise ValueError(f"Residual: adds its shortcut; for merge={merge!r} use Branches")
        super().__init__(merge=merge, layers=layers, names=names)

    def _notes(self) -> tuple[str, ...]:
        return ()
