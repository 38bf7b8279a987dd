"""The convolutions of LeNet-5, VGG-16, ResNet-18 and -50, GoogLeNet and MobileNetV2."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from _elsewhere import elsewhere
from _rows import Case, Draw, Row
from torch.nn import functional

import xpcnn
from xpcnn import ops

GRADIENTS = {"gradients": "xwb", "dx": "x", "dw": "wb"}
"""What is asked of a gradient, by task."""


@dataclass(frozen=True)
class Conv(Row):
    """A square convolution, padded by half its kernel unless said otherwise."""

    network: str
    channels: int
    out_channels: int
    kernel: int
    size: int
    stride: int = 1
    groups: int = 1
    bias: bool = False
    padding: int | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        """Such as "ResNet 3x3/2 64->128 @56"."""
        stride = f"/{self.stride}" if self.stride > 1 else ""
        maps = f"{self.channels}->{self.out_channels}" if self.groups == 1 else self.channels
        depthwise = " depthwise" if self.groups > 1 else ""
        return f"{self.network} {self.kernel}x{self.kernel}{stride}{depthwise} {maps} @{self.size}"

    @property
    def options(self) -> dict[str, int]:
        """What both libraries call alike."""
        padding = self.kernel // 2 if self.padding is None else self.padding
        return {"stride": self.stride, "padding": padding, "groups": self.groups}

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.channels, self.size, self.size

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(O, OH, OW)."""
        size = (self.size + 2 * self.options["padding"] - self.kernel) // self.stride + 1
        return self.out_channels, size, size

    @property
    def w_shape(self) -> tuple[int, ...]:
        """(O, C/G, KH, KW)."""
        return self.out_channels, self.channels // self.groups, self.kernel, self.kernel

    @property
    def taps(self) -> int:
        """Inputs that go into one output."""
        return math.prod(self.w_shape[1:])

    @property
    def families(self) -> tuple[str, ...]:
        """The kinds of convolution this one belongs to."""
        dense = self.groups == 1
        kinds = {
            "3x3 stride 1, 32 channels or more": dense
            and (self.kernel, self.stride) == (3, 1)
            and min(self.channels, self.out_channels) >= 32,
            "5x5": self.kernel == 5,
            "1x1": self.kernel == 1,
            "strided": dense and self.stride > 1,
            "depthwise": not dense,
        }
        return ("convolution", *(name for name, holds in kinds.items() if holds))

    def cases(self, batch: int, tasks: Collection[str], draw: Draw) -> Iterator[Case]:
        """The tasks asked for. A first layer is asked for no gradient of x but by "dx" itself."""
        x, their_x = draw.images(batch, *self.in_shape)
        w, their_w = draw.array(*self.w_shape, scale=self.taps**-0.5)
        b, their_b = draw.array(self.out_channels) if self.bias else (None, None)
        if "forward" in tasks:
            yield Case(
                "forward",
                lambda: ops.conv2d(x, w, b, **self.options),
                lambda: functional.conv2d(their_x, their_w, their_b, **self.options),
                elsewhere=partial(elsewhere, x=x, w=w, b=b, **self.options),
            )
        dy, their_dy = draw.images(batch, *self.out_shape)
        for task, asked in GRADIENTS.items():
            if task not in tasks:
                continue
            wrt = asked if self.channels > 3 or task == "dx" else "wb"
            _, pull = xpcnn.vjp(ops.conv2d, x, w, b, **self.options, wrt=tuple(wrt))
            mask = ["x" in wrt, "w" in wrt, "b" in wrt and self.bias]

            def theirs(mask: list[bool] = mask) -> tuple:
                pair = [self.options["stride"]] * 2, [self.options["padding"]] * 2
                return torch.ops.aten.convolution_backward(
                    their_dy, their_x, their_w, [self.out_channels] if self.bias else None,
                    *pair, [1, 1], False, [0, 0], self.groups, mask,
                )  # fmt: skip

            yield Case(task, lambda pull=pull: pull(dy), theirs)


def _convs(network: str, *rows: tuple, bias: bool = False) -> list[Conv]:
    """Rows of (channels, out_channels, kernel, size[, stride])."""
    return [Conv(network, *row, bias=bias, quick=row in QUICK) for row in rows]


def _depthwise(network: str, *rows: tuple) -> list[Conv]:
    """Rows of (channels, size[, stride])."""
    return [
        Conv(network, c, c, 3, size, *stride, groups=c, quick=(c, c, 3, size, *stride) in QUICK)
        for c, size, *stride in rows
    ]


QUICK = {
    (64, 64, 3, 224), (128, 128, 3, 112), (512, 512, 3, 14), (3, 64, 7, 224, 2), (64, 64, 3, 56),
    (128, 128, 3, 28), (256, 256, 3, 14), (512, 512, 3, 7), (128, 256, 3, 28, 2), (64, 256, 1, 56),
    (1024, 256, 1, 14), (32, 96, 5, 28), (16, 32, 5, 28), (32, 32, 3, 112), (384, 384, 3, 14),
    (144, 24, 1, 56), (320, 1280, 1, 7),
}  # fmt: skip
"""The rows of a quick run."""

CONVS = [
    Conv("LeNet-5", 1, 6, 5, 28, bias=True, quick=True),
    Conv("LeNet-5", 6, 16, 5, 14, bias=True, padding=0, quick=True),
    *_convs(
        "VGG-16",
        (3, 64, 3, 224), (64, 64, 3, 224), (64, 128, 3, 112), (128, 128, 3, 112),
        (128, 256, 3, 56), (256, 256, 3, 56), (256, 512, 3, 28), (512, 512, 3, 28),
        (512, 512, 3, 14),
        bias=True,
    ),
    *_convs(
        "ResNet",
        (3, 64, 7, 224, 2), (64, 64, 3, 56), (128, 128, 3, 28), (256, 256, 3, 14), (512, 512, 3, 7),
        (64, 128, 3, 56, 2), (128, 256, 3, 28, 2), (256, 512, 3, 14, 2),
        (64, 64, 1, 56), (64, 256, 1, 56), (256, 64, 1, 56), (256, 128, 1, 56), (512, 128, 1, 28),
        (1024, 256, 1, 14), (256, 1024, 1, 14), (2048, 512, 1, 7), (256, 512, 1, 56, 2),
    ),
    *_convs(
        "GoogLeNet",
        (192, 64, 1, 28), (96, 128, 3, 28), (16, 32, 5, 28), (32, 96, 5, 28),
        (480, 192, 1, 14), (96, 208, 3, 14), (16, 48, 5, 14),
        (192, 384, 3, 7), (48, 128, 5, 7),
        bias=True,
    ),
    *_convs("MobileNetV2", (3, 32, 3, 224, 2)),
    *_depthwise(
        "MobileNetV2",
        (32, 112), (96, 112, 2), (144, 56), (192, 28), (384, 14), (576, 14), (960, 7),
    ),
    *_convs(
        "MobileNetV2",
        (16, 96, 1, 112), (96, 24, 1, 56), (24, 144, 1, 56), (144, 24, 1, 56), (384, 64, 1, 14),
        (64, 384, 1, 14), (160, 960, 1, 7), (960, 160, 1, 7), (320, 1280, 1, 7),
    ),
]  # fmt: skip
"""Every row: a layer of a network at the size it has there, for images of 224x224 (LeNet 28x28)."""
