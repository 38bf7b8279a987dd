"""Grids of cells with numbers in them, as small arrays are drawn.

A drawing is a list of grids and notes, placed in one plane whose unit is the side of a cell; y runs
downwards, as rows do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import _draw

INCHES, WIDEST = 0.42, 14.0
"""The side of a cell in a figure of its own, and the width that such a figure does not exceed."""

ROOMY = 4  # longer numbers make larger cells
MOST = 4000
"""More cells than these, and no number can be read."""

LINES, FAINT = "#8a8a8a", "#666666"
PADDING, WHITE = (0.93, 0.93, 0.93), (1.0, 1.0, 1.0)
HEADROOM = 0.9  # cells above a grid, for its title
MARGIN = 0.2
POINTS = 10.0  # of letters, where cells are as large as INCHES or larger
DIGIT, LETTER = 0.62, 0.5  # how wide one is by its height, with some room


@dataclass(frozen=True)
class Grid:
    """Numbers (H, W) whose upper left corner lies at x, y.

    `fill` (H, W, 3) are the cells' colours, `strong` and `faint` (H, W) tell which numbers are set
    in bold and in grey.
    """

    numbers: np.ndarray
    x: float = 0.0
    y: float = 0.0
    title: str | None = None
    fill: np.ndarray | None = None
    strong: np.ndarray | None = None
    faint: np.ndarray | None = None

    @property
    def right(self) -> float:
        return self.x + self.numbers.shape[1]

    @property
    def bottom(self) -> float:
        return self.y + self.numbers.shape[0]


@dataclass(frozen=True)
class Note:
    """Words or a sign, centred at x, y; `scale` times as large as a title."""

    text: str
    x: float
    y: float
    scale: float = 1.0


def tint(number: int) -> np.ndarray:
    """A light colour, on which black numbers are read: one of seven, in turn.

    >>> tint(0).round(2)
    array([0.6 , 0.78, 0.88])
    """
    colour = np.asarray(to_rgb(_draw.COLOURS[number % len(_draw.COLOURS)]))
    return 0.4 * colour + 0.6


def white(height: int, width: int) -> np.ndarray:
    """Cells without a colour, to be filled in."""
    return np.full((height, width, 3), WHITE)


def label(number: float) -> str:
    """A number as it stands in a cell.

    >>> label(2.0), label(-0.0), label(1 / 9)
    ('2', '0', '0.111')
    """
    return np.format_float_positional(np.round(number, 3) + 0.0, trim="-")


def by(*sizes: int) -> str:
    """Sizes as titles tell them, a multiplication sign between each two."""
    return "\N{MULTIPLICATION SIGN}".join(map(str, sizes))


def require_few(call: str, cells: int) -> None:
    """Raise ValueError for more cells than can be read."""
    if cells > MOST:
        raise ValueError(f"{call}: that makes {cells:,} cells, {MOST:,} at most; draw less of it")


def draw(grids: Sequence[Grid], notes: Sequence[Note] = (), ax: Axes | None = None) -> Figure:
    """Draw all of them into `ax`, or into a figure of its own, with square cells."""
    left, right, top, bottom = _around(grids, notes)
    width, height = right - left, bottom - top
    longest = max(len(label(number)) for grid in grids for number in grid.numbers.flat)
    inches = min(INCHES * max(1.0, longest / ROOMY), WIDEST / width)
    ax = _draw.axes(ax, width * inches, height * inches)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.set_axis_off()
    cell = 72 / _draw.figure_of(ax).dpi * min(ax.bbox.width / width, ax.bbox.height / height)
    size = min(POINTS, 0.42 * cell)
    for grid in grids:
        _draw_grid(ax, grid, size, cell)
    for note in notes:
        fitting = min(size, width * cell / (LETTER * len(note.text)))
        ax.text(
            note.x, note.y, note.text, ha="center", va="center", size=note.scale * fitting
        )  # fmt: skip
    return _draw.figure_of(ax)


def _around(grids: Sequence[Grid], notes: Sequence[Note]) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of all that is drawn."""
    tops = [grid.y - (HEADROOM if grid.title else 0.0) for grid in grids]
    tops += [note.y - 0.5 for note in notes]
    bottoms = [grid.bottom for grid in grids] + [note.y + 0.5 for note in notes]
    left, right = min(grid.x for grid in grids), max(grid.right for grid in grids)
    return left - MARGIN, right + MARGIN, min(tops) - MARGIN, max(bottoms) + MARGIN


def _draw_grid(ax: Axes, grid: Grid, size: float, cell: float) -> None:
    """`size` is that of letters in points, `cell` that of a cell."""
    rows, columns = grid.numbers.shape
    fill = white(rows, columns) if grid.fill is None else grid.fill
    across, down = np.arange(columns + 1) + grid.x, np.arange(rows + 1) + grid.y
    ax.pcolormesh(across, down, fill, edgecolors=LINES, linewidth=0.6)
    labels = [[label(number) for number in row] for row in grid.numbers]
    fitting = 0.95 * cell / (DIGIT * max(len(text) for row in labels for text in row))
    for i, j in np.ndindex(rows, columns):
        strong = grid.strong is not None and grid.strong[i, j]
        faint = grid.faint is not None and grid.faint[i, j]
        ax.text(
            grid.x + j + 0.5, grid.y + i + 0.5, labels[i][j], ha="center", va="center_baseline",
            size=min(size, fitting), weight="bold" if strong else "normal",
            color=FAINT if faint else "black",
        )  # fmt: skip
    if grid.title:
        middle = (grid.x + grid.right) / 2
        ax.text(middle, grid.y - 0.35, grid.title, ha="center", va="baseline", size=size)
