"""What pooling keeps of a plane, and where its gradient goes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import ops
from .._check import Size
from ..ops import vjp
from ..window import pool_window
from . import _cells, _draw
from ._cells import Grid, Note
from ._planes import Planes, image_of, planes

KINDS = {"max": ops.max_pool2d, "avg": ops.avg_pool2d}
NAMES = {"max": "maximum", "avg": "average"}
GAP = 1.6
"""Cells between the two grids of a row, for the arrow between them, and between the rows."""


def pooling(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    *,
    kind: str = "max",
    ax: Axes | None = None,
) -> Figure:
    """Draw a plane x (H, W), what pooling makes of it, and below, where a gradient of ones goes.

    `kind` is "max" or "avg". Each window has a colour, which its output has too; where windows
    overlap, colours mix. The maxima are bold. Below, each output's gradient of 1 goes back: to the
    maximum, or in equal parts to the whole window. Options are those of `ops.max_pool2d` and
    `ops.avg_pool2d`, which compute all that is drawn.

    Raises ValueError where sizes do not fit, for another `kind`, and for more numbers than can be
    read.

    >>> figure = pooling([[1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7, 6], [1, 2, 3, 4]], 2)

    Source: torch.nn.functional.max_pool2d and avg_pool2d.
    """
    if kind not in KINDS:
        raise ValueError(f"pooling: kind={kind!r}; give {' or '.join(map(repr, KINDS))}")
    image = image_of("pooling", "x", _draw.host("pooling", "x", x, "H W"))
    window = pool_window("pooling", 2, image.shape, kernel_size, stride, 0, 1)
    _cells.require_few("pooling", 2 * (image.size + math.prod(window.out_size)))
    y, pull = vjp(KINDS[kind], image, kernel_size, stride)
    ones = np.ones_like(y)
    (dx,) = pull(ones)
    colours = np.asarray([_colour(place) for place in np.ndindex(*window.out_size)])
    inputs: dict[str, Any] = {"x": 0.0, "fill": _mixed(planes(image, window), colours)}
    outputs: dict[str, Any] = {
        "x": image.shape[3] + GAP,
        "fill": colours.reshape(*window.out_size, 3),
    }
    maxima = _maxima(image, kernel_size, stride) if kind == "max" else None
    below, down = image.shape[2] + GAP, (image.shape[2] - y.shape[2]) / 2
    grids = [
        Grid(image[0, 0], y=0.0, title=_titled("input", image), strong=maxima, **inputs),
        Grid(y[0, 0], y=down, title=_titled(NAMES[kind], y), **outputs),
        Grid(dx[0, 0], y=below, title="gradient dx", strong=maxima, **inputs),
        Grid(ones[0, 0], y=below + down, title="gradient dy", **outputs),
    ]
    across, middle = image.shape[3] + GAP / 2, image.shape[2] / 2
    forward = Note("\N{RIGHTWARDS ARROW}", across, middle, 1.5)
    backward = Note("\N{LEFTWARDS ARROW}", across, below + middle, 1.5)
    return _cells.draw(grids, [forward, backward], ax)


def _titled(name: str, image: np.ndarray) -> str:
    return f"{name} {_cells.by(*image.shape[2:])}"


def _colour(place: tuple[int, ...]) -> np.ndarray:
    """That of the window at row and column `place`: another than its eight neighbours'."""
    return _cells.tint(3 * place[0] + place[1])


def _mixed(seen: Planes, colours: np.ndarray) -> np.ndarray:
    """The colour of each cell (H, W, 3): the mean of those of the windows that see it, or none."""
    counts = seen.windows[:, 0].sum(0)[..., None]
    sums = np.tensordot(seen.windows[:, 0].astype(np.float64), colours, (0, 0))
    return np.where(counts > 0, sums / np.maximum(counts, 1), _cells.WHITE)


def _maxima(image: np.ndarray, kernel_size: Size, stride: Size | None) -> np.ndarray:
    """Which places (H, W) are the maximum of a window."""
    _, places = ops.max_pool2d(image, kernel_size, stride, return_indices=True)
    chosen = np.zeros(image.size, np.bool_)
    chosen[places.reshape(-1)] = True
    return chosen.reshape(image.shape[2:])
