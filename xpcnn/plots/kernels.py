"""The weights of a convolution, as pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _draw

BETWEEN = "0.7"
"""The colour between kernels: a grey, for white is 0."""


def kernels(weight: Any, *, ax: Axes | None = None) -> Figure:
    """Draw the kernels of a convolution's weight (O, C, KH, KW), all on one scale.

    Those of one channel stand row by row in about a square, and so do those of three, in colour,
    where grey is 0. Of other weights each filter is a row with a kernel for each channel. Red is
    above 0, blue below.

    Raises ValueError for another shape, TypeError for what holds no numbers.

    >>> figure = kernels(np.asarray([[[[-1.0, 0.0, 1.0]]]]))
    >>> figure.axes[0].images[0].get_clim()
    (-1.0, 1.0)

    Source: Krizhevsky et al., "ImageNet classification", 2012, figure 3.
    """
    call = "kernels"
    array = _draw.host(call, "weight", weight, "O C KH KW").astype(np.float32)
    limit = max(map(abs, _draw.span(array))) or 1.0
    filters, channels, height, width = array.shape
    columns = math.ceil(math.sqrt(filters)) if channels in (1, 3) else channels
    if channels == 3:
        tiles = np.ones((filters, height, width, 4), np.float32)  # opaque, and clear in between
        tiles[..., :3] = np.moveaxis(array, 1, -1) / (2 * limit) + 0.5
        picture = _draw.mosaic(tiles, columns, 0.0)
    else:
        picture = _draw.mosaic(array.reshape(-1, height, width), columns)
    ax = _draw.axes(ax, *_size(*picture.shape[:2]))
    drawn = _draw.show(ax, picture, cmap=_draw.DIVERGING, vmin=-limit, vmax=limit)
    if channels != 3:
        ax.set_facecolor(BETWEEN)
        _draw.scale(ax, drawn)
    return _draw.figure_of(ax)


def _size(height: int, width: int) -> tuple[float, float]:
    """Inches for a picture of so many pixels: its longer side is 5, the other at least 1."""
    longer = max(height, width)
    return max(1.0, 5 * width / longer) + 0.7, max(1.0, 5 * height / longer)
