"""Pooling layers. None has parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import ops
from ..window import Padding, Size
from .base import OpLayer, per_axis


@dataclass(frozen=True, repr=False)
class _Pool(OpLayer):
    kernel_size: Size
    stride: Size | None = None
    padding: Padding = 0

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, self.rank, "kernel_size", "stride", "padding")


@dataclass(frozen=True, repr=False)
class _MaxPool(_Pool):
    dilation: Size = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, self.rank, "dilation")


@dataclass(frozen=True, repr=False)
class _AvgPool(_Pool):
    ceil_mode: bool = False
    count_include_pad: bool = True


@dataclass(frozen=True, repr=False)
class _AdaptivePool(OpLayer):
    output_size: Size

    def __post_init__(self) -> None:
        super().__post_init__()
        per_axis(self, 2, "output_size")


class MaxPool1d(_MaxPool):
    """Maximum of each window, with stride kernel_size by default: `ops.max_pool1d`."""

    op = staticmethod(ops.max_pool1d)
    rank = 1


class MaxPool2d(_MaxPool):
    """Maximum of each window, with stride kernel_size by default: `ops.max_pool2d`."""

    op = staticmethod(ops.max_pool2d)
    rank = 2


class MaxPool3d(_MaxPool):
    """Maximum of each window, with stride kernel_size by default: `ops.max_pool3d`."""

    op = staticmethod(ops.max_pool3d)
    rank = 3


class AvgPool1d(_AvgPool):
    """Average of each window, with stride kernel_size by default: `ops.avg_pool1d`."""

    op = staticmethod(ops.avg_pool1d)
    rank = 1


class AvgPool2d(_AvgPool):
    """Average of each window, with stride kernel_size by default: `ops.avg_pool2d`."""

    op = staticmethod(ops.avg_pool2d)
    rank = 2


class AvgPool3d(_AvgPool):
    """Average of each window, with stride kernel_size by default: `ops.avg_pool3d`."""

    op = staticmethod(ops.avg_pool3d)
    rank = 3


class AdaptiveAvgPool2d(_AdaptivePool):
    """Averages to a given output size: `ops.adaptive_avg_pool2d`."""

    op = staticmethod(ops.adaptive_avg_pool2d)


class AdaptiveMaxPool2d(_AdaptivePool):
    """Maxima to a given output size: `ops.adaptive_max_pool2d`."""

    op = staticmethod(ops.adaptive_max_pool2d)


@dataclass(frozen=True, repr=False)
class GlobalAvgPool(OpLayer):
    """Average of each channel: (C, *space) to (C,): `ops.global_avg_pool`."""

    op = staticmethod(ops.global_avg_pool)
