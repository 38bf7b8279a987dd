"""VGG: nothing but 3x3 convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from ..layers import (
    AdaptiveAvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)  # fmt: skip

VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions between pools."""


def vgg11(classes: int = 10) -> Sequential:
    """Eight convolutions and three linear layers: see `vgg16`.

    With 1000 classes of colour images it has 132,863,336 parameters.

    >>> vgg11().plan((3, 32, 32))[1]
    (10,)

    Source: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2014, column A; torchvision's vgg11.
    """
    return _vgg(VGG11, (), classes)


def vgg11_bn(classes: int = 10) -> Sequential:
    """VGG-11 with batch normalisation after each convolution: 132,868,840 parameters.

    >>> vgg11_bn().plan((3, 32, 32))[1]
    (10,)

    Source: torchvision's vgg11_bn.
    """
    return _vgg(VGG11, (BatchNorm(),), classes)


def vgg16(classes: int = 10) -> Sequential:
    """Thirteen 3x3 convolutions, five pools, and three linear layers with dropout.

    Takes images (C, H, W) of at least 32x32. With 1000 classes of colour images it has 138,357,544
    parameters; torchvision's names, so that its weights fit.

    >>> vgg16().plan((3, 32, 32))[1]
    (10,)

    Source: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2014, column D; torchvision's vgg16.
    """
    return _vgg(VGG16, (), classes)


def vgg16_bn(classes: int = 10) -> Sequential:
    """VGG-16 with batch normalisation after each convolution: 138,365,992 parameters.

    >>> vgg16_bn().plan((3, 32, 32))[1]
    (10,)

    Source: torchvision's vgg16_bn.
    """
    return _vgg(VGG16, (BatchNorm(),), classes)


def _vgg(stages: Sequence[Sequence[int]], norm: tuple[Layer, ...], classes: int) -> Sequential:
    features: list[Layer] = []
    for stage in stages:
        for channels in stage:
            features += [Conv2d(channels, 3, 1, 1), *norm, ReLU()]
        features.append(MaxPool2d(2))
    classifier = Sequential(
        Linear(4096),
        ReLU(),
        Dropout(0.5),
        Linear(4096),
        ReLU(),
        Dropout(0.5),
        Linear(classes, weight_init="xavier_normal"),
    )
    return Sequential(
        Sequential(*features), AdaptiveAvgPool2d(7), Flatten(), classifier,
        names=("features", "avgpool", "flatten", "classifier"),
    )  # fmt: skip
