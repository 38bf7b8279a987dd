"""Layers made of layers: one after another, side by side, around a shortcut, or frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import accumulate
from operator import add
from typing import Any

import numpy as np

from .._xp import Array, namespace
from ..random import Key, fold_in
from .base import Layer, Pull, Shape, pull_last, wanted
from .norm import norms_clipping
from .shape import Identity
from .tree import Tree

Pulls = Iterable[tuple[str, Pull]]
"""The pulls of layers with their names, the last layer's first."""


class JoinedPull:
    """A combinator's pull: `join(dy, pulls)` calls those of its layers and joins what they give."""

    def __init__(
        self, pulls: list[tuple[str, Pull]], join: Callable[[Array, Pulls], tuple[Tree, Array]]
    ) -> None:
        self.pulls: list[tuple[str, Pull]] | None = pulls
        self.join = join

    def __call__(self, dy: Array) -> tuple[Tree, Array]:
        return self.join(dy, reversed(self._held()))

    def last(self, dy: Array) -> tuple[Tree, Array]:
        """The same, never to be called again: a layer's pull is let go as soon as it was used."""
        held, self.pulls = self._held(), None
        spent = (held.pop() for _ in range(len(held)))
        return self.join(dy, ((name, partial(pull_last, pull)) for name, pull in spent))

    def _held(self) -> list[tuple[str, Pull]]:
        if self.pulls is None:
            raise RuntimeError("pull: it let go what it held when it was called for the last time")
        return self.pulls


