"""What a classifier gets right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..inspection import most_confident_mistakes
from . import _draw

ROOM = (0.05, 0.05, 0.05, 0.36)

LEGIBLE = 20
"""So many classes have their counts written into the cells."""


def confusion(matrix: Any, names: Sequence[str] | None = None, *, ax: Axes | None = None) -> Figure:
    """Draw a confusion matrix (K, K) of counts, rows true and columns predicted.

    Colours tell shares of the row, numbers the counts above 0, of up to 20 classes. `names` are
    the classes', by default their numbers.

    Raises ValueError for another shape and for another number of names, TypeError for what holds no
    numbers.

    >>> figure = confusion([[3, 1], [0, 4]], ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['3', '1', '4']

    Source: scikit-learn's ConfusionMatrixDisplay.
    """
    call = "confusion"
    counts = _draw.host(call, "matrix", matrix, "K K")
    if counts.shape[0] != counts.shape[1]:
        raise ValueError(f"{call}: matrix must be (K, K), true by predicted; it is {counts.shape}")
    names = _draw.names_of(call, names, len(counts))
    side = 1.8 + 0.42 * min(len(counts), LEGIBLE)
    ax = _draw.axes(ax, side + 0.6, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = ax.imshow(shares, cmap=_draw.SEQUENTIAL, vmin=0.0, vmax=1.0)
    _draw.scale(ax, drawn, "share of the true class")
    if len(counts) <= LEGIBLE:
        _write(ax, counts, shares)
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        written = _draw.written()
        ax.set_yticks(range(len(names)), names, **written)
        ax.set_xticks(
            range(len(names)), names, **written | (turned if max(map(len, names)) > 3 else {})
        )
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return _draw.figure_of(ax)


def mistakes(
    images: Any,
    labels: Any,
    probabilities: Any,
    names: Sequence[str] | None = None,
    *,
    count: int = 12,
    ax: Axes | None = None,
) -> Figure:
    """Draw the `count` images (N, C, H, W) on which a classifier was wrong and the surest of it.

    Titles tell what each was taken for, how surely, and what it is. `labels` (N,) hold integers
    from 0 to K - 1, `probabilities` are (N, K), and `names` the K classes', by default their
    numbers. Where there is no mistake, a line says so.

    Raises ValueError for shapes that do not fit each other and labels out of range, TypeError for
    other kinds.

    >>> images, probabilities = np.zeros((2, 1, 4, 4)), np.asarray([[0.9, 0.1], [0.2, 0.8]])
    >>> figure = mistakes(images, [0, 0], probabilities, ["cat", "dog"])
    >>> [panel.get_title() for panel in figure.axes[0].child_axes]
    ['dog (80%)\\nis cat']

    Source: Nielsen, "Neural networks and deep learning", 2015, chapter 6.
    """
    call = "mistakes"
    likely = _draw.host(call, "probabilities", probabilities, "N K")
    names = _draw.names_of(call, names, likely.shape[1])
    places = most_confident_mistakes(labels, likely, count)
    if tuple(images.shape[:1]) != likely.shape[:1]:
        raise ValueError(
            f"{call}: images must be ({len(likely)}, C, H, W), one for each row of probabilities; "
            f"they are {tuple(images.shape)}"
        )
    if not len(places):
        return _no_mistakes(ax, len(likely))
    truth = _draw.host(call, "labels", labels, "N")
    pictures = [_draw.pixels(call, "images", images[int(place), ...]) for place in places]
    height, width = pictures[0].shape[:2]
    ax, panels = _draw.panels(
        ax, len(places), min(6, len(places)), aspect=height / width, inches=1.3, room=ROOM
    )
    for panel, place, picture in zip(panels, places, pictures, strict=True):
        said = int(np.argmax(likely[place]))
        words = f"{names[said]} ({likely[place, said]:.0%})\nis {names[truth[place]]}"
        _draw.show(panel, picture, words, vmin=0.0, vmax=1.0)
    return _draw.figure_of(ax)


def _write(ax: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """The counts above 0 into their cells, dark on bright and bright on dark."""
    for row, column in np.argwhere(counts):
        colour = "black" if shares[row, column] > 0.55 else "white"
        ax.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            color=colour,
            fontsize="small",
        )


def _no_mistakes(ax: Axes | None, count: int) -> Figure:
    ax = _draw.axes(ax, 4.0, 1.0)
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"no mistake among {count:,} images", ha="center", va="center")
    return _draw.figure_of(ax)
