"""An image on its way through a convolution, ReLU and max pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import ops
from . import _draw
from ._cells import by
from .filters import FILTERS, PICTURE, aspect, batch, signed

INCHES, ROOM = 3.2, (0.08, 0.08, 0.08, 0.26)
POOL = 2


def stages(image: Any, kernel: Any = None, *, ax: Axes | None = None) -> Figure:
    """Draw an image (C, H, W) or (H, W), its convolution, that after ReLU, and that after pooling.

    The image is uint8 or floating in [0, 1], and RGB where C is 3. `kernel` (KH, KW), by default
    FILTERS["Sobel x"], is laid on every channel and all are added up to one map, without padding;
    ReLU makes what is negative 0; of each 2x2 window the maximum stays. Titles tell the shapes.

    The three maps have one scale: 0 is white, what is below it blue and above it red, and the
    strongest fiftieth of the convolution's values is shown in the darkest colours.

    Raises ValueError for what is no such image, or too small for the kernel and the window, and
    TypeError for what holds no numbers.

    >>> figure = stages(np.eye(8, dtype=np.float32))
    >>> [panel.images[0].get_array().shape for panel in figure.axes[0].child_axes]
    [(8, 8), (6, 6), (6, 6), (3, 3)]

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """
    picture = _draw.pixels("stages", "image", image)
    if kernel is None:
        kernel = FILTERS["Sobel x"]
    kernel = _draw.host("stages", "kernel", kernel, "KH KW")
    channels = batch(picture)
    _require_room(channels.shape, kernel.shape)
    weights = np.broadcast_to(kernel.astype(np.float32), (1, channels.shape[1], *kernel.shape))
    convolved = ops.conv2d(channels, weights)
    rectified = ops.relu(convolved)
    pooled = ops.max_pool2d(rectified, POOL)
    ax, panels = _draw.panels(ax, 4, 2, aspect=aspect(picture), inches=INCHES, room=ROOM)
    _draw.show(panels[0], picture, _titled("image", channels), **PICTURE)
    named = {"convolution": convolved, "ReLU": rectified, "max pool": pooled}
    options = signed(convolved, _draw.DIVERGING)
    for panel, (name, maps) in zip(panels[1:], named.items(), strict=True):
        _draw.show(panel, maps[0, 0], _titled(name, maps), **options)
    return _draw.figure_of(ax)


def _titled(name: str, maps: np.ndarray) -> str:
    return f"{name} {by(*maps.shape[1:])}"


def _require_room(image: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    least = tuple(size + POOL - 1 for size in kernel)
    if image[2] < least[0] or image[3] < least[1]:
        raise ValueError(
            f"stages: a {kernel[0]}x{kernel[1]} kernel and a {POOL}x{POOL} window need an image of "
            f"{least[0]}x{least[1]} pixels or more; it is {image[2]}x{image[3]}"
        )
