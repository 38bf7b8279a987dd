"""What a layer is: a frozen dataclass of options, with its parameters in a tree beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._xp import Array, Device
from .._xp import device as find_device
from ..random import Key
from ..window import Size
from . import tree
from .tree import Tree

Shape = tuple[int, ...]
Pull = Callable[[Array], tuple[Tree, Array]]


@dataclass(frozen=True, repr=False)
class Layer:
    """Base of all layers: `init` draws parameters, calling infers, `vjp` trains.

    A subclass defines `build` (if it has parameters), `__call__` and `vjp`. Lists among the options
    become tuples, so that layers compare, hash, and come back equal from a description.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _frozen(getattr(self, field.name)))

    def init(
        self,
        key: Key,
        in_shape: Sequence[int],
        *,
        dtype: str = "float32",
        device: str | Device = "cpu",
    ) -> tuple[Tree, Shape]:
        """Draw parameters for inputs of `in_shape`, which has no batch axis: (params, out_shape).

        They are drawn on the host and moved once, so one key gives the same weights everywhere.
        Raises ValueError where a layer cannot take the shape that reaches it.
        """
        host, out_shape = self.build(key, tuple(in_shape))
        place = find_device(device)
        return tree.map(lambda a: place.asarray(a, dtype), host), out_shape

    def build(self, key: Key, in_shape: Shape) -> tuple[Tree, Shape]:
        """Parameters on the host in float64, and the shape of one output."""
        return {}, self.out_shape({}, in_shape)

    def out_shape(self, params: Tree, in_shape: Shape) -> Shape:
        """Shape of one output, found by running the layer on a batch of none."""
        return tuple(self(params, np.zeros((0, *in_shape))).shape[1:])

    def __call__(self, params: Tree, x: Array) -> Array:
        """Inference: nothing is kept."""
        raise TypeError(f"{type(self).__name__} is no layer by itself; use one of its subclasses")

    def vjp(
        self, params: Tree, x: Array, *, key: Key | None = None, wrt: Sequence[str] | None = None
    ) -> tuple[Array, Pull]:
        """Training: y and pull, where pull(dy) gives (grads, dx).

        `key` feeds dropout. `wrt` names what is asked of ("params", "x"), by default both;
        without "params" the layer runs as in inference and grads is empty.
        """
        raise TypeError(f"{type(self).__name__} is no layer by itself; use one of its subclasses")

    def trainable(self, params: Tree) -> Tree:
        """The part of `params` that `vjp` gives gradients or next values for."""
        return params

    def __repr__(self) -> str:
        values = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        options = [
            f"{field.name}={value!r}"
            for field, value in values
            if value != field.default and value != _per_axis_default(field, value)
        ]
        return f"{type(self).__name__}({', '.join(options)})"


class OpLayer(Layer):
    """A layer that is one op: its parameters are the op's further arrays, its fields options."""

    op: ClassVar[Any]
    weights: ClassVar[tuple[str, ...]] = ()
    """Names in the parameter tree of the op's arrays after x, in order."""
    own: ClassVar[tuple[str, ...]] = ()
    """Fields that are the layer's own, not options of the op."""

    def options(self) -> dict[str, Any]:
        """The op's keyword options."""
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in self.own}

    def __call__(self, params: Tree, x: Array) -> Array:
        return self.op(x, **self._arrays(params), **self.options())

    def vjp(self, params, x, *, key=None, wrt=None):
        asked = wanted(self, wrt)
        names = ("x",) * ("x" in asked) + self.op.arrays[1:] * ("params" in asked)
        y, op_pull = self.op.vjp(x, wrt=names, **self._arrays(params), **self.options())

        def pull(dy: Array) -> tuple[Tree, Array]:
            dx, *grads = op_pull(dy)
            named = zip(self.weights, grads, strict=False)
            return {name: grad for name, grad in named if grad is not None}, dx

        return y, pull

    def _arrays(self, params: Tree) -> dict[str, Array]:
        """The op's further arrays, by the op's names for them."""
        return dict(zip(self.op.arrays[1:], map(params.get, self.weights), strict=False))


def wanted(layer: Layer, wrt: Sequence[str] | None) -> Sequence[str]:
    if wrt is None:
        return ("params", "x")
    if isinstance(wrt, str) or not {"params", "x"}.issuperset(wrt):
        raise ValueError(
            f"vjp of {type(layer).__name__}: wrt={wrt!r}; give a tuple of some of ('params', 'x')"
        )
    return wrt


def channels(layer: Layer, in_shape: Shape, rank: int) -> int:
    """Channels of `in_shape` (C, *space), or ValueError."""
    if len(in_shape) != rank + 1:
        space = ("D", "H", "W")[3 - rank :]
        raise ValueError(
            f"{type(layer).__name__}: in_shape must be (C, {', '.join(space)}), without a batch "
            f"axis; it is {in_shape}"
        )
    return in_shape[0]


def per_axis(layer: Layer, rank: int, *names: str) -> None:
    """Spread ints among the named options over `rank` axes, so that equal layers compare equal."""
    for name in names:
        value = getattr(layer, name)
        if isinstance(value, int):
            object.__setattr__(layer, name, sizes(value, rank))


def sizes(value: Size, rank: int) -> Shape:
    """An int once per axis; what is one per axis already, as it is."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _per_axis_default(field: dataclasses.Field, value: Any) -> Any:
    """The default as `per_axis` leaves it."""
    return (field.default,) * len(value) if isinstance(value, tuple) else field.default


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return value.item() if isinstance(value, np.generic) else value
