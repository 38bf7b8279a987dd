"""AlexNet."""

from __future__ import annotations

from ..layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)  # fmt: skip


def alexnet(classes: int = 10) -> Sequential:
    """Five convolutions, of 11x11, 5x5 and 3x3, and three linear layers with dropout.

    Takes images (C, H, W) of at least 63x63. With 1000 classes of colour images it has 61,100,840
    parameters; torchvision's names, so that its weights fit.

    >>> alexnet().plan((3, 64, 64))[1]
    (10,)

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014:
    the network of Krizhevsky, Sutskever & Hinton, 2012, on one device; torchvision's alexnet.
    """
    features = Sequential(
        Conv2d(64, 11, 4, 2),
        ReLU(),
        MaxPool2d(3, 2),
        Conv2d(192, 5, 1, 2),
        ReLU(),
        MaxPool2d(3, 2),
        Conv2d(384, 3, 1, 1),
        ReLU(),
        Conv2d(256, 3, 1, 1),
        ReLU(),
        Conv2d(256, 3, 1, 1),
        ReLU(),
        MaxPool2d(3, 2),
    )
    classifier = Sequential(
        Dropout(0.5),
        Linear(4096),
        ReLU(),
        Dropout(0.5),
        Linear(4096),
        ReLU(),
        Linear(classes, weight_init="xavier_normal"),
    )
    return Sequential(
        features, AdaptiveAvgPool2d(6), Flatten(), classifier,
        names=("features", "avgpool", "flatten", "classifier"),
    )  # fmt: skip
