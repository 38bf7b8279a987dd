"""Nine filters made by hand, and what they make of a photo."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import ops
from ..data.augmentation.pixels import LUMA
from . import _draw
from ._cells import label

FILTERS = {
    name: np.asarray(rows, np.float32)
    for name, rows in {
        "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
        "vertical edge": [[0, 0, 0], [-1, 2, -1], [0, 0, 0]],
        "surround": [[1, 1, 1], [1, -9, 1], [1, 1, 1]],
        "Sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        "horizontal edge": [[0, -1, 0], [0, 2, 0], [0, -1, 0]],
        "blur": [[1 / 9] * 3] * 3,
        "Sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        "emboss": [[2, 0, 0], [0, -1, 0], [0, 0, -1]],
    }.items()
}
"""Kernels (3, 3), float32, by name, to be laid on an image as `ops.conv2d` does: not turned."""

BRIGHTNESS = np.asarray(LUMA, np.float32).reshape(1, 3, 1, 1)
"""The kernel that makes RGB grey. Source: ITU-R BT.601, as OpenCV has it."""

PICTURE = {"cmap": _draw.GREY, "vmin": 0.0, "vmax": 1.0}
RANGE = 98.0
"""The part of all differences, in percent, that the colours' range holds."""

INCHES, ROOM = 2.4, (0.06, 0.06, 0.06, 0.42)
ASPECTS = 0.2, 2.0
"""Panels are no flatter and no taller; a picture that is stands in the middle of its own."""

ROOMY = 1.25
"""Inches of a panel, before a layout widens it, that has room for numbers beside a name."""


def filter_gallery(image: Any, *, ax: Axes | None = None) -> Figure:
    """Draw what the nine FILTERS make of an image (C, H, W) or (H, W).

    The image is uint8 or floating in [0, 1], and RGB where C is 3: that is first made grey, as the
    eye weighs the colours. Each filter makes one map (H, W) of it, as `ops.conv2d` does; beyond the
    border its pixels are repeated. A filter whose weights sum to 1 makes a picture again: 0 is
    black, 1 white, and what lies beyond is shown like these. Any other makes differences: 0 is
    middle grey, what is below it darker and above it brighter, and the strongest fiftieth is shown
    as black or white. Where there is room, a filter's numbers stand beside its name.

    Raises ValueError for what is no such image, TypeError for what holds no numbers.

    >>> figure = filter_gallery(np.eye(8, dtype=np.float32))

    Source: OpenCV's filter2D, at BORDER_REPLICATE; Sobel & Feldman 1968 for those of that name.
    """
    picture = _draw.pixels("filter_gallery", "image", image)
    ax, panels = _draw.panels(ax, len(FILTERS), 3, aspect=aspect(picture), inches=INCHES, room=ROOM)
    for panel, (name, kernel), found in zip(
        panels, FILTERS.items(), filtered(picture), strict=True
    ):
        is_picture = abs(float(kernel.sum()) - 1.0) < 1e-3
        _draw.show(panel, found, **(PICTURE if is_picture else signed(found, _draw.GREY)))
        _draw.title(panel, name, loc="left")
        if _inches_of(panel) > ROOMY:
            _draw.title(panel, _rows(kernel), loc="right", fontsize=6.5, family="monospace")
    return _draw.figure_of(ax)


def filtered(picture: np.ndarray) -> np.ndarray:
    """What each of FILTERS makes of a picture (H, W) or (H, W, 3): maps (9, H, W)."""
    image = batch(picture)
    grey = ops.conv2d(image, BRIGHTNESS) if image.shape[1] == 3 else image
    padded = ops.pad(grey, (1, 1, 1, 1), "replicate")
    return ops.conv2d(padded, np.stack(list(FILTERS.values()))[:, None])[0]


def batch(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W) or (H, W, 3) as a batch of one image (1, C, H, W).

    >>> batch(np.ones((4, 5, 3))).shape
    (1, 3, 4, 5)
    """
    return np.moveaxis(np.atleast_3d(picture), -1, 0)[None]


def aspect(picture: np.ndarray) -> float:
    """Height by width, for a panel.

    >>> aspect(np.ones((30, 40))), aspect(np.ones((1, 20_000)))
    (0.75, 0.2)
    """
    return min(max(picture.shape[0] / picture.shape[1], ASPECTS[0]), ASPECTS[1])


def _inches_of(panel: Axes) -> float:
    """How wide a panel is, as its axes lie by now."""
    place: Any = panel.get_axes_locator()
    return place(panel, None).width * _draw.figure_of(panel).get_figwidth()


def signed(found: np.ndarray, colours: str) -> dict[str, Any]:
    """How differences are shown: 0 by the middle of the colours."""
    sizes = np.nan_to_num(np.abs(found), posinf=0.0)
    limit = float(np.percentile(sizes, RANGE)) or float(sizes.max()) or 1.0
    return {"cmap": colours, "vmin": -limit, "vmax": limit, "interpolation_stage": "data"}


def _rows(kernel: np.ndarray) -> str:
    labels = [[label(weight) for weight in row] for row in kernel]
    width = max(len(text) for row in labels for text in row)
    return "\n".join(" ".join(text.rjust(width) for text in row) for row in labels)
