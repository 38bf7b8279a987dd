"""MobileNet: depthwise convolutions and 1x1 convolutions in turn."""

from __future__ import annotations

from ..layers import Dropout, GlobalAvgPool, Layer, Linear, ReLU6, Sequential
from .units import conv_norm_act

BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""(channels, stride) of each block."""


def mobilenet(classes: int = 10) -> Sequential:
    """A convolution and thirteen depthwise-separable ones, each half with batch normalisation.

    Takes images (C, H, W) of any size, and halves it five times. With 1000 classes of colour images
    it has 4,231,976 parameters, the running statistics apart.

    >>> mobilenet().plan((3, 32, 32))[1]
    (10,)

    Source: Howard et al., "MobileNets", 2017, table 1; Keras' MobileNet.
    """
    layers: list[Layer] = [_unit(32, 3, stride=2)]
    channels = 32
    for out_channels, stride in BLOCKS:
        depthwise = _unit(channels, 3, stride=stride, groups=channels)
        pointwise = _unit(out_channels, 1)
        layers.append(Sequential(depthwise, pointwise, names=("depthwise", "pointwise")))
        channels = out_channels
    head = Linear(classes, weight_init="xavier_normal")
    return Sequential(*layers, GlobalAvgPool(), Dropout(0.001), head)


def _unit(out_channels: int, kernel_size: int, **options) -> Sequential:
    return conv_norm_act(
        out_channels, kernel_size, padding="same", eps=1e-3, act=ReLU6(), **options
    )
