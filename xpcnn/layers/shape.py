"""Layers that only move numbers, or drop them at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .. import ops
from .._check import require_share
from .._xp import Array, namespace, product
from .base import Layer, OpLayer, wanted
from .tree import Tree


@dataclass(frozen=True, repr=False)
class Identity(Layer):
    """The input, unchanged."""

    def __call__(self, params: Tree, x: Array) -> Array:
        return x

    def vjp(self, params, x, *, key=None, wrt=None):
        keep = "x" in wanted(self, wrt)
        return x, lambda dy: ({}, dy if keep else None)


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Each sample as one row, in the order (C, H, W): (N, C*H*W)."""

    def __call__(self, params: Tree, x: Array) -> Array:
        return namespace(x).reshape(x, (x.shape[0], product(x.shape[1:])))

    def vjp(self, params, x, *, key=None, wrt=None):
        keep, shape, xp = "x" in wanted(self, wrt), tuple(x.shape), namespace(x)
        return self(params, x), lambda dy: ({}, xp.reshape(dy, shape) if keep else None)


@dataclass(frozen=True, repr=False)
class Pad(OpLayer):
    """Pad the last axes: `ops.pad`, with its modes constant, reflect, replicate and circular."""

    pad: tuple[int, ...]
    mode: str = "constant"
    value: float = 0.0

    op = staticmethod(ops.pad)


@dataclass(frozen=True, repr=False)
class _Dropout(Layer):
    p: float = 0.5

    op: ClassVar[Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(type(self).__name__, "p", self.p)

    def __call__(self, params: Tree, x: Array) -> Array:
        return x

    def vjp(self, params, x, *, key=None, wrt=None):
        asked = wanted(self, wrt)
        if "params" not in asked or self.p == 0:
            return x, lambda dy: ({}, dy if "x" in asked else None)
        if key is None:
            raise ValueError(
                f"{type(self).__name__}: training needs a key; call "
                "vjp(..., key=xpcnn.random.key(0))"
            )
        names = ("x",) * ("x" in asked)
        y, op_pull = self.op.vjp(x, self.p, key=key, wrt=names)
        return y, lambda dy: ({}, *op_pull(dy))


class Dropout(_Dropout):
    """Set values to 0 with probability p in training and scale the rest by 1/(1 - p).

    Inference is the identity. Training needs a key: `model.vjp(params, x, key=...)`.

    Raises ValueError for a p outside [0, 1].

    Source: torch.nn.Dropout; Srivastava et al., 2014.
    """

    op = staticmethod(ops.dropout)


class Dropout2d(_Dropout):
    """Set whole channels of (C, H, W) to 0 with probability p in training: see `Dropout`.

    Source: torch.nn.Dropout2d; Tompson et al., 2015.
    """

    op = staticmethod(ops.dropout2d)
