"""SqueezeNet: few channels into each 3x3 convolution."""

from __future__ import annotations

from ..layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    MaxPool2d,
    ReLU,
    Sequential,
)  # fmt: skip


def squeezenet(classes: int = 10) -> Sequential:
    """SqueezeNet 1.1: eight modules that squeeze channels, then expand them by 1x1 and by 3x3.

    Takes images (C, H, W) of at least 25x25. With 1000 classes of colour images it has 1,235,496
    parameters; torchvision's names, so that its weights fit.

    >>> squeezenet().plan((3, 32, 32))[1]
    (10,)

    Source: Iandola et al., "SqueezeNet", 2016; torchvision's squeezenet1_1.
    """
    features = Sequential(
        Conv2d(64, 3, 2),
        ReLU(),
        MaxPool2d(3, 2, ceil_mode=True),
        _fire(16, 64),
        _fire(16, 64),
        MaxPool2d(3, 2, ceil_mode=True),
        _fire(32, 128),
        _fire(32, 128),
        MaxPool2d(3, 2, ceil_mode=True),
        _fire(48, 192),
        _fire(48, 192),
        _fire(64, 256),
        _fire(64, 256),
    )
    classifier = Sequential(Dropout(0.5), Conv2d(classes, 1), ReLU(), AdaptiveAvgPool2d(1))
    return Sequential(features, classifier, Flatten(), names=("features", "classifier", "flatten"))


def _fire(squeezed: int, expanded: int) -> Graph:
    return Graph(
        ("squeeze", Conv2d(squeezed, 1), "input"),
        ("squeeze_activation", ReLU(), "squeeze"),
        ("expand1x1", Conv2d(expanded, 1), "squeeze_activation"),
        ("expand3x3", Conv2d(expanded, 3, 1, 1), "squeeze_activation"),
        ("expand_activation", ReLU(), ("concat", "expand1x1", "expand3x3")),
    )
