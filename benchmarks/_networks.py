"""The networks whose training is timed, and our step; nothing here loads another library."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from xpcnn import models, ops, random
from xpcnn.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
    tree,
)
from xpcnn.optim import SGD, Adam
from xpcnn.training import init_state, train_step

RATE = 1e-6
"""Too little to learn by: gradients stay of one size, however many steps are timed."""


class Network(NamedTuple):
    """A network, its optimizer by name, and the batch it is trained on."""

    name: str
    model: Sequential
    in_shape: tuple[int, int, int]
    batch: int
    optimizer: str

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels, drawn at random."""
        numbers = np.random.default_rng(0)
        x = numbers.standard_normal((self.batch, *self.in_shape), np.float32)
        return x, numbers.integers(0, 10, self.batch)


def resnet18(classes: int = 10) -> Sequential:
    """ResNet-18 for images of 32x32: a 3x3 convolution first, without pooling.

    Source: He et al., "Deep residual learning", 2015, section 4.2 and table 1.
    """
    layers: list[Layer] = [*_conv_norm(64, 3), ReLU()]
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for step in (stride, 1):
            body = Sequential(
                *_conv_norm(channels, 3, step), ReLU(), *_conv_norm(channels, 3)
            )  # fmt: skip
            shortcut = Identity() if step == 1 else Sequential(*_conv_norm(channels, 1, step))
            layers += [Residual(body, shortcut), ReLU()]
    return Sequential(*layers, GlobalAvgPool(), Linear(classes))


def resnet50(classes: int = 1000) -> Sequential:
    """ResNet-50 for images of 224x224; where a block strides its 3x3 convolution does.

    Source: He et al., "Deep residual learning", 2015, table 1; the stride's place is torchvision's.
    """
    layers: list[Layer] = [*_conv_norm(64, 7, 2), ReLU(), MaxPool2d(3, 2, 1)]
    for channels, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number, step in enumerate((stride, *(1,) * (count - 1))):
            body = Sequential(
                *_conv_norm(channels, 1), ReLU(),
                *_conv_norm(channels, 3, step), ReLU(),
                *_conv_norm(4 * channels, 1),
            )  # fmt: skip
            shortcut = Identity() if number else Sequential(*_conv_norm(4 * channels, 1, step))
            layers += [Residual(body, shortcut), ReLU()]
    return Sequential(*layers, GlobalAvgPool(), Linear(classes))


def vgg16(classes: int = 1000) -> Sequential:
    """VGG-16 for images of 224x224.

    Source: Simonyan and Zisserman, "Very deep convolutional networks", 2014, configuration D.
    """
    layers: list[Layer] = []
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [Conv2d(channels, 3, padding=1), ReLU()]
        layers.append(MaxPool2d(2))
    layers.append(Flatten())
    for _ in range(2):
        layers += [Linear(4096), ReLU(), Dropout(0.5)]
    return Sequential(*layers, Linear(classes))


def mobilenet_v2(classes: int = 10) -> Sequential:
    """MobileNetV2 of width 1.

    Source: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018, table 2.
    """
    layers: list[Layer] = [*_conv_norm(32, 3, 2), ReLU6()]
    channels = 32
    for expand, out, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for step in (stride, *(1,) * (count - 1)):
            wide = expand * channels
            body = Sequential(
                *((*_conv_norm(wide, 1), ReLU6()) if expand > 1 else ()),
                *_conv_norm(wide, 3, step, groups=wide), ReLU6(),
                *_conv_norm(out, 1),
            )  # fmt: skip
            layers.append(Residual(body) if (step, channels) == (1, out) else body)
            channels = out
    return Sequential(
        *layers, *_conv_norm(1280, 1), ReLU6(), GlobalAvgPool(), Dropout(0.2), Linear(classes)
    )


def _conv_norm(channels: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[Layer, Layer]:
    padding = kernel // 2
    conv = Conv2d(channels, kernel, stride, padding, groups=groups, bias=False)
    return conv, BatchNorm()


NETWORKS = {
    network.name: network
    for network in (
        Network("convnet", models.convnet(), (1, 28, 28), 64, "Adam"),
        Network("ResNet-18", resnet18(), (3, 32, 32), 32, "SGD"),
        Network("MobileNetV2", mobilenet_v2(), (3, 96, 96), 16, "SGD"),
    )
}


class OurLearner:
    """xpcnn's training of a network."""

    def __init__(self, network: Network) -> None:
        self.model = network.model
        self.optimizer = Adam(RATE) if network.optimizer == "Adam" else SGD(RATE, momentum=0.9)
        self.params, _ = self.model.init(random.key(0), network.in_shape)
        self.state = init_state(self.model, self.optimizer, self.params)
        self.x, self.y = network.data()

    def step(self) -> None:
        """Take a step, always on the same batch."""
        done = train_step(
            self.model, self.optimizer, self.params, self.state, self.x, self.y, key=random.key(1)
        )
        self.params, self.state = done.params, done.state

    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """The loss, and the gradients of all weights by name as one vector, without dropout."""
        logits, pull = without_dropout(self.model).vjp(self.params, self.x)
        loss, loss_pull = ops.cross_entropy.vjp(logits, self.y)
        grads, _ = tree.partition(pull(loss_pull(1.0)[0])[0])
        return loss, np.concatenate([np.ravel(grad) for grad in tree.leaves(grads)])


def without_dropout(model: Sequential) -> Sequential:
    """The network, whose dropout keeps everything."""
    kept = (replace(part, p=0.0) if isinstance(part, Dropout) else part for part in model.layers)
    return replace(model, layers=tuple(kept))
