"""What is timed on a GPU: the rows that the CPU has, and columns; and what none can go below."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from _conv import CONVS, Conv
from _gpu_training import TRAININGS, DeviceTraining
from _layers import LAYERS, Layer
from _rows import LAYOUTS, TOLERANCE, Case, Draw, Row
from torch.nn import functional

import xpcnn
from xpcnn import ops

TOLERANCES = {"float32": TOLERANCE, "tf32": 5e-3, "float16": 5e-3}
"""Of the largest entry, from PyTorch's float32: TF32 and float16 have 11 bits, 5e-4 each time."""

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16}


class DeviceDraw(Draw):
    """Normal numbers drawn on a device: one memory for both libraries, in one layout for both.

    With `exact` they are the same numbers, rounded as the precision has them, but in float32.
    """

    def __init__(
        self, device: Any, layout: str, precision: str, seed: int = 0, exact: bool = False
    ) -> None:
        self.device, self.format, self.rounded = device, LAYOUTS[layout], DTYPES[precision]
        self.dtype = torch.float32 if exact else self.rounded
        self.precision = precision
        self.generator = torch.Generator(device.name).manual_seed(seed)

    def array(self, *shape: int, scale: float = 1.0) -> tuple[Any, torch.Tensor]:
        """An array in C order, for both; of rank 4, a kernel, theirs is in their layout."""
        theirs = self._numbers(shape) * scale
        theirs = theirs.to(self.rounded).to(self.dtype)
        ours = self.device.ours(theirs)
        return ours, theirs.to(memory_format=self.format) if len(shape) == 4 else theirs

    def images(self, *shape: int) -> tuple[Any, torch.Tensor]:
        """An array (N, C, H, W), in the layout for both."""
        theirs = self._numbers(shape).to(self.rounded).to(self.dtype)
        theirs = theirs.contiguous(memory_format=self.format)
        return self.device.ours(theirs), theirs

    def labels(self, count: int) -> tuple[Any, torch.Tensor]:
        """One of ten classes for each image."""
        theirs = torch.randint(10, (count,), generator=self.generator, device=self.generator.device)
        return self.device.ours(theirs), theirs

    def _numbers(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


def columns(channels: int, size: int, kernel: int, quick: bool = False) -> Layer:
    """The columns of a convolution that keeps the size, and their adjoint."""
    window = {"kernel_size": kernel, "padding": kernel // 2}

    def cases(x, their_x, dy, their_dy, draw):
        _, pull = xpcnn.vjp(ops.unfold, x, **window)
        yield Case(
            "forward", lambda: ops.unfold(x, **window), lambda: functional.unfold(their_x, **window)
        )
        yield Case(
            "gradients",
            lambda: pull(dy),
            lambda: functional.fold(their_dy, (size, size), **window),
        )

    shapes = (channels, size, size), (channels * kernel**2, size**2)
    name = f"columns {kernel}x{kernel} {channels} @{size}"
    return Layer(name, ("columns",), *shapes, cases, quick=quick)


COLUMNS = [columns(64, 56, 3, quick=True), columns(256, 14, 3), columns(16, 28, 5)]

ROWS: list[Row] = [
    *CONVS, *(row for row in LAYERS if row.families != ("linear",)), *COLUMNS, *TRAININGS
]  # fmt: skip


def kind(row: Row) -> str:
    """The class over which a row's ratios are averaged."""
    if isinstance(row, Conv):
        return "depthwise" if row.groups > 1 else CONV_KINDS[row.kernel]
    if row.families[0].endswith("pooling"):
        return "pooling"
    return {"columns": "columns", "training step": "training"}.get(row.families[0], "elementwise")


CONV_KINDS = {1: "conv 1x1", 3: "conv 3x3", 5: "conv 5x5, 7x7", 7: "conv 5x5, 7x7"}

MULTIPLIES = (*CONV_KINDS.values(), "depthwise", "training")
"""The classes in which TF32 differs from float32, and in which cuDNN has a choice to make."""

TASKS = ("forward", "inference", "dx", "dw", "gradients", "training")


def tasks(row: Row) -> tuple[str, ...]:
    """What is timed of a row: a convolution's two gradients apart."""
    return ("forward", "dx", "dw") if isinstance(row, Conv) else TASKS


class Floors(NamedTuple):
    """What a device does in a second at most: bytes copied, and operations by precision."""

    bandwidth: float
    rates: dict[str, float]


class Work(NamedTuple):
    """What cannot be avoided: bytes to be read and written, multiplications and additions."""

    bytes: int
    operations: int

    def seconds(self, floors: Floors, precision: str) -> float:
        """The least time for it."""
        return max(self.bytes / floors.bandwidth, self.operations / floors.rates[precision])


def work(row: Row, batch: int, task: str, precision: str) -> Work:
    """Each element of what goes in and comes out counted once."""
    if isinstance(row, DeviceTraining):
        return Work(0, batch * row.operations)
    size = DTYPES[precision].itemsize
    ins, outs = (batch * math.prod(shape) for shape in (row.in_shape, row.out_shape))
    if isinstance(row, Conv):  # of x, w and y each task reads two and writes the third
        return Work(size * (ins + outs + math.prod(row.w_shape)), 2 * outs * row.taps)
    return Work(round(size * (ins + outs) * _passes(row, task)), 0)


def _passes(row: Row, task: str) -> float:
    """How often a task goes over as much as x and y are together."""
    if task == "training":  # values, and then the gradient
        return 2.0
    # dy, and either x or y, give dx, all of one size; a pooling's or columns' dy gives dx alone
    return 1.5 if task == "gradients" and kind(row) == "elementwise" else 1.0


def copies(row: Row, least: Work, cache: int) -> int:
    """Of the inputs, so that what a call reads has left the cache since it was last used."""
    if isinstance(row, DeviceTraining):  # larger than any cache, all in all
        return 1
    return min(MOST_COPIES, max(1, math.ceil(CACHES * cache / least.bytes)))


CACHES = 3
"""So many times the cache is gone through before an input is read again."""

MOST_COPIES = 128
