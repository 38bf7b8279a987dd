"""Small networks for small images."""

from __future__ import annotations

from ..layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
)  # fmt: skip


def convnet(classes: int = 10) -> Sequential:
    """Two 5x5 convolutions with pooling, and a hidden layer of 512 with dropout.

    Takes images (C, H, W) of any size. At 1x28x28 it has 1,663,370 parameters.

    >>> from xpcnn import random
    >>> convnet().init(random.key(0), (1, 28, 28))[1]
    (10,)

    Source: TensorFlow's MNIST tutorial of 2015 ("convolutional.py").
    """
    return Sequential(
        Conv2d(32, 5, padding="same"),
        ReLU(),
        MaxPool2d(2, padding="same"),
        Conv2d(64, 5, padding="same"),
        ReLU(),
        MaxPool2d(2, padding="same"),
        Flatten(),
        Linear(512),
        ReLU(),
        Dropout(0.5),
        Linear(classes, weight_init="xavier_normal"),
    )


def classic(classes: int = 10) -> Sequential:
    """The smallest of the classic form: convolutions of 4 and 6 maps, two linear layers.

    Takes images (C, H, W) of at least 4x4.

    >>> from xpcnn import random
    >>> classic().init(random.key(0), (1, 8, 8))[1]
    (10,)

    Source: the form of LeCun et al., "Gradient-based learning applied to document recognition",
    1998.
    """
    return Sequential(
        Conv2d(4, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(32),
        ReLU(),
        Linear(classes, weight_init="xavier_normal"),
    )


def lenet5(classes: int = 10) -> Sequential:
    """LeNet-5 as it is built today: all channels connected, plain averages, a linear output.

    Takes images (C, H, W) of at least 12x12. At 1x28x28 it has 61,706 parameters.

    >>> from xpcnn import random
    >>> lenet5().init(random.key(0), (1, 28, 28))[1]
    (10,)

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """
    xavier = "xavier_uniform"
    return Sequential(
        Conv2d(6, 5, padding=2, weight_init=xavier),
        Tanh(),
        AvgPool2d(2),
        Conv2d(16, 5, weight_init=xavier),
        Tanh(),
        AvgPool2d(2),
        Flatten(),
        Linear(120, weight_init=xavier),
        Tanh(),
        Linear(84, weight_init=xavier),
        Tanh(),
        Linear(classes, weight_init=xavier),
    )