@dataclass(frozen=True, repr=False, init=False)
class Combinator(Layer):
    """Base of layers that hold `layers`; `names` are their keys in the tree, by default numbers."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...]

    def __init__(
        self, *args: Layer, layers: Sequence[Layer] = (), names: Sequence[str] = ()
    ) -> None:
        object.__setattr__(self, "layers", (*args, *layers))
        object.__setattr__(self, "names", tuple(names))
        self.__post_init__()

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for layer in self.layers:
            _require_layer(self, layer)
        if self.names and len(set(self.names)) != len(self.layers):
            raise ValueError(
                f"{kind}: {len(self.layers)} layers need as many different names; "
                f"names={self.names}"
            )
        if any(not isinstance(n, str) or not n or "." in n for n in self.names):
            raise ValueError(
                f"{kind}: names={self.names} must be strings, not empty, without a dot"
            )

    @property
    def children(self) -> list[tuple[str, Layer]]:
        """The layers with their names."""
        names = self.names or tuple(map(str, range(len(self.layers))))
        return list(zip(names, self.layers, strict=True))

    def parts(self, params: Tree) -> list[tuple[str, Layer, Tree]]:
        """The layers with their names and parameters; TypeError where `params` is no dict."""
        if not isinstance(params, Mapping):
            raise TypeError(
                f"{type(self).__name__}: params must be a dict by the layers' names, as `init` "
                f"draws it, not {type(params).__name__}"
            )
        return [(name, layer, params.get(name, {})) for name, layer in self.children]

    def trainable(self, params: Tree) -> Tree:
        return _occupied({name: layer.trainable(own) for name, layer, own in self.parts(params)})

    def __repr__(self) -> str:
        lines = [f"({name}): {layer!r}".replace("\n", "\n  ") for name, layer in self.children]
        body = "".join(f"\n  {line}" for line in (*self._notes(), *lines))
        return f"{type(self).__name__}({body}\n)" if body else f"{type(self).__name__}()"

    def _notes(self) -> tuple[str, ...]:
        return ()


class Sequential(Combinator):
    """Layers one after another.

    A BatchNorm and the ReLU or ReLU6 after it are run as one, in a pass less over memory.

    >>> from xpcnn.layers import Flatten, Linear
    >>> Sequential(Flatten(), Linear(10))
    Sequential(
      (0): Flatten()
      (1): Linear(out_features=10)
    )

    Source: torch.nn.Sequential, whose numbered names the parameters have.
    """

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        planned = {}
        for name, layer in self.children:
            planned[name], in_shape = _at(name, layer.plan, in_shape)
        return _occupied(planned), in_shape

    def __call__(self, params: Tree, x: Array) -> Array:
        for name, layer, own in self.parts(params):
            x = _at(name, layer, own, x)
        return x

    @cached_property
    def _run(self) -> tuple[Layer, ...]:
        """What is run in the places of `layers`."""
        return norms_clipping(self.layers)

    def parts(self, params: Tree) -> list[tuple[str, Layer, Tree]]:
        parts = zip(super().parts(params), self._run, strict=True)
        return [(name, layer, own) for (name, _, own), layer in parts]

    def vjp(self, params, x, *, key=None, wrt=None):
        asked, pulls = wanted(self, wrt), []
        needs_x = "x" in asked
        for number, (name, layer, own) in enumerate(self.parts(params)):
            names = ("params",) * ("params" in asked) + ("x",) * needs_x
            x, pull = _at(name, layer.vjp, own, x, key=_fold(key, number), wrt=names)
            pulls.append((name, pull))
            needs_x = needs_x or ("params" in asked and bool(layer.trainable(own)))

        def chain(dy: Array, pulls: Pulls) -> tuple[Tree, Array]:
            grads = {}
            for name, pull in pulls:
                if dy is None:  # nothing further down is asked
                    break
                grads[name], dy = pull(dy)
            return _occupied(grads), dy if "x" in asked else None

        return x, JoinedPull(pulls, chain)


@dataclass(frozen=True, repr=False, init=False)
class Branches(Combinator):
    """Layers side by side on the same input, joined: `merge` is "concat" (channels) or "sum".

    Several kernel sizes side by side make an Inception module.

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
        if self.merge not in ("concat", "sum") or not self.layers:
            raise ValueError(
                f"{type(self).__name__}: needs layers and merge='concat' or 'sum'; "
                f"merge={self.merge!r} with {len(self.layers)} layers"
            )

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        planned, parts = {}, []
        for name, layer in self.children:
            planned[name], shape = _at(name, layer.plan, in_shape)
            parts.append(np.zeros((0, *shape)))
        return _occupied(planned), tuple(self._join(parts).shape[1:])

    def __call__(self, params: Tree, x: Array) -> Array:
        return self._join([_at(name, layer, own, x) for name, layer, own in self.parts(params)])

    def vjp(self, params, x, *, key=None, wrt=None):
        asked, parts, pulls = wanted(self, wrt), [], []
        for number, (name, layer, own) in enumerate(self.parts(params)):
            y, pull = _at(name, layer.vjp, own, x, key=_fold(key, number), wrt=asked)
            parts.append(y)
            pulls.append((name, pull))
        sizes = [part.shape[1] for part in parts]

        def fan(dy: Array, pulls: Pulls) -> tuple[Tree, Array]:
            grads, dxs = {}, []
            for share, (name, pull) in zip(self._split(dy, sizes)[::-1], pulls, strict=True):
                grads[name], dx = pull(share)
                dxs.append(dx)
            return _occupied(grads), reduce(add, dxs[::-1]) if "x" in asked else None

        return self._join(parts), JoinedPull(pulls, fan)

    def _join(self, parts: list[Array]) -> Array:
        first = parts[0].shape
        for part in parts[1:]:
            same = part.shape == first if self.merge == "sum" else part.shape[2:] == first[2:]
            if not same:
                raise ValueError(
                    f"{type(self).__name__}: branches must agree in "
                    f"{'shape' if self.merge == 'sum' else 'all but channels'} to {self.merge}; "
                    f"they give {[tuple(p.shape[1:]) for p in parts]}"
                )
        return (
            reduce(add, parts) if self.merge == "sum" else namespace(parts[0]).concat(parts, axis=1)
        )

    def _split(self, dy: Array, sizes: list[int]) -> list[Array]:
        if self.merge == "sum":
            return [dy] * len(sizes)
        ends = list(accumulate(sizes))
        starts = (end - size for end, size in zip(ends, sizes, strict=True))
        return [dy[:, start:end, ...] for start, end in zip(starts, ends, strict=True)]

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


@dataclass(frozen=True, repr=False)
class Frozen(Layer):
    """A layer that does not learn: it runs as in inference, and passes gradients through.

    Its parameters keep their names. BatchNorm inside uses its running statistics.
    """

    inner: Layer

    def __post_init__(self) -> None:
        _require_layer(self, self.inner)

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        return self.inner.plan(in_shape)

    def __call__(self, params: Tree, x: Array) -> Array:
        return self.inner(params, x)

    def vjp(self, params, x, *, key=None, wrt=None):
        names = ("x",) * ("x" in wanted(self, wrt))
        return self.inner.vjp(params, x, key=key, wrt=names)

    def trainable(self, params: Tree) -> Tree:
        return {}


def _require_layer(holder: Layer, layer: Any) -> None:
    if not isinstance(layer, Layer):
        kind = type(holder).__name__
        raise TypeError(f"{kind}: {layer!r} is no layer; pass layers of xpcnn.layers")


def _fold(key: Key | None, number: int) -> Key | None:
    return None if key is None else fold_in(key, number)


def _occupied(params: Tree) -> Tree:
    """Without empty subtrees: layers without parameters have no entry."""
    return {name: part for name, part in params.items() if part}


def _at(name: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call, and let errors say in which layer they arose."""
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        inner = str(error)
        path = f"{name}." + inner.removeprefix("layer ") if inner.startswith("layer ") else None
        raise type(error)(f"layer {path or f'{name}: {inner}'}") from error
