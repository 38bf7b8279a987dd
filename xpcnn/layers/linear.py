"""Layers that are a product with a weight matrix."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ops
from .._check import entries
from .._xp import product
from ..window import Padding, Size, pool_window
from .base import OpLayer, Parameter, Shape, channels, per_axis


@dataclass(frozen=True, repr=False)
class Linear(OpLayer):
    """Product with a matrix: (in,) to (out_features,): `ops.linear`.

    Parameters: weight (out, in), bias (out,) unless bias=False. `in` is inferred.

    >>> from xpcnn import random
    >>> Linear(10).init(random.key(0), (64,))[0]["weight"].shape
    (10, 64)

    Source: torch.nn.Linear, with He initialisation.
    """

    out_features: int
    bias: bool = True
    weight_init: str = "he_normal"

    op = staticmethod(ops.linear)
    weights = ("weight", "bias")
    own = ("out_features", "bias", "weight_init")

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        if not in_shape:
            raise ValueError("Linear: in_shape must be (in,), without a batch axis; it is ()")
        bias = {"bias": Parameter((self.out_features,), 0.0)} if self.bias else {}
        return {"weight": Parameter((self.out_features, in_shape[-1]), self.weight_init), **bias}

    def multiply_adds(self, in_shape: Shape, out_shape: Shape) -> int:
        return in_shape[-1] * product(out_shape)


@dataclass(frozen=True, repr=False)
class LocallyConnected2d(OpLayer):
    """A convolution of images (C, H, W) that shares no weights: `ops.locally_connected2d`.

    Parameters: weight (OH, OW, O, C, KH, KW), bias (O, OH, OW) unless bias=False. Each place's
    weights are drawn as a convolution's would be.

    >>> from xpcnn import random
    >>> params, _ = LocallyConnected2d(20, 8, stride=2, padding=1).init(random.key(0), (3, 32, 32))
    >>> sum(array.size for array in params.values())
    756560

    Source: Keras' LocallyConnected2D.
    """

    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    bias: bool = True
    weight_init: str = "he_normal"

    op = staticmethod(ops.locally_connected2d)
    weights = ("weight", "bias")
    own = ("out_channels", "kernel_size", "bias", "weight_init")

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, 2, "kernel_size", "stride", "padding", "dilation")

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        in_channels = channels(self, in_shape, 2)
        name = type(self).__name__
        space = pool_window(
            name, 2, (1, *in_shape), self.kernel_size, self.stride, self.padding, self.dilation
        ).out_size
        each = (in_channels, *entries(self.kernel_size, 2))
        outputs = (*space, self.out_channels)
        weight = Parameter((*outputs, *each), self.weight_init, (product(outputs), *each))
        bias = {"bias": Parameter((self.out_channels, *space), 0.0)} if self.bias else {}
        return {"weight": weight, **bias}

    def multiply_adds(self, in_shape: Shape, out_shape: Shape) -> int:
        return product(self.parameters(in_shape)["weight"].shape)
