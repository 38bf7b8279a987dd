"""Layers: frozen dataclasses of options, whose parameters live beside them in a tree.

model = Sequential(Conv2d(32, 5, padding="same"), ReLU(), MaxPool2d(2), Flatten(), Linear(10))
params, out_shape = model.init(xpcnn.random.key(0), in_shape=(1, 28, 28))
y = model(params, x)                          # inference
y, pull = model.vjp(params, x, key=key)       # training: pull(dy) -> (grads, dx)
"""

from __future__ import annotations

from . import initializers, tree
from .activation import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .base import Layer
from .blocks import SeparableConv2d, SqueezeExcitation
from .branches import Branches, Residual
from .combinators import Frozen, Sequential
from .conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from .describe import build, describe
from .graph import Graph
from .linear import Linear, LocallyConnected2d
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from .pooling import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from .resize import PoolUnpool, Upsample
from .shape import Dropout, Dropout2d, Flatten, Identity, Pad

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Branches",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "Frozen",
    "GlobalAvgPool",
    "Graph",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Identity",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LocallyConnected2d",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Mish",
    "PReLU",
    "Pad",
    "PoolUnpool",
    "ReLU",
    "ReLU6",
    "Residual",
    "SeparableConv2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SqueezeExcitation",
    "Tanh",
    "Upsample",
    "build",
    "describe",
    "initializers",
    "tree",
]
