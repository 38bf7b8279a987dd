"""What a convolution does at one place, and matrices as numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import ops
from ..window import Padding, Size, conv_window
from . import _cells, _draw
from ._cells import Grid, Note
from ._planes import height_of, image_of, padded_size, planes, stack

GAP = 1.4
"""Cells between two grids, for the sign between them."""

TERMS = 9
"""So many products are written out below a convolution."""


def numbers(
    matrix: Any, *, title: str | None = None, mark: Any = None, ax: Axes | None = None
) -> Figure:
    """Draw a matrix (H, W) as a grid of cells with its numbers, to three decimals.

    The cells where `mark` (H, W) is not zero are coloured.

    Raises ValueError for what is no matrix, a `mark` of another shape, and more numbers than can be
    read.

    >>> figure = numbers([[1.0, 2.0], [3.0, 4.0]], title="x", mark=[[0, 1], [0, 0]])

    Source: matrices as textbooks draw them.
    """
    shown = _draw.host("numbers", "matrix", matrix, "H W")
    _cells.require_few("numbers", shown.size)
    fill = _cells.white(*shown.shape)
    if mark is not None:
        marked = _draw.host("numbers", "mark", mark, "H W")
        if marked.shape != shown.shape:
            raise ValueError(
                f"numbers: mark must be {shown.shape} like matrix; it is {marked.shape}"
            )
        fill[marked != 0] = _cells.tint(0)
    return _cells.draw([Grid(shown, title=title, fill=fill)], ax=ax)


def convolution(
    x: Any,
    w: Any,
    stride: Size = 1,
    padding: Padding = 0,
    *,
    at: tuple[int, int] = (0, 0),
    names: tuple[str, str, str] = ("input", "kernel", "output"),
    ax: Axes | None = None,
) -> Figure:
    """Draw a convolution at work: x (H, W) or (C, H, W), a kernel w alike, and the output (OH, OW).

    The input stands within its padding, whose zeros are grey. Coloured are the window on which the
    kernel lies for the output `at` (row, column), and that output; below stands the sum of products
    that it is. Channels stand below one another. `stride` and `padding` are those of `ops.conv2d`,
    which computes the output. Titles give the `names` of the three, and their sizes.

    Raises ValueError where shapes do not fit, for a place outside the output, for other than three
    names, and for more numbers than can be read.

    >>> figure = convolution([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[3, 2], [1, 0]], at=(0, 1))

    Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    image, kernel = image_of("convolution", "x", x), image_of("convolution", "w", w)
    window = conv_window("convolution", 2, image.shape, kernel.shape, None, stride, padding, 1, 1)
    place = _place(at, window.out_size)
    titles = _titles(names, image.shape[1:], kernel.shape[1:], (1, *window.out_size))
    cells = padded_size(image, window) + kernel.size + math.prod(window.out_size)
    _cells.require_few("convolution", cells)
    output = ops.conv2d(image, kernel, stride=stride, padding=padding)[0]
    seen = planes(image, window)
    under = seen.windows[np.ravel_multi_index(place, window.out_size)]
    fill = seen.fill()
    fill[under] = _cells.tint(0)
    weights = np.broadcast_to(_cells.tint(0), (*kernel.shape[1:], 3))
    found = _cells.white(*window.out_size)[None]
    found[(0, *place)] = _cells.tint(1)
    row = [
        (seen.numbers, fill, titles[0], {"faint": seen.padding}),
        (kernel[0], weights, titles[1], {}),
        (output, found, titles[2], {}),
    ]
    grids, notes = _in_a_row(row, "\N{ASTERISK OPERATOR}=")
    bottom, right = max(grid.bottom for grid in grids), grids[-1].right
    if kernel.size <= TERMS:
        text = _sum(seen.numbers[under], kernel.reshape(-1), output[(0, *place)])
        notes.append(Note(text, right / 2, bottom + 0.8))
    return _cells.draw(grids, notes, ax)


def _titles(names: tuple[str, ...], *shapes: tuple[int, ...]) -> list[str]:
    """Names with the sizes of (C, H, W); a single channel goes without saying."""
    if len(names) != len(shapes):
        raise ValueError(f"convolution: names={names}; give three, of input, kernel and output")
    sizes = [shape[shape[0] == 1 :] for shape in shapes]
    return [f"{name} {_cells.by(*size)}" for name, size in zip(names, sizes, strict=True)]


def _in_a_row(row: list, signs: str) -> tuple[list[Grid], list[Note]]:
    """Stacks side by side, their middles on a line, with a sign between each two."""
    grids, notes, x = [], [], 0.0
    middle = max(height_of(numbers) for numbers, *_ in row) / 2
    for (numbers, fill, title, marks), sign in zip(row, [*signs, ""], strict=True):
        grids += stack(numbers, fill, x, middle - height_of(numbers) / 2, title, **marks)
        x = grids[-1].right + GAP
        if sign:
            notes.append(Note(sign, x - GAP / 2, middle, 1.5))
    return grids, notes


def _sum(inputs: np.ndarray, weights: np.ndarray, total: float) -> str:
    products = zip(inputs, weights, strict=True)
    dot = "\N{DOT OPERATOR}"
    terms = (f"{_signed(value)}{dot}{_signed(weight)}" for value, weight in products)
    return f"{' + '.join(terms)} = {_cells.label(total)}"


def _signed(number: float) -> str:
    return f"({_cells.label(number)})" if number < 0 else _cells.label(number)


def _place(at: tuple[int, int], out_size: tuple[int, ...]) -> tuple[int, int]:
    if len(at) != 2 or not all(0 <= i < size for i, size in zip(at, out_size, strict=True)):
        raise ValueError(
            f"convolution: at={at} is outside the output {out_size}; give (row, column) within it"
        )
    return at
