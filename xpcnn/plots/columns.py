"""How the windows of an image become the columns of a matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import ops
from ..window import Padding, Size, pool_window
from . import _cells
from ._cells import Grid, Note
from ._planes import height_of, image_of, padded_size, planes, stack

APART, BELOW = 1.0, 1.3
"""Cells between two windows' planes, across and down."""

LETTERS = 3.0  # planes with their distance that are wider have room for a word


def columns(
    x: Any, kernel_size: Size, stride: Size = 1, padding: Padding = 0, *, ax: Axes | None = None
) -> Figure:
    """Draw x (H, W) or (C, H, W) once for each window, and the columns that the windows become.

    On the left the windows stand as their outputs lie, each coloured in the planes of x, whose
    padding is grey. On the right stands the matrix (C*KH*KW, L) of `ops.unfold`: column l, in the
    colour of window l, holds what that window sees. Options are those of `ops.unfold`.

    Raises ValueError where sizes do not fit, and for more numbers than can be read.

    >>> figure = columns([[0, 1, 2], [3, 4, 5], [6, 7, 8]], 2)

    Source: im2col of Chellapilla, Puri & Simard, 2006.
    """
    image = image_of("columns", "x", x)
    window = pool_window("columns", 2, image.shape, kernel_size, stride, padding, 1)
    each = padded_size(image, window) + image.shape[1] * math.prod(window.kernel)
    _cells.require_few("columns", math.prod(window.out_size) * each)
    matrix = ops.unfold(image, kernel_size, stride, padding)[0]
    seen = planes(image, window)
    across, down = seen.numbers.shape[2] + APART, height_of(seen.numbers) + BELOW
    left = window.out_size[1] * across + APART
    top = (window.out_size[0] * down - BELOW - len(matrix)) / 2
    grids, notes, fill = [], [], _cells.white(*matrix.shape)
    for number, place in enumerate(np.ndindex(*window.out_size)):
        planes_fill, x0, y0 = seen.fill(), place[1] * across, place[0] * down
        planes_fill[seen.windows[number]] = fill[:, number] = _cells.tint(number)
        title = f"window {number}" if across > LETTERS else str(number)
        grids += stack(seen.numbers, planes_fill, x0, y0, title, faint=seen.padding)
        notes.append(Note(str(number), left + number + 0.5, top - 0.4))
    notes.append(Note(f"columns {_cells.by(*matrix.shape)}", left + matrix.shape[1] / 2, top - 1.2))
    return _cells.draw([*grids, Grid(matrix, left, top, fill=fill)], notes, ax)
