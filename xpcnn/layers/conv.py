"""Convolution layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import ops
from .._check import entries
from .._xp import product
from ..window import Padding, Size
from .base import OpLayer, Parameter, Shape, channels, per_axis


@dataclass(frozen=True, repr=False)
class _Convolution(OpLayer):
    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: int = 1
    bias: bool = True
    weight_init: str = "he_normal"

    rank: ClassVar[int]
    weights = ("weight", "bias")
    own = ("out_channels", "kernel_size", "bias", "weight_init")

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, self.rank, "kernel_size", "stride", "padding", "dilation")

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        weight_shape = self._weight_shape(channels(self, in_shape, self.rank))
        bias = {"bias": Parameter((self.out_channels,), 0.0)} if self.bias else {}
        return {"weight": Parameter(weight_shape, self.weight_init), **bias}

    def multiply_adds(self, in_shape: Shape, out_shape: Shape) -> int:
        return product(self._weight_shape(in_shape[0])) * product(out_shape[1:])

    def _weight_shape(self, in_channels: int) -> Shape:
        kernel = entries(self.kernel_size, self.rank)
        return (self.out_channels, in_channels // self.groups, *kernel)


@dataclass(frozen=True, repr=False)
class _TransposedConvolution(_Convolution):
    output_padding: Size = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, self.rank, "output_padding")

    def multiply_adds(self, in_shape: Shape, out_shape: Shape) -> int:
        return super().multiply_adds(in_shape, in_shape)

    def _weight_shape(self, in_channels: int) -> Shape:
        kernel = entries(self.kernel_size, self.rank)
        return (in_channels, self.out_channels // self.groups, *kernel)


class Conv1d(_Convolution):
    """Convolution of signals (C, W): see `Conv2d`."""

    op = staticmethod(ops.conv1d)
    rank = 1


class Conv2d(_Convolution):
    """Convolution of images (C, H, W) to (out_channels, OH, OW): `ops.conv2d` with its options.

    Parameters: weight (O, C/groups, KH, KW), bias (O,) unless bias=False. Input channels are
    inferred. `weight_init` names an initialiser of `xpcnn.layers.initializers`; biases start at 0.

    >>> from xpcnn import random
    >>> params, out_shape = Conv2d(8, 3, padding="same").init(random.key(0), (3, 5, 5))
    >>> params["weight"].shape, out_shape
    ((8, 3, 3, 3), (8, 5, 5))

    Source: torch.nn.Conv2d, with He initialisation.
    """

    op = staticmethod(ops.conv2d)
    rank = 2


class Conv3d(_Convolution):
    """Convolution of volumes (C, D, H, W): see `Conv2d`."""

    op = staticmethod(ops.conv3d)
    rank = 3


class ConvTranspose1d(_TransposedConvolution):
    """Transposed convolution of signals (C, W): see `ConvTranspose2d`."""

    op = staticmethod(ops.conv_transpose1d)
    rank = 1


class ConvTranspose2d(_TransposedConvolution):
    """Transposed convolution of images (C, H, W): `ops.conv_transpose2d` with its options.

    Parameters: weight (C, O/groups, KH, KW), bias (O,) unless bias=False. The options have the
    order of `Conv2d`, with `output_padding` last.

    >>> from xpcnn import random
    >>> ConvTranspose2d(4, 2, stride=2).init(random.key(0), (8, 5, 5))[1]
    (4, 10, 10)

    Source: torch.nn.ConvTranspose2d, with He initialisation.
    """

    op = staticmethod(ops.conv_transpose2d)
    rank = 2


class ConvTranspose3d(_TransposedConvolution):
    """Transposed convolution of volumes (C, D, H, W): see `ConvTranspose2d`."""

    op = staticmethod(ops.conv_transpose3d)
    rank = 3
