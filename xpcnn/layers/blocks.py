"""Layers that are made of others, as many channels as their input has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .._check import require_count
from .._xp import Array
from ..window import Padding, Size
from .activation import ReLU, Sigmoid
from .base import Layer, Shape, per_axis, wanted
from .combinators import Sequential
from .conv import Conv2d
from .graph import Graph
from .pooling import AdaptiveAvgPool2d
from .shape import Identity
from .tree import Tree


class Block(Layer):
    """Base of layers that are what `inside` makes for images (C, H, W), and hold its parameters."""

    def inside(self, channels: int) -> Layer:
        """The layers that this one is, for so many channels of input."""
        raise TypeError(f"{type(self).__name__} is no layer by itself; use one of its subclasses")

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        return self._for(in_shape).plan(in_shape)

    def __call__(self, params: Tree, x: Array) -> Array:
        return self._for(x.shape[1:])(params, x)

    def vjp(self, params, x, *, key=None, wrt=None):
        return self._for(x.shape[1:]).vjp(params, x, key=key, wrt=wanted(self, wrt))

    def _for(self, in_shape: Shape) -> Layer:
        if len(in_shape) != 3:
            raise ValueError(
                f"{type(self).__name__}: in_shape must be (C, H, W), without a batch axis; it is "
                f"{tuple(in_shape)}"
            )
        return _inside(self, in_shape[0])


@lru_cache  # a layer that is equal is the same inside
def _inside(block: Block, channels: int) -> Layer:
    return block.inside(channels)


@dataclass(frozen=True, repr=False)
class SeparableConv2d(Block):
    """A convolution in two steps: of each channel by itself, then of all channels at each place.

    Where a convolution takes K*K*C*O products for each place, this one takes K*K*C + C*O, save that
    depth_multiplier (filters for each channel) multiplies C. Between the two is neither a bias nor
    an activation. Parameters: depthwise.weight (C*depth_multiplier, 1, KH, KW), pointwise.weight
    (O, C*depth_multiplier, 1, 1), pointwise.bias (O,) unless bias=False.

    >>> from xpcnn import random
    >>> params, out_shape = SeparableConv2d(8, 3, padding=1).init(random.key(0), (3, 5, 5))
    >>> params["depthwise"]["weight"].shape, out_shape
    ((3, 1, 3, 3), (8, 5, 5))

    Source: Keras' SeparableConv2D; Chollet, "Xception", 2016.
    """

    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    depth_multiplier: int = 1
    bias: bool = True
    weight_init: str = "he_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, 2, "kernel_size", "stride", "padding", "dilation")
        require_count("SeparableConv2d", "depth_multiplier", self.depth_multiplier)

    def inside(self, channels: int) -> Layer:
        depthwise = Conv2d(
            channels * self.depth_multiplier, self.kernel_size, self.stride, self.padding,
            self.dilation, channels, False, self.weight_init,
        )  # fmt: skip
        pointwise = Conv2d(self.out_channels, 1, bias=self.bias, weight_init=self.weight_init)
        return Sequential(depthwise, pointwise, names=("depthwise", "pointwise"))


@dataclass(frozen=True, repr=False)
class SqueezeExcitation(Block):
    """Scale each channel by a gate in (0, 1), which the averages of all channels decide.

    The averages go through 1x1 convolutions to C // ratio channels (at least one) and back, with a
    ReLU between them and a sigmoid at the end. Parameters: fc1.weight (C // ratio, C, 1, 1),
    fc1.bias, fc2.weight (C, C // ratio, 1, 1), fc2.bias.

    >>> from xpcnn import random
    >>> params, out_shape = SqueezeExcitation(4).init(random.key(0), (16, 5, 5))
    >>> params["fc1"]["weight"].shape, out_shape
    ((4, 16, 1, 1), (16, 5, 5))

    Source: Hu, Shen & Sun, "Squeeze-and-excitation networks", 2018; torchvision's names.
    """

    ratio: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("SqueezeExcitation", "ratio", self.ratio)

    def inside(self, channels: int) -> Layer:
        return Graph(
            ("squeeze", AdaptiveAvgPool2d(1), "input"),
            ("fc1", Conv2d(max(1, channels // self.ratio), 1), "squeeze"),
            ("act", ReLU(), "fc1"),
            ("fc2", Conv2d(channels, 1, weight_init="xavier_normal"), "act"),
            ("gate", Sigmoid(), "fc2"),
            ("scaled", Identity(), ("product", "input", "gate")),
        )
