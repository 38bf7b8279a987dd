"""Every layer once: what it is given, what it makes of it, how it prints, what PyTorch calls it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from xpcnn import layers as L
from xpcnn.layers import tree

BATCH = 3


@dataclass(frozen=True)
class Case:
    """`layer` on inputs of `in_shape` gives `out_shape` and holds parameters of these `shapes`.

    `torch` makes PyTorch's module from torch.nn, where it has one with parameters of these names.
    """

    layer: L.Layer
    repr: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    torch: Callable[[Any], Any] | None = None

    @property
    def x(self) -> np.ndarray:
        """float64, normal: no ties, no kinks."""
        return np.random.default_rng(0).standard_normal((BATCH, *self.in_shape))

    @property
    def dy(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((BATCH, *self.out_shape))

    @property
    def weights(self) -> dict[str, Any]:
        """Parameters that differ from what `init` draws, variances being positive."""
        rng = np.random.default_rng(2)
        flat = {name: rng.standard_normal(shape) for name, shape in self.shapes.items()}
        return tree.unflatten(
            {name: a * a + 0.5 if "var" in name else a for name, a in flat.items()}
        )

    @property
    def terms(self) -> int:
        """More than the longest sum in y or a gradient."""
        sizes = (self.in_shape, self.out_shape, *self.shapes.values())
        return BATCH * max(math.prod(shape) for shape in sizes)


def read_only(nested: Any) -> Any:
    """A tree whose dicts, and whose arrays where they are NumPy's, refuse to be written."""
    if isinstance(nested, dict):
        return MappingProxyType({name: read_only(node) for name, node in nested.items()})
    if isinstance(nested, np.ndarray):
        nested = nested.view()
        nested.flags.writeable = False
    return nested


def _affine(*shape: int) -> dict[str, tuple[int, ...]]:
    return {"weight": shape, "bias": shape}


def _running(channels: int) -> dict[str, tuple[int, ...]]:
    return {"running_mean": (channels,), "running_var": (channels,)}


IMAGE = (4, 6, 5)
ROW, VOLUME = (4, 9), (2, 4, 3, 5)


def _same(layer: L.Layer, torch: Callable[[Any], Any] | None, text: str | None = None) -> Case:
    """A layer without parameters that keeps the shape of images."""
    return Case(layer, text or f"{type(layer).__name__}()", IMAGE, IMAGE, {}, torch)


