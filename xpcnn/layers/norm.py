"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import ops
from .._check import entries
from .._xp import Array, namespace, product
from ..ops._op import widened
from ..ops.norm import require_bounds
from .activation import CLIPS
from .base import Layer, OpLayer, Parameter, Shape, held, per_axis, wanted
from .shape import Identity
from .tree import Tree


class _Affine(OpLayer):
    affine: bool
    weights = ("weight", "bias")

    def _affine_shape(self, in_shape: Shape) -> Shape:
        return in_shape[:1]

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        return _scale_and_shift(self._affine_shape(in_shape)) if self.affine else {}


@dataclass(frozen=True, repr=False)
class BatchNorm(Layer):
    """Normalise each channel of (C, *space) over the batch, then scale and shift.

    Training uses the batch's own mean and biased variance; inference the running ones. Parameters:
    weight and bias (C,) unless affine=False; buffers: running_mean and running_var (C,), whose next
    values `vjp` gives under their names in grads: (1 - momentum) old + momentum batch, the batch's
    variance unbiased. `bounds` (low, high) clip the result in the same pass over memory, a high of
    None being no bound; Sequential does so by itself where a ReLU or ReLU6 follows.

    Raises ValueError in training where a channel has a single value.

    Source: torch.nn.BatchNorm2d; Ioffe & Szegedy, "Batch normalization", 2015.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True
    bounds: tuple[float, float | None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bounds("BatchNorm", self.bounds)

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        if not in_shape:
            raise ValueError("BatchNorm: in_shape must be (C, *space); it is ()")
        shape = in_shape[:1]
        running = {"running_mean": Parameter(shape, 0.0), "running_var": Parameter(shape, 1.0)}
        return (_scale_and_shift(shape) if self.affine else {}) | running

    def __call__(self, params: Tree, x: Array) -> Array:
        return _like(ops.batch_norm(*self._wide(params, x), **self._options()), x)

    def vjp(self, params, x, *, key=None, wrt=None):
        asked = wanted(self, wrt)
        if "params" not in asked:
            wide = self._wide(params, x)
            y, op_pull = ops.batch_norm.vjp(*wide, **self._options(), wrt=asked)
            return _like(y, x), lambda dy: ({}, _like(op_pull(dy)[0], dy))
        mean, var, *affine = self._arrays(params)
        names = ("x",) * ("x" in asked) + ("weight", "bias")
        (y, *batch), op_pull = ops.batch_norm_train.vjp(x, *affine, **self._options(), wrt=names)
        buffers = self._next(mean, var, *batch, count=x.shape[0] * product(x.shape[2:]))

        def pull(dy: Array) -> tuple[Tree, Array]:
            dx, dw, db = op_pull(dy)
            return ({"weight": dw, "bias": db} if self.affine else {}) | buffers, dx

        return y, pull

    def _options(self) -> dict[str, Any]:
        return {"eps": self.eps, "bounds": self.bounds}

    def _arrays(self, params: Tree) -> list[Array]:
        names = ("running_mean", "running_var", *("weight", "bias") * self.affine)
        return list(held(self, params, names).values())

    def _wide(self, params: Tree, x: Array) -> list[Array]:
        """x and the arrays of inference; of half precision in float32, as statistics may be."""
        arrays, wide = self._arrays(params), widened(x)
        return [x, *arrays] if wide is x else [wide, *map(widened, arrays)]

    def _next(self, mean, var, batch_mean, batch_var, count: int) -> Tree:
        new, unbiased = self.momentum, count / (count - 1)
        return {
            "running_mean": (1.0 - new) * mean + new * batch_mean,
            "running_var": (1.0 - new) * var + new * unbiased * batch_var,
        }


def _like(y: Array | None, x: Array) -> Array | None:
    """y, if there is one, in the dtype of x."""
    return y if y is None or y.dtype == x.dtype else namespace(x).astype(y, x.dtype)


def norms_clipping(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, with an Identity for each clip that the BatchNorm before it does as well."""
    run = list(layers)
    for place, layer in enumerate(layers[1:]):
        norm, bounds = run[place], CLIPS.get(type(layer))
        if bounds and type(norm) is BatchNorm and norm.bounds is None:
            run[place : place + 2] = replace(norm, bounds=bounds), Identity()
    return tuple(run)


@dataclass(frozen=True, repr=False)
class LayerNorm(_Affine):
    """Normalise each sample over its last axes, `normalized_shape`: `ops.layer_norm`.

    Parameters: weight and bias of normalized_shape unless affine=False.

    Source: torch.nn.LayerNorm.
    """

    normalized_shape: int | Shape
    eps: float = 1e-5
    affine: bool = True

    op = staticmethod(ops.layer_norm)
    own = ("affine",)

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, 1, "normalized_shape")

    def _affine_shape(self, in_shape: Shape) -> Shape:
        return entries(self.normalized_shape, 1)


@dataclass(frozen=True, repr=False)
class GroupNorm(_Affine):
    """Normalise each sample's channels in groups: `ops.group_norm`.

    Parameters: weight and bias (C,) unless affine=False.

    Source: torch.nn.GroupNorm.
    """

    num_groups: int
    eps: float = 1e-5
    affine: bool = True

    op = staticmethod(ops.group_norm)
    own = ("affine",)


@dataclass(frozen=True, repr=False)
class InstanceNorm(_Affine):
    """Normalise each channel of each sample over its space: `ops.instance_norm`.

    Parameters: with affine=True weight and bias (C,).

    Source: torch.nn.InstanceNorm2d.
    """

    eps: float = 1e-5
    affine: bool = False

    op = staticmethod(ops.instance_norm)
    own = ("affine",)


@dataclass(frozen=True, repr=False)
class LocalResponseNorm(OpLayer):
    """Divide by a power of the neighbouring channels' squares: `ops.local_response_norm`.

    Source: torch.nn.LocalResponseNorm; Krizhevsky et al., AlexNet, 2012.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    op = staticmethod(ops.local_response_norm)


def _scale_and_shift(shape: Shape) -> dict[str, Parameter]:
    return {"weight": Parameter(shape, 1.0), "bias": Parameter(shape, 0.0)}
