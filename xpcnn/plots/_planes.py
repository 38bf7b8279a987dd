"""The planes of one small image: their padding, the windows over them, and their grids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..window import Window
from . import _cells, _draw
from ._cells import Grid

BETWEEN = 0.4
"""Cells between the planes of two channels, which stand below one another."""


def image_of(call: str, name: str, x: Any) -> np.ndarray:
    """x (C, H, W) or (H, W) of any library as a batch of one image (1, C, H, W), float64.

    >>> image_of("columns", "x", [[1, 2]])
    array([[[[1., 2.]]]])
    """
    array = _draw.host(call, name, x, "C H W", "H W")
    return array.reshape(1, -1, *array.shape[-2:]).astype(np.float64)


def padded_size(image: np.ndarray, window: Window) -> int:
    """How many numbers an image (1, C, H, W) has with its padding."""
    padded = zip(window.in_size, window.padding, strict=True)
    return image.shape[1] * math.prod(size + sum(pair) for size, pair in padded)


@dataclass(frozen=True)
class Planes:
    """One image with its padding (C, H, W), and its windows.

    `padding` (C, H, W) tells what is padding, `windows` (L, C, H, W) what each window sees.
    """

    numbers: np.ndarray
    padding: np.ndarray
    windows: np.ndarray

    def fill(self) -> np.ndarray:
        """Colours (C, H, W, 3) in which only the padding stands out."""
        return np.where(self.padding[..., None], _cells.PADDING, _cells.WHITE)


def planes(image: np.ndarray, window: Window) -> Planes:
    """An image (1, C, H, W) under a window: `ops.unfold` of the places' own numbers tells which."""
    (top, bottom), (left, right) = window.padding
    around = (left, right, top, bottom)
    padded = ops.pad(image, around)
    inside = ops.pad(np.ones_like(image), around)
    places = np.arange(padded.size).reshape(padded.shape)
    seen = ops.unfold(places, window.kernel, window.stride)[0].T
    windows = np.zeros((len(seen), padded.size), np.bool_)
    np.put_along_axis(windows, seen, True, axis=1)
    return Planes(padded[0], inside[0] == 0.0, windows.reshape(-1, *padded.shape[1:]))


def stack(
    numbers: np.ndarray,
    fill: np.ndarray,
    x: float,
    y: float,
    title: str | None,
    **marks: np.ndarray,
) -> list[Grid]:
    """Planes (C, H, W) one below the other from x, y on; the title is over the first."""
    step = numbers.shape[1] + BETWEEN
    return [
        Grid(
            plane, x, y + channel * step, None if channel else title, fill[channel],
            **{name: mark[channel] for name, mark in marks.items()},
        )
        for channel, plane in enumerate(numbers)
    ]  # fmt: skip


def height_of(numbers: np.ndarray) -> float:
    """Of a stack, in cells."""
    channels, height, _ = numbers.shape
    return channels * height + (channels - 1) * BETWEEN
