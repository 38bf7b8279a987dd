"""What a layer is: a frozen dataclass of options, with its parameters in a tree beside it."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from .. import _check
from .._xp import Array, Device, require_same
from .._xp import device as find_device
from ..ops import _op
from ..random import Key, fold_in, require_key
from . import tree
from .initializers import initialize
from .tree import Tree

if TYPE_CHECKING:
    from .summary import Summary

Shape = tuple[int, ...]
Pull = Callable[[Array], tuple[Tree, Array]]

DTYPES = ("float16", "float32", "float64")
"""What parameters may be of."""

COUNTS = ("out_channels", "out_features", "groups", "num_groups")
"""Options that are ints of at least 1, in whatever layer they stand."""

LEAST = {"kernel_size": 1, "stride": 1, "dilation": 1, "output_size": 1, "output_padding": 0}
"""Options with one int per axis, and the least each may be."""


class Parameter(NamedTuple):
    """A tensor to be: its shape, and the number that fills it or the initialiser that draws it.

    `drawn_as` is the shape (out, in, *kernel) that the initialiser sees, where that is another.
    """

    shape: Shape
    start: float | str
    drawn_as: Shape | None = None

    def draw(self, key: Key, name: str) -> np.ndarray:
        """The tensor on the host in float64; each dotted name has numbers of its own."""
        if isinstance(self.start, str):
            own = fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
            drawn = initialize(self.start, own, self.drawn_as or self.shape)
            return np.reshape(drawn, self.shape)
        return np.full(self.shape, self.start, np.float64)


@dataclass(frozen=True, repr=False)
class Layer:
    """Base of all layers: `init` draws parameters, calling infers, `vjp` trains.

    A subclass defines `parameters` (if it has any), `__call__` and `vjp`. Lists among the options
    become tuples, so that layers compare, hash, and come back equal from a description.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _frozen(getattr(self, field.name)))
            if field.name in COUNTS:
                name = type(self).__name__
                _check.require_count(name, field.name, getattr(self, field.name))

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
        Raises ValueError where a layer cannot take the shape that reaches it, and for a dtype that
        is not floating; TypeError for a key or shape that is none.
        """
        require_key("init", key)
        require_input("init", in_shape, dtype)
        planned, out_shape = self.plan(tuple(in_shape))
        place = find_device(device)
        drawn = {
            name: place.asarray(parameter.draw(key, name), dtype)
            for name, parameter in tree.flatten(planned).items()
        }
        return tree.unflatten(drawn), out_shape

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        """What `init` will draw, a tree of `Parameter`, and the shape of one output."""
        planned = self.parameters(in_shape)
        # an array of one 0 seen as many costs nothing, and a batch of none computes nothing
        blank = {name: np.broadcast_to(0.0, one.shape) for name, one in planned.items()}
        return planned, tuple(self(blank, np.zeros((0, *in_shape))).shape[1:])

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        """The layer's own parameters, by name, for inputs of `in_shape`."""
        return {}

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

    def multiply_adds(self, in_shape: Shape, out_shape: Shape) -> int:
        """How many products with weights are added up to make one sample of `out_shape`."""
        return 0

    def summary(
        self,
        in_shape: Sequence[int],
        batch_size: int = 1,
        dtype: str = "float32",
        *,
        averages: int = 2,
    ) -> Summary:
        """What the model is and costs for inputs of `in_shape`, layer by layer: print it.

        Shapes, parameters, multiply-adds of an image (of convolutions and products with weights
        alone), receptive fields, and the bytes of a batch: of activations, of what is kept for the
        gradients, and of the most that lives at once in inference and in a training step, with the
        `averages` that the optimizer keeps of each weight (Adam two, SGD with momentum one).
        Nothing is computed. Peaks are those on the host, by the engines in force, mostly within a
        tenth; left out are what the loss takes, what engines need within a call, and gradients that
        are clipped or accumulated.

        Raises ValueError where a layer cannot take the shape that reaches it, and for numbers or a
        dtype out of range; TypeError for other kinds.

        >>> from xpcnn.layers import Conv2d
        >>> Conv2d(20, 8, stride=2, padding=1).summary((3, 32, 32)).parameters
        3860

        Source: torchinfo; Araujo, Norris & Sim, "Computing receptive fields of convolutional neural
        networks", 2019.
        """
        from .summary import summarize

        return summarize(self, in_shape, batch_size, dtype, averages)

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
        return self._run(self.op, params, x)

    def vjp(self, params, x, *, key=None, wrt=None):
        asked = wanted(self, wrt)
        names = ("x",) * ("x" in asked) + self.op.arrays[1:] * ("params" in asked)
        y, op_pull = self._run(self.op.vjp, params, x, wrt=names)

        def pull(dy: Array) -> tuple[Tree, Array]:
            dx, *grads = op_pull(dy)
            named = zip(self.weights, grads, strict=False)
            return {name: grad for name, grad in named if grad is not None}, dx

        return y, pull

    def _run(self, op: Callable, params: Tree, x: Array, **more: Any) -> Any:
        own = held(self, params, self._held())
        arrays = dict(zip(self.op.arrays[1:], own.values(), strict=False))
        try:
            return op(x, **arrays, **self.options(), **more)
        except TypeError:
            require_same(self.op.__name__, {"x": x, **own})  # which tells the parameter's own name
            raise

    def _held(self) -> tuple[str, ...]:
        """The names of the parameters that this very layer has."""
        if not getattr(self, "affine", True):
            return ()
        return self.weights if getattr(self, "bias", True) else self.weights[:1]


