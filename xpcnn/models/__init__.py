"""Networks, ready to be initialised: compositions of layers, with no arithmetic of their own.

Each is a function of the number of classes. Where torchvision has the network, parameters bear its
names and have its shapes.
"""

from __future__ import annotations

from collections.abc import Callable

from ..layers import Layer
from .alexnet import alexnet
from .inception import googlenet, inception
from .lenet import classic, convnet, lenet5
from .mobilenet import mobilenet
from .resnet import resnet18, resnet34, resnet50
from .squeezenet import squeezenet
from .vgg import vgg11, vgg11_bn, vgg16, vgg16_bn

__all__ = [
    "MODELS", "alexnet", "classic", "convnet", "googlenet", "inception", "lenet5", "mobilenet",
    "resnet18", "resnet34", "resnet50", "squeezenet", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn",
]  # fmt: skip

MODELS: dict[str, Callable[[int], Layer]] = {
    model.__name__: model
    for model in (
        convnet, lenet5, classic, alexnet, vgg11, vgg11_bn, vgg16, vgg16_bn, googlenet, resnet18,
        resnet34, resnet50, mobilenet, squeezenet,
    )
}  # fmt: skip
"""Model functions by name; each takes the number of classes."""
