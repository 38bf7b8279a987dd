"""Residual networks: blocks whose output is added to their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..layers import (
    BatchNorm,
    Conv2d,
    GlobalAvgPool,
    Graph,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)  # fmt: skip

STEMS: dict[str, dict[str, Layer]] = {
    "large": {
        "conv1": Conv2d(64, 7, 2, 3, bias=False), "bn1": BatchNorm(), "relu": ReLU(),
        "maxpool": MaxPool2d(3, 2, 1),
    },
    "small": {"conv1": Conv2d(64, 3, 1, 1, bias=False), "bn1": BatchNorm(), "relu": ReLU()},
}  # fmt: skip
"""What comes before the blocks, by how large images are."""


def resnet18(classes: int = 10, *, stem: str = "large") -> Sequential:
    """Eight blocks of two 3x3 convolutions: see `resnet50`.

    With 1000 classes of colour images it has 11,689,512 parameters.

    >>> resnet18().plan((3, 64, 64))[1]
    (10,)

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2015;
    torchvision's resnet18.
    """
    return _resnet(_basic, (2, 2, 2, 2), classes, stem)


def resnet34(classes: int = 10, *, stem: str = "large") -> Sequential:
    """Sixteen blocks of two 3x3 convolutions: see `resnet50`.

    With 1000 classes of colour images it has 21,797,672 parameters.

    >>> resnet34().plan((3, 64, 64))[1]
    (10,)

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2015;
    torchvision's resnet34.
    """
    return _resnet(_basic, (3, 4, 6, 3), classes, stem)


def resnet50(classes: int = 10, *, stem: str = "large") -> Sequential:
    """Sixteen blocks of a 3x3 convolution between two of 1x1, in four stages.

    Takes images (C, H, W) of any size. Before the blocks, which halve their size three times, the
    stem "large" halves it twice; "small" leaves images of 32x32 or so as they are. With 1000
    classes of colour images it has 25,557,032 parameters; torchvision's names, so that its weights
    fit.

    Raises ValueError for another stem.

    >>> resnet50().plan((3, 64, 64))[1]
    (10,)
    >>> resnet50(stem="small").plan((3, 32, 32))[1]
    (10,)

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2015; where a
    block halves the image, its 3x3 convolution does, as in torchvision's resnet50.
    """
    return _resnet(_bottleneck, (3, 4, 6, 3), classes, stem)


def _resnet(
    block: Callable[[int, int, bool], Graph], depths: Sequence[int], classes: int, stem: str
) -> Sequential:
    if stem not in STEMS:
        raise ValueError(f"resnet: stem={stem!r}; give one of {', '.join(STEMS)}")
    parts = dict(STEMS[stem])
    for number, (depth, channels) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), 1):
        widens = number > 1 or block is _bottleneck
        first = block(channels, 1 if number == 1 else 2, widens)
        others = (block(channels, 1, False) for _ in range(depth - 1))
        parts[f"layer{number}"] = Sequential(first, *others)
    parts |= {"avgpool": GlobalAvgPool(), "fc": Linear(classes, weight_init="xavier_normal")}
    return Sequential(layers=tuple(parts.values()), names=tuple(parts))


def _basic(channels: int, stride: int, widens: bool) -> Graph:
    return Graph(
        ("conv1", Conv2d(channels, 3, stride, 1, bias=False), "input"),
        ("bn1", BatchNorm(), "conv1"),
        ("relu1", ReLU(), "bn1"),
        ("conv2", Conv2d(channels, 3, 1, 1, bias=False), "relu1"),
        ("bn2", BatchNorm(), "conv2"),
        *_joined("bn2", channels, stride, widens),
    )


def _bottleneck(channels: int, stride: int, widens: bool) -> Graph:
    wide = 4 * channels
    return Graph(
        ("conv1", Conv2d(channels, 1, bias=False), "input"),
        ("bn1", BatchNorm(), "conv1"),
        ("relu1", ReLU(), "bn1"),
        ("conv2", Conv2d(channels, 3, stride, 1, bias=False), "relu1"),
        ("bn2", BatchNorm(), "conv2"),
        ("relu2", ReLU(), "bn2"),
        ("conv3", Conv2d(wide, 1, bias=False), "relu2"),
        ("bn3", BatchNorm(), "conv3"),
        *_joined("bn3", wide, stride, widens),
    )


def _joined(body: str, channels: int, stride: int, widens: bool) -> list[tuple]:
    """The nodes that add the input to the body, projected to its shape where that is another."""
    if not widens:
        return [("relu", ReLU(), ("sum", body, "input"))]
    project = Sequential(Conv2d(channels, 1, stride, bias=False), BatchNorm())
    return [
        ("downsample", project, "input"),
        ("relu", ReLU(), ("sum", body, "downsample")),
    ]
