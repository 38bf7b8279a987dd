"""What a training was like, epoch by epoch."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import _draw

FIGURES = ("loss", "accuracy")
LINES = {"training": "", "validation": "val_"}
"""What lines are called, and what their figures' names begin with."""

ROOM = (0.55, 0.75, 0.5, 0.25)


def learning_curves(history: Any, *, ax: Axes | None = None) -> Figure:
    """Draw loss and accuracy over the epochs of a `training.History`.

    Training and, where there was any, validation are lines that bear their names. The two panels
    stand side by side, or one above the other in axes that are higher than wide.

    Raises ValueError for a history without epochs.

    >>> from xpcnn.training import History
    >>> from xpcnn.training.history import Epoch
    >>> epochs = Epoch(1, 0.9, 0.5, None, None, 1.0, 1.0), Epoch(2, 0.5, 0.75, None, None, 1.0, 1.0)
    >>> figure = learning_curves(History(epochs))
    >>> [line.get_ydata().tolist() for p in figure.axes[0].child_axes for line in p.lines]
    [[0.9, 0.5], [0.5, 0.75]]

    Source: scikit-learn's LearningCurveDisplay.
    """
    if not len(history):
        raise ValueError("learning_curves: the history has no epoch; train one first")
    high = ax is not None and ax.bbox.height > ax.bbox.width
    columns = 1 if high else len(FIGURES)
    ax, panels = _draw.panels(ax, len(FIGURES), columns, aspect=0.75, inches=3.0, room=ROOM)
    for panel, figure in zip(panels, FIGURES, strict=True):
        _draw_lines(panel, history, figure)
        panel.margins(y=0.12)
        panel.set_xlabel("epoch")
        panel.set_ylabel(figure)
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        panel.spines[["top", "right"]].set_visible(False)
    return _draw.figure_of(ax)


def _draw_lines(panel: Axes, history: Any, figure: str) -> None:
    """A line for each of `LINES` with figures, the one that ends higher labelled above."""
    columns = {name: history.column(start + figure) for name, start in LINES.items()}
    ends = {name: values[-1] for name, values in columns.items() if None not in values}
    epochs = history.column("number")
    for colour, name in zip(_draw.COLOURS, ends, strict=False):
        panel.plot(epochs, columns[name], color=colour, marker="o", markersize=3, label=name)
        panel.annotate(
            name, (epochs[-1], ends[name]), (6, 0), textcoords="offset points", color=colour,
            fontsize="small", va="bottom" if name == max(ends, key=ends.__getitem__) else "top",
            annotation_clip=False,
        )  # fmt: skip
