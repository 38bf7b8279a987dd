"""Inception: kernels of several sizes side by side."""

from __future__ import annotations

from functools import partial

from ..layers import Branches, Dropout, GlobalAvgPool, Layer, Linear, MaxPool2d, Sequential
from .units import conv_act, conv_norm_act

Width = int | tuple[int, int]
"""Channels out, or (channels of the bottleneck, channels out)."""


def inception(
    ones: int,
    threes: Width,
    fives: Width,
    pool: int | None = None,
    *,
    kernels: tuple[int, int] = (3, 5),
    norm: bool = False,
) -> Branches:
    """Convolutions of 1x1, 3x3 and 5x5 and a 3x3 max pool side by side, their channels together.

    `threes` and `fives` are channels out, or (reduced, out) where a 1x1 convolution to fewer
    channels goes before: the bottleneck that saves nine tenths of the products. `pool` is how many
    channels a 1x1 convolution makes of the pooled ones, None for none. Each convolution has a ReLU,
    and with `norm` batch normalisation in place of a bias.

    >>> inception(64, 128, 32).plan((192, 28, 28))[1]
    (416, 28, 28)
    >>> inception(64, (96, 128), (16, 32), 32).plan((192, 28, 28))[1]
    (256, 28, 28)

    Source: Szegedy et al., "Going deeper with convolutions", 2014, figure 2; torchvision's names.
    """
    unit = partial(conv_norm_act, eps=1e-3) if norm else conv_act

    def convolved(width: Width, kernel: int) -> Sequential:
        *reduced, out = width if isinstance(width, tuple) else (width,)
        return Sequential(*(unit(n, 1) for n in reduced), unit(out, kernel, padding="same"))

    pooled: list[Layer] = [MaxPool2d(3, 1, 1)]
    if pool is not None:
        pooled.append(unit(pool, 1))
    return Branches(
        unit(ones, 1), convolved(threes, kernels[0]), convolved(fives, kernels[1]),
        Sequential(*pooled), names=("branch1", "branch2", "branch3", "branch4"),
    )  # fmt: skip


def googlenet(classes: int = 10) -> Sequential:
    """Nine Inception modules with bottlenecks and batch normalisation, without auxiliary outputs.

    Takes images (C, H, W) of at least 31x31. With 1000 classes of colour images it has 6,624,904
    parameters; torchvision's names, so that its weights fit, and like it 3x3 kernels where the
    paper has 5x5.

    >>> googlenet().plan((3, 32, 32))[1]
    (10,)

    Source: Szegedy et al., "Going deeper with convolutions", 2014; torchvision's googlenet.
    """
    module, unit = partial(inception, kernels=(3, 3), norm=True), partial(conv_norm_act, eps=1e-3)
    parts: dict[str, Layer] = {
        "conv1": unit(64, 7, stride=2, padding=3),
        "maxpool1": MaxPool2d(3, 2, ceil_mode=True),
        "conv2": unit(64, 1),
        "conv3": unit(192, 3, padding=1),
        "maxpool2": MaxPool2d(3, 2, ceil_mode=True),
        "inception3a": module(64, (96, 128), (16, 32), 32),
        "inception3b": module(128, (128, 192), (32, 96), 64),
        "maxpool3": MaxPool2d(3, 2, ceil_mode=True),
        "inception4a": module(192, (96, 208), (16, 48), 64),
        "inception4b": module(160, (112, 224), (24, 64), 64),
        "inception4c": module(128, (128, 256), (24, 64), 64),
        "inception4d": module(112, (144, 288), (32, 64), 64),
        "inception4e": module(256, (160, 320), (32, 128), 128),
        "maxpool4": MaxPool2d(2, 2, ceil_mode=True),
        "inception5a": module(256, (160, 320), (32, 128), 128),
        "inception5b": module(384, (192, 384), (48, 128), 128),
        "avgpool": GlobalAvgPool(),
        "dropout": Dropout(0.2),
        "fc": Linear(classes, weight_init="xavier_normal"),
    }
    return Sequential(layers=tuple(parts.values()), names=tuple(parts))
