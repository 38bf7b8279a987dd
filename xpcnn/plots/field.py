"""What one output of each layer sees of the input."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..inspection.activations import require_layer
from ..layers import Layer
from ..layers.summary import Row
from . import _draw

ROOM = (0.05, 0.05, 0.05, 0.36)


def receptive_field(model: Layer, in_shape: Sequence[int], *, ax: Axes | None = None) -> Figure:
    """Draw, for inputs (C, H, W), how much one output of each layer sees of the plane (H, W).

    There is a panel for each layer that sees more of the plane than those before it, with its name
    and the size of its field, which may be larger than the plane; "all" is what sees everything.
    Fields are drawn round the middle.

    Raises ValueError for another shape and for a model without layers, TypeError for what is no
    layer, and what `Layer.summary` does.

    >>> from xpcnn.layers import Conv2d, ReLU, Sequential
    >>> figure = receptive_field(Sequential(Conv2d(8, 3), ReLU(), Conv2d(8, 3)), (1, 9, 9))
    >>> [panel.get_title() for panel in figure.axes[0].child_axes]
    ['0\\n3x3', '2\\n5x5']

    Source: Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks",
    2019.
    """
    require_layer("receptive_field", model)
    if len(in_shape) != 3:
        raise ValueError(
            f"receptive_field: in_shape must be (C, H, W), that of one image; it is {in_shape}"
        )
    rows = model.summary(in_shape).rows
    if not rows:
        raise ValueError("receptive_field: the model has no layers")
    height, width = in_shape[1:]
    growing = _growing(rows, (height, width))
    ax, panels = _draw.panels(ax, len(growing), aspect=height / width, room=ROOM)
    for panel, (row, seen) in zip(panels, growing, strict=True):
        field = row.receptive_field
        size = "all" if field is None else "x".join(map(str, field))
        corner = (width - seen[1]) / 2, (height - seen[0]) / 2
        panel.add_patch(Rectangle(corner, seen[1], seen[0], color=_draw.COLOURS[0], linewidth=0))
        panel.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
        _draw.title(panel, f"{row.name}\n{size}")
    return _draw.figure_of(ax)


def _growing(rows: Sequence[Row], plane: tuple[int, int]) -> list[tuple[Row, tuple[int, int]]]:
    """Layers, with what of the plane an output sees, where that is more than of any before."""
    found: list[tuple[Row, tuple[int, int]]] = []
    for row in rows:
        field = row.receptive_field or plane
        seen = min(field[0], plane[0]), min(field[1], plane[1])
        if not found or seen[0] * seen[1] > found[-1][1][0] * found[-1][1][1]:
            found.append((row, seen))
    return found
