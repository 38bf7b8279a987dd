"""What layers make of an image, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._check import require_count
from . import _draw


def feature_maps(
    maps: Any, *, limit: int = 16, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the first `limit` channels of one layer's output for one image (C, H, W).

    Each has a panel with its number; colours mean the same in all.

    Raises ValueError for another shape or limit, TypeError for other kinds.

    >>> figure = feature_maps(np.ones((3, 4, 4)), title="conv1")
    >>> [panel.get_title() for panel in figure.axes[0].child_axes]
    ['0', '1', '2']

    Source: Zeiler & Fergus, "Visualizing and understanding convolutional networks", 2014.
    """
    call = "feature_maps"
    require_count(call, "limit", limit)
    shown = _draw.host(call, "maps", maps, "C H W")[:limit]
    low, high = _draw.span(shown)
    ax, panels = _draw.panels(ax, len(shown), aspect=shown.shape[1] / shown.shape[2])
    for number, (panel, plane) in enumerate(zip(panels, shown, strict=True)):
        _draw.show(panel, plane, str(number), cmap=_draw.SEQUENTIAL, vmin=low, vmax=high)
    if title:
        ax.set_title(title, **_draw.written())
    return _draw.figure_of(ax)


def network_features(
    features: Mapping[str, Any], *, limit: int = 8, ax: Axes | None = None
) -> Figure:
    """Draw what `inspection.features` gave, for the first image: a row for each layer with images.

    A row holds the first `limit` channels on a scale of its own, under the layer's name and shape.

    Raises ValueError where no layer gives (N, C, H, W) of more than one place for an image, and for
    another limit; TypeError for other kinds.

    >>> figure = network_features({"0": np.ones((1, 2, 4, 4)), "1": np.ones((1, 32))})
    >>> [panel.get_title("left") for panel in figure.axes[0].child_axes]
    ['0: 2x4x4']

    Source: Zeiler & Fergus, "Visualizing and understanding convolutional networks", 2014.
    """
    call = "network_features"
    require_count(call, "limit", limit)
    spatial = {name: y for name, y in features.items() if _is_images(y)}
    if not spatial:
        raise ValueError(
            f"{call}: no layer gives (N, C, H, W) of more than one place; give what "
            "inspection.features makes of one image or more"
        )
    wide = max(min(limit, y.shape[1]) for y in spatial.values())
    ax, panels = _draw.panels(ax, len(spatial), 1, aspect=1 / wide, inches=0.9 * wide)
    for panel, (name, y) in zip(panels, spatial.items(), strict=True):
        maps = _draw.host(call, name, y[0, ...], "C H W").astype(np.float32)
        row = _draw.mosaic(_padded(maps[:limit], wide), wide)
        _draw.show(panel, row, cmap=_draw.SEQUENTIAL)
        panel.set_axis_off()
        _draw.title(panel, f"{name}: {'x'.join(map(str, maps.shape))}", loc="left")
    return _draw.figure_of(ax)


def _is_images(y: Any) -> bool:
    return len(y.shape) == 4 and y.shape[0] > 0 and y.shape[2] * y.shape[3] > 1


def _padded(maps: np.ndarray, count: int) -> np.ndarray:
    """So many maps: those that are missing are blank."""
    blank = np.full((count - len(maps), *maps.shape[1:]), np.nan, maps.dtype)
    return np.concatenate([maps, blank])