def require_input(call: str, in_shape: Sequence[int], dtype: str) -> None:
    """Raise TypeError for what is no shape of one sample, ValueError for sizes and other dtypes."""
    ints = isinstance(in_shape, Sequence) and all(map(_check.is_int, in_shape))
    if not ints or min(in_shape, default=1) < 1:
        raise (ValueError if ints else TypeError)(
            f"{call}: in_shape={in_shape!r}; give the shape of one sample, such as (1, 28, 28)"
        )
    if dtype not in DTYPES:
        raise ValueError(f"{call}: dtype={dtype!r}; choose one of {', '.join(DTYPES)}")


def pull_last(pull: Pull, dy: Array) -> tuple[Tree, Array]:
    """pull(dy), for the last time: what a combinator's pull holds is let go as it is used."""
    return getattr(pull, "last", pull)(dy)


def held(layer: Layer, params: Tree, names: Sequence[str]) -> dict[str, Array]:
    """The layer's own parameters of these names; ValueError where `params` lacks one."""
    try:
        return {name: params[name] for name in names}
    except (KeyError, IndexError, TypeError):
        found = " and ".join(params) if isinstance(params, Mapping) else type(params).__name__
        raise ValueError(
            f"{type(layer).__name__}: params must hold {' and '.join(names)}, as `init` draws "
            f"them, not {found or 'nothing'}"
        ) from None


def wanted(layer: Layer, wrt: Sequence[str] | None) -> Collection[str]:
    return _op.wanted(type(layer).__name__, ("params", "x"), wrt)


def channels(layer: Any, in_shape: Shape, rank: int) -> int:
    """Channels of `in_shape` (C, *space); ValueError where it is not that, or groups do not fit."""
    if len(in_shape) != rank + 1:
        space = ("D", "H", "W")[3 - rank :]
        raise ValueError(
            f"{type(layer).__name__}: in_shape must be (C, {', '.join(space)}), without a batch "
            f"axis; it is {in_shape}"
        )
    given, made, groups = in_shape[0], layer.out_channels, getattr(layer, "groups", 1)
    if given % groups or made % groups:
        raise ValueError(
            f"{type(layer).__name__}: groups={groups} must divide channels in and out; they are "
            f"{given} and {made}"
        )
    return given


def per_axis(layer: Layer, rank: int, *names: str) -> None:
    """Spread ints among the named options over `rank` axes, so that equal layers compare equal.

    Raises TypeError or ValueError for those in `LEAST` that are not as told there.
    """
    for name in names:
        value = getattr(layer, name)
        if name in LEAST and (name, value) != ("stride", None):
            value = _check.sizes(type(layer).__name__, name, value, rank, LEAST[name])
        elif _check.is_int(value):
            value = _check.entries(value, rank)
        object.__setattr__(layer, name, value)


def _per_axis_default(field: dataclasses.Field, value: Any) -> Any:
    """The default as `per_axis` leaves it."""
    return (field.default,) * len(value) if isinstance(value, tuple) else field.default


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return value.item() if isinstance(value, np.generic) else value