ACTIVATIONS = (
    _same(L.ReLU(), lambda nn: nn.ReLU()),
    _same(L.ReLU6(), lambda nn: nn.ReLU6()),
    _same(L.LeakyReLU(0.2), lambda nn: nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
    _same(L.ELU(), lambda nn: nn.ELU()),
    _same(L.ELU(0.5), lambda nn: nn.ELU(0.5), "ELU(alpha=0.5)"),
    _same(L.SELU(), lambda nn: nn.SELU()),
    _same(L.GELU(), lambda nn: nn.GELU()),
    _same(L.GELU("tanh"), lambda nn: nn.GELU("tanh"), "GELU(approximate='tanh')"),
    _same(L.SiLU(), lambda nn: nn.SiLU()),
    _same(L.Mish(), lambda nn: nn.Mish()),
    _same(L.Softplus(2.0), lambda nn: nn.Softplus(2.0), "Softplus(beta=2.0)"),
    _same(L.Hardswish(), lambda nn: nn.Hardswish()),
    _same(L.Hardsigmoid(), None),  # PyTorch's gradient has 1/6 in float32 whatever the dtype
    _same(L.Sigmoid(), lambda nn: nn.Sigmoid()),
    _same(L.Tanh(), lambda nn: nn.Tanh()),
    _same(L.Softmax(), lambda nn: nn.Softmax(1)),
    _same(L.LogSoftmax(-1), lambda nn: nn.LogSoftmax(-1), "LogSoftmax(dim=-1)"),
    Case(L.PReLU(), "PReLU()", ROW, ROW, {"weight": (1,)}, lambda nn: nn.PReLU()),
    Case(
        L.PReLU(4, start=0.1), "PReLU(num_parameters=4, start=0.1)", IMAGE, IMAGE,
        {"weight": (4,)}, lambda nn: nn.PReLU(4, 0.1),
    ),
)  # fmt: skip

CONVOLUTIONS = (
    Case(
        L.Conv1d(6, 3, padding="same"),
        "Conv1d(out_channels=6, kernel_size=(3,), padding='same')",
        ROW, (6, 9), {"weight": (6, 4, 3), "bias": (6,)},
        lambda nn: nn.Conv1d(4, 6, 3, padding="same"),
    ),
    Case(
        L.Conv2d(6, (3, 2), stride=2, padding=1, groups=2),
        "Conv2d(out_channels=6, kernel_size=(3, 2), stride=(2, 2), padding=(1, 1), groups=2)",
        IMAGE, (6, 3, 3), {"weight": (6, 2, 3, 2), "bias": (6,)},
        lambda nn: nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2),
    ),
    Case(
        L.Conv2d(3, 3, padding=((0, 1), (2, 0)), bias=False, weight_init="orthogonal"),
        "Conv2d(out_channels=3, kernel_size=(3, 3), padding=((0, 1), (2, 0)), bias=False, "
        "weight_init='orthogonal')",
        IMAGE, (3, 5, 5), {"weight": (3, 4, 3, 3)},
    ),
    Case(
        L.Conv3d(3, 2, dilation=(1, 2, 1)),
        "Conv3d(out_channels=3, kernel_size=(2, 2, 2), dilation=(1, 2, 1))",
        VOLUME, (3, 3, 1, 4), {"weight": (3, 2, 2, 2, 2), "bias": (3,)},
        lambda nn: nn.Conv3d(2, 3, 2, dilation=(1, 2, 1)),
    ),
    Case(
        L.ConvTranspose1d(6, 3, 2),
        "ConvTranspose1d(out_channels=6, kernel_size=(3,), stride=(2,))",
        ROW, (6, 19), {"weight": (4, 6, 3), "bias": (6,)},
        lambda nn: nn.ConvTranspose1d(4, 6, 3, 2),
    ),
    Case(
        L.ConvTranspose2d(6, 3, 2, 1, groups=2, bias=False, output_padding=1),
        "ConvTranspose2d(out_channels=6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), "
        "groups=2, bias=False, output_padding=(1, 1))",
        IMAGE, (6, 12, 10), {"weight": (4, 3, 3, 3)},
        lambda nn: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False),
    ),
    Case(
        L.ConvTranspose3d(3, 2),
        "ConvTranspose3d(out_channels=3, kernel_size=(2, 2, 2))",
        VOLUME, (3, 5, 4, 6), {"weight": (2, 3, 2, 2, 2), "bias": (3,)},
        lambda nn: nn.ConvTranspose3d(2, 3, 2),
    ),
)  # fmt: skip

