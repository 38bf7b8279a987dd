"""Layers made of layers, one after another or frozen, and what all such have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from .._xp import Array
from ..random import Key, fold_in
from .base import Layer, Shape, pull_last, wanted
from .norm import norms_clipping
from .tree import Tree

Pulls = Iterator[tuple[str, Callable]]
"""The pulls of layers, and of merges, with their names, the last first."""


class JoinedPull:
    """A combinator's pull: `join(dy, pulls)` calls those of its layers and joins what they give."""

    def __init__(
        self, pulls: list[tuple[str, Callable]], join: Callable[[Array, Pulls], tuple[Tree, Array]]
    ) -> None:
        self.pulls: list[tuple[str, Callable]] | None = pulls
        self.join = join

    def __call__(self, dy: Array) -> tuple[Tree, Array]:
        return self.join(dy, reversed(self._held()))

    def last(self, dy: Array) -> tuple[Tree, Array]:
        """The same, never to be called again: a layer's pull is let go as soon as it was used."""
        held, self.pulls = self._held(), None
        spent = (held.pop() for _ in range(len(held)))
        return self.join(dy, ((name, partial(pull_last, pull)) for name, pull in spent))

    def _held(self) -> list[tuple[str, Callable]]:
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
        run = zip(self.children, self.run, strict=True)
        return [(name, layer, params.get(name, {})) for (name, _), layer in run]

    @property
    def run(self) -> tuple[Layer, ...]:
        """What is run in the places of `layers`."""
        return self.layers

    def trainable(self, params: Tree) -> Tree:
        return occupied({name: layer.trainable(own) for name, layer, own in self.parts(params)})

    def __repr__(self) -> str:
        nodes = zip(self._labels(), self.layers, strict=True)
        lines = [f"({label}): {layer!r}".replace("\n", "\n  ") for label, layer in nodes]
        body = "".join(f"\n  {line}" for line in (*self._notes(), *lines))
        return f"{type(self).__name__}({body}\n)" if body else f"{type(self).__name__}()"

    def _labels(self) -> list[str]:
        return [name for name, _ in self.children]

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
            planned[name], in_shape = at(name, layer.plan, in_shape)
        return occupied(planned), in_shape

    def __call__(self, params: Tree, x: Array) -> Array:
        for name, layer, own in self.parts(params):
            x = at(name, layer, own, x)
        return x

    @cached_property
    def run(self) -> tuple[Layer, ...]:
        return norms_clipping(self.layers)

    def vjp(self, params, x, *, key=None, wrt=None):
        asked, pulls = wanted(self, wrt), []
        needs_x = "x" in asked
        for number, (name, layer, own) in enumerate(self.parts(params)):
            names = ("params",) * ("params" in asked) + ("x",) * needs_x
            x, pull = at(name, layer.vjp, own, x, key=fold_key(key, number), wrt=names)
            needs_x = needs_x or learns(layer, own, asked)
            if needs_x:
                pulls.append((name, pull))

        def chain(dy: Array, pulls: Pulls) -> tuple[Tree, Array]:
            grads = {}
            for name, pull in pulls:
                grads[name], dy = pull(dy)
            return occupied(grads), dy if "x" in asked else None

        return x, JoinedPull(pulls, chain)


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


def learns(layer: Layer, own: Tree, asked: Collection[str]) -> bool:
    """Whether a layer with these parameters of its own gives gradients for them."""
    return "params" in asked and bool(layer.trainable(own))


def fold_key(key: Key | None, number: int) -> Key | None:
    return None if key is None else fold_in(key, number)


def occupied(params: Tree) -> Tree:
    """Without empty subtrees: layers without parameters have no entry."""
    return {name: part for name, part in params.items() if part}


def at(name: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call, and let errors say in which layer they arose."""
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        inner = str(error)
        path = f"{name}." + inner.removeprefix("layer ") if inner.startswith("layer ") else None
        raise type(error)(f"layer {path or f'{name}: {inner}'}") from error
