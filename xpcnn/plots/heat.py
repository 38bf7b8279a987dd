"""What in an image decided, laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.augmentation.pixels import LUMA
from . import _draw

OPAQUE = 0.75
"""How much the hottest place covers of the image."""

INCHES, ROOM = 2.6, (0.1, 0.1, 0.1, 0.3)


def heat_map(image: Any, heat: Any, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw a map (H, W) of numbers from 0 up, a saliency or Grad-CAM, over an image (C, H, W).

    The image is grey; the hotter a place, the brighter and the less clear the colour over it. A map
    of zeros leaves the image as it is.

    Raises ValueError for other shapes and numbers below 0, TypeError for what holds no numbers.

    >>> figure = heat_map(np.zeros((1, 2, 2)), [[0.0, 1.0], [0.5, 2.0]])
    >>> figure.axes[0].images[1].get_alpha().tolist()
    [[0.0, 0.375], [0.1875, 0.75]]

    Source: Selvaraju et al., "Grad-CAM", 2017.
    """
    call = "heat_map"
    picture = _draw.pixels(call, "image", image)
    warm = _draw.host(call, "heat", heat, "H W").astype(np.float32)
    if warm.shape != picture.shape[:2]:
        raise ValueError(
            f"{call}: heat must be {picture.shape[:2]}, as the image is; it is {warm.shape}"
        )
    low, high = _draw.span(warm)
    if low < 0:
        raise ValueError(f"{call}: heat must be at least 0; its least number is {low:g}")
    share = np.nan_to_num(warm / (high or 1.0), nan=0.0, posinf=1.0)
    height, width = warm.shape
    ax = _draw.axes(ax, 3.2, 3.2 * height / width + 0.3 * bool(title))
    grey = picture if picture.ndim == 2 else picture @ np.asarray(LUMA, np.float32)
    _draw.show(ax, grey, vmin=0.0, vmax=1.0)
    ax.imshow(share, cmap=_draw.HEAT, vmin=0.0, vmax=1.0, alpha=OPAQUE * share)
    if title:
        ax.set_title(title, **_draw.written())
    return _draw.figure_of(ax)


def heat_maps(image: Any, heats: Mapping[str, Any], *, ax: Axes | None = None) -> Figure:
    """Draw an image (C, H, W) and beside it each of the maps (H, W) over it, under their names.

    Raises what `heat_map` does.

    >>> figure = heat_maps(np.zeros((1, 2, 2)), {"saliency": np.ones((2, 2))})
    >>> [panel.get_title() for panel in figure.axes[0].child_axes]
    ['image', 'saliency']

    Source: Selvaraju et al., "Grad-CAM", 2017.
    """
    picture = _draw.pixels("heat_maps", "image", image)
    height, width = picture.shape[:2]
    count = 1 + len(heats)
    ax, (first, *others) = _draw.panels(
        ax, count, count, aspect=height / width, inches=INCHES, room=ROOM
    )
    _draw.show(first, picture, "image", vmin=0.0, vmax=1.0)
    for panel, (name, heat) in zip(others, heats.items(), strict=True):
        heat_map(image, heat, ax=panel)
        _draw.title(panel, name)
    return _draw.figure_of(ax)