POOLINGS = (
    Case(L.MaxPool1d(2), "MaxPool1d(kernel_size=(2,))", ROW, (4, 4), {},
         lambda nn: nn.MaxPool1d(2)),
    Case(
        L.MaxPool2d(3, 2, 1, ceil_mode=True),
        "MaxPool2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True)",
        IMAGE, (4, 4, 3), {}, lambda nn: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    ),
    Case(L.MaxPool3d(2, 1, dilation=(2, 1, 3)),
         "MaxPool3d(kernel_size=(2, 2, 2), stride=(1, 1, 1), dilation=(2, 1, 3))",
         VOLUME, (2, 2, 2, 2), {}, lambda nn: nn.MaxPool3d(2, 1, dilation=(2, 1, 3))),
    Case(L.AvgPool1d(3, padding=1), "AvgPool1d(kernel_size=(3,), padding=(1,))", ROW, (4, 3), {},
         lambda nn: nn.AvgPool1d(3, padding=1)),
    Case(
        L.AvgPool2d(2, padding=1, count_include_pad=False),
        "AvgPool2d(kernel_size=(2, 2), padding=(1, 1), count_include_pad=False)",
        IMAGE, (4, 4, 3), {}, lambda nn: nn.AvgPool2d(2, padding=1, count_include_pad=False),
    ),
    Case(L.AvgPool3d(2), "AvgPool3d(kernel_size=(2, 2, 2))", VOLUME, (2, 2, 1, 2), {},
         lambda nn: nn.AvgPool3d(2)),
    Case(L.AdaptiveAvgPool2d((4, 2)), "AdaptiveAvgPool2d(output_size=(4, 2))", IMAGE, (4, 4, 2),
         {}, lambda nn: nn.AdaptiveAvgPool2d((4, 2))),
    Case(L.AdaptiveMaxPool2d(2), "AdaptiveMaxPool2d(output_size=(2, 2))", IMAGE, (4, 2, 2), {},
         lambda nn: nn.AdaptiveMaxPool2d(2)),
    Case(L.GlobalAvgPool(), "GlobalAvgPool()", IMAGE, (4,), {},
         lambda nn: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
)  # fmt: skip

PRODUCTS = (
    Case(L.Linear(3), "Linear(out_features=3)", (5,), (3,), {"weight": (3, 5), "bias": (3,)},
         lambda nn: nn.Linear(5, 3)),
    Case(L.Linear(2, bias=False), "Linear(out_features=2, bias=False)", (3, 4), (3, 2),
         {"weight": (2, 4)}, lambda nn: nn.Linear(4, 2, bias=False)),
    Case(
        L.LocallyConnected2d(2, 3, 2, 1),
        "LocallyConnected2d(out_channels=2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))",
        IMAGE, (2, 3, 3), {"weight": (3, 3, 2, 4, 3, 3), "bias": (2, 3, 3)},
    ),
)  # fmt: skip

NORMS = (
    Case(L.BatchNorm(), "BatchNorm()", IMAGE, IMAGE, _affine(4) | _running(4),
         lambda nn: nn.BatchNorm2d(4)),
    Case(L.BatchNorm(1e-3, 0.3, affine=False), "BatchNorm(eps=0.001, momentum=0.3, affine=False)",
         (4,), (4,), _running(4), lambda nn: nn.BatchNorm1d(4, 1e-3, 0.3, affine=False)),
    Case(L.LayerNorm((6, 5)), "LayerNorm(normalized_shape=(6, 5))", IMAGE, IMAGE, _affine(6, 5),
         lambda nn: nn.LayerNorm((6, 5))),
    Case(L.GroupNorm(2), "GroupNorm(num_groups=2)", IMAGE, IMAGE, _affine(4),
         lambda nn: nn.GroupNorm(2, 4)),
    Case(L.InstanceNorm(), "InstanceNorm()", IMAGE, IMAGE, {}, lambda nn: nn.InstanceNorm2d(4)),
    Case(L.InstanceNorm(affine=True), "InstanceNorm(affine=True)", ROW, ROW, _affine(4),
         lambda nn: nn.InstanceNorm1d(4, affine=True)),
    Case(L.LocalResponseNorm(3, alpha=0.5), "LocalResponseNorm(size=3, alpha=0.5)", IMAGE, IMAGE,
         {}, lambda nn: nn.LocalResponseNorm(3, 0.5)),
)  # fmt: skip

MOVES = (
    _same(L.Identity(), lambda nn: nn.Identity()),
    _same(L.Dropout(0.25), None, "Dropout(p=0.25)"),
    _same(L.Dropout2d(0.25), None, "Dropout2d(p=0.25)"),
    Case(L.Flatten(), "Flatten()", IMAGE, (120,), {}, lambda nn: nn.Flatten()),
    Case(L.Pad((1, 2, 0, 1), "reflect"), "Pad(pad=(1, 2, 0, 1), mode='reflect')", IMAGE, (4, 7, 8),
         {}, lambda nn: nn.ReflectionPad2d((1, 2, 0, 1))),
    Case(L.Upsample(scale_factor=2), "Upsample(scale_factor=2)", ROW, (4, 18), {},
         lambda nn: nn.Upsample(scale_factor=2)),
    Case(L.Upsample((3, 11), mode="bilinear"), "Upsample(size=(3, 11), mode='bilinear')", IMAGE,
         (4, 3, 11), {}, lambda nn: nn.Upsample((3, 11), mode="bilinear")),
)  # fmt: skip

BLOCKS = (
    Case(
        L.SeparableConv2d(3, 3, stride=2, padding=1, depth_multiplier=2),
        "SeparableConv2d(out_channels=3, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), "
        "depth_multiplier=2)",
        IMAGE, (3, 3, 3),
        {"depthwise.weight": (8, 1, 3, 3), "pointwise.weight": (3, 8, 1, 1),
         "pointwise.bias": (3,)},
        lambda nn: nn.Sequential(OrderedDict(
            depthwise=nn.Conv2d(4, 8, 3, 2, 1, groups=4, bias=False), pointwise=nn.Conv2d(8, 3, 1)
        )),
    ),
    Case(
        L.SeparableConv2d(2, (3, 2), bias=False),
        "SeparableConv2d(out_channels=2, kernel_size=(3, 2), bias=False)",
        IMAGE, (2, 4, 4), {"depthwise.weight": (4, 1, 3, 2), "pointwise.weight": (2, 4, 1, 1)},
    ),
    Case(
        L.SqueezeExcitation(2), "SqueezeExcitation(ratio=2)", IMAGE, IMAGE,
        {"fc1.weight": (2, 4, 1, 1), "fc1.bias": (2,), "fc2.weight": (4, 2, 1, 1),
         "fc2.bias": (4,)},
    ),
)  # fmt: skip

COMBINATORS = (
    Case(
        L.Sequential(L.Conv2d(2, 3), L.BatchNorm(), L.Tanh(), L.Flatten(), L.Linear(3)),
        "Sequential(\n"
        "  (0): Conv2d(out_channels=2, kernel_size=(3, 3))\n"
        "  (1): BatchNorm()\n"
        "  (2): Tanh()\n"
        "  (3): Flatten()\n"
        "  (4): Linear(out_features=3)\n"
        ")",
        IMAGE, (3,),
        {"0.weight": (2, 4, 3, 3), "0.bias": (2,), "1.weight": (2,), "1.bias": (2,),
         "1.running_mean": (2,), "1.running_var": (2,), "4.weight": (3, 24), "4.bias": (3,)},
        lambda nn: nn.Sequential(
            nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)
        ),
    ),
    Case(L.Sequential(), "Sequential()", ROW, ROW, {}, lambda nn: nn.Sequential()),
    Case(
        L.Residual(L.Sequential(L.Conv2d(4, 3, padding=1), L.BatchNorm())),
        "Residual(\n"
        "  (body): Sequential(\n"
        "    (0): Conv2d(out_channels=4, kernel_size=(3, 3), padding=(1, 1))\n"
        "    (1): BatchNorm()\n"
        "  )\n"
        "  (shortcut): Identity()\n"
        ")",
        IMAGE, IMAGE,
        {"body.0.weight": (4, 4, 3, 3), "body.0.bias": (4,), "body.1.weight": (4,),
         "body.1.bias": (4,), "body.1.running_mean": (4,), "body.1.running_var": (4,)},
    ),
    Case(
        L.Residual(L.Conv2d(2, 3, 2, 1), L.Conv2d(2, 1, 2), names=("deep", "flat")),
        "Residual(\n"
        "  (deep): Conv2d(out_channels=2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))\n"
        "  (flat): Conv2d(out_channels=2, kernel_size=(1, 1), stride=(2, 2))\n"
        ")",
        IMAGE, (2, 3, 3),
        {"deep.weight": (2, 4, 3, 3), "deep.bias": (2,), "flat.weight": (2, 4, 1, 1),
         "flat.bias": (2,)},
    ),
    Case(
        L.Branches(
            L.Conv2d(2, 1), L.Sequential(L.Conv2d(1, 1), L.Conv2d(3, 3, padding="same")),
            L.Identity(), names=("wide", "deep", "same"),
        ),
        "Branches(\n"
        "  merge='concat'\n"
        "  (wide): Conv2d(out_channels=2, kernel_size=(1, 1))\n"
        "  (deep): Sequential(\n"
        "    (0): Conv2d(out_channels=1, kernel_size=(1, 1))\n"
        "    (1): Conv2d(out_channels=3, kernel_size=(3, 3), padding='same')\n"
        "  )\n"
        "  (same): Identity()\n"
        ")",
        IMAGE, (9, 6, 5),
        {"wide.weight": (2, 4, 1, 1), "wide.bias": (2,), "deep.0.weight": (1, 4, 1, 1),
         "deep.0.bias": (1,), "deep.1.weight": (3, 1, 3, 3), "deep.1.bias": (3,)},
    ),
    Case(
        L.Branches(L.Linear(4), L.Tanh(), merge="sum"),
        "Branches(\n  merge='sum'\n  (0): Linear(out_features=4)\n  (1): Tanh()\n)",
        (4,), (4,), {"0.weight": (4, 4), "0.bias": (4,)},
    ),
    Case(
        L.Branches(L.Conv2d(4, 1), L.Conv2d(1, 1), L.AdaptiveAvgPool2d(1), merge="product"),
        "Branches(\n"
        "  merge='product'\n"
        "  (0): Conv2d(out_channels=4, kernel_size=(1, 1))\n"
        "  (1): Conv2d(out_channels=1, kernel_size=(1, 1))\n"
        "  (2): AdaptiveAvgPool2d(output_size=(1, 1))\n"
        ")",
        IMAGE, IMAGE,
        {"0.weight": (4, 4, 1, 1), "0.bias": (4,), "1.weight": (1, 4, 1, 1), "1.bias": (1,)},
    ),
    Case(
        L.Graph(
            ("conv", L.Conv2d(2, 3, padding=1), "input"),
            ("both", L.BatchNorm(), ("concat", "input", "conv", "conv")),
            ("act", L.ReLU(), "both"),
            ("last", L.Tanh(), ("product", "act", "both")),
        ),
        "Graph(\n"
        "  (conv <- input): Conv2d(out_channels=2, kernel_size=(3, 3), padding=(1, 1))\n"
        "  (both <- concat(input, conv, conv)): BatchNorm()\n"
        "  (act <- both): ReLU()\n"
        "  (last <- product(act, both)): Tanh()\n"
        ")",
        IMAGE, (8, 6, 5),
        {"conv.weight": (2, 4, 3, 3), "conv.bias": (2,), "both.weight": (8,), "both.bias": (8,),
         "both.running_mean": (8,), "both.running_var": (8,)},
    ),
    Case(
        L.PoolUnpool(L.MaxPool2d(2), L.Conv2d(4, 3, padding=1), L.Tanh()),
        "PoolUnpool(\n"
        "  pool=MaxPool2d(kernel_size=(2, 2))\n"
        "  (0): Conv2d(out_channels=4, kernel_size=(3, 3), padding=(1, 1))\n"
        "  (1): Tanh()\n"
        ")",
        IMAGE, IMAGE, {"0.weight": (4, 4, 3, 3), "0.bias": (4,)},
    ),
    Case(
        L.Frozen(L.Sequential(L.Conv2d(2, 3), L.BatchNorm())),
        "Frozen(inner=Sequential(\n"
        "  (0): Conv2d(out_channels=2, kernel_size=(3, 3))\n"
        "  (1): BatchNorm()\n"
        "))",
        IMAGE, (2, 4, 3),
        {"0.weight": (2, 4, 3, 3), "0.bias": (2,), "1.weight": (2,), "1.bias": (2,),
         "1.running_mean": (2,), "1.running_var": (2,)},
    ),
)  # fmt: skip

CASES = (
    *ACTIVATIONS, *CONVOLUTIONS, *POOLINGS, *PRODUCTS, *NORMS, *MOVES, *BLOCKS, *COMBINATORS,
)  # fmt: skip
