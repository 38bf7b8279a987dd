"""What a page shows: figures with their words, or words alone where a figure makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

import numpy as np

from ..inspection import most_confident_mistakes
from ..layers import tree
from ..layers.summary import Row
from ..layers.tree import Tree
from ..training.history import History

MISTAKES = 12
KERNELS = 64
MOST_CLASSES = 100
"""More rows and columns of a matrix, and nothing is to be seen in it."""

COLUMNS = 14
"""Wider names of classes are shortened in figures, in the middle: many begin or end alike."""

SMALL = 96
"""Pictures of no larger sides are shown pixel by pixel."""


@dataclass(frozen=True)
class Shown:
    """Figures as SVG, perhaps none, and a sentence about them."""

    words: str
    figures: tuple[Any, ...] = ()


def curves(history: History) -> Shown:
    """Loss and accuracy by epoch, once with panels side by side, once one above the other.

    One epoch makes no curve.
    """
    from .. import plots
    from .figures import figure

    last = history[-1]
    words = f"After {len(history):,} epoch{'s' * (len(history) > 1)} the loss is {last.loss:.4g}"
    if last.val_loss is None:
        words += "; no images were held back to validate with."
    else:
        best = history.best("val_loss")
        words += (
            f", and {last.val_loss:.4g} in validation; the best, {history[best - 1].val_loss:.4g}, "
            f"was that of epoch {best}."
        )
    if len(history) == 1:
        return Shown(words)
    alt = f"Learning curves: loss and accuracy by epoch. {words}"
    return Shown(
        words,
        tuple(
            figure(name, alt, size, lambda ax: plots.learning_curves(history, ax=ax), None)
            for name, size in {"curves-wide": (8.6, 3.0), "curves-tall": (3.8, 4.9)}.items()
        ),
    )


def matrix(counts: np.ndarray, names: Sequence[str]) -> Shown:
    """The confusion matrix (K, K), in large and in small, and what was mistaken most often."""
    from .. import plots
    from .figures import figure

    words = _most_often(counts, names)
    if len(names) > MOST_CLASSES:
        return Shown(f"{len(names):,} classes are too many for a matrix to be seen. {words}")
    short = _short(names)

    def drawn(name: str, around: float, cell: float) -> Any:
        side = around + cell * min(len(names), 20) + 0.06 * max(map(_columns, short))
        return figure(
            name, f"Confusion matrix: true classes by predicted ones. {words}",
            (side + 0.5, side), lambda ax: plots.confusion(counts, short, ax=ax),
        )  # fmt: skip

    return Shown(words, (drawn("matrix-wide", 1.6, 0.36), drawn("matrix-small", 1.0, 0.22)))


def _most_often(counts: np.ndarray, names: Sequence[str], most: int = 3) -> str:
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(counts)) for place in places if wrong.flat[place]]
    told = [f"{names[true]} for {names[said]} ({wrong[true, said]:,})" for true, said in pairs]
    return f"Most often mistaken: {', '.join(told)}." if told else "No image was mistaken."


def mistakes(x: Any, labels: np.ndarray, chances: np.ndarray, names: Sequence[str]) -> Shown:
    """The images on which the network was wrong and the surest of it, a figure for each."""
    from .. import plots
    from .figures import figure

    places = most_confident_mistakes(labels, chances, MISTAKES)
    if not len(places):
        return Shown(f"None of {len(labels):,} images was mistaken.")
    if x.shape[1] not in (1, 3):
        return Shown(f"Images of {x.shape[1]} channels cannot be shown.")
    height, width = x.shape[2:]
    size = 1.3, 1.2 * height / width + 0.46
    interpolation = "none" if max(height, width) <= SMALL else "auto"
    short = _short(names)

    def drawn(number: int, place: int) -> Any:
        one = x[place : place + 1], labels[place : place + 1], chances[place : place + 1]
        said = int(np.argmax(chances[place]))
        return figure(
            f"mistake-{number}",
            f"{names[labels[place]]}, taken for {names[said]} with {chances[place, said]:.0%}",
            size, lambda ax: plots.mistakes(*one, short, count=1, ax=ax), None, interpolation,
        )  # fmt: skip

    return Shown(
        "What each image was taken for, how surely, and what it is.",
        tuple(drawn(number, int(place)) for number, place in enumerate(places)),
    )


def kernels(rows: Sequence[Row], params: Tree) -> Shown:
    """The kernels of the first layer that has weights, if it has any to be seen."""
    from .. import plots
    from .figures import figure

    flat = tree.flatten(params)
    named = {row.name: f"{row.name}.weight".removeprefix(".") for row in rows}
    found = next(((name, flat[key]) for name, key in named.items() if key in flat), None)
    if found is None:
        return Shown("No layer has weights.")
    name, weight = found
    if weight.ndim != 4 or weight.shape[2] * weight.shape[3] == 1:
        return Shown(f"The first layer with weights, {name}, is no convolution of more than 1x1.")
    count = weight.shape[0]
    shown = weight[: min(count, KERNELS), ...]
    size = "x".join(map(str, weight.shape[2:]))
    words = f"{f'Layer {name}' if name else 'The model'} has {count:,} kernels of {size}"
    words += "." if count <= KERNELS else f", of which these are the first {KERNELS}."
    alt = f"The kernels of the first layer. {words}"
    drawn = figure("kernels", alt, (5.0, 4.2), lambda ax: plots.kernels(shown, ax=ax))
    return Shown(words, (drawn,))


def _short(names: Sequence[str]) -> list[str]:
    """The names with no more than `COLUMNS` columns."""
    half = (COLUMNS - 1) // 2
    return [
        name
        if _columns(name) <= COLUMNS
        else f"{_beginning(name, half)}\N{HORIZONTAL ELLIPSIS}{_beginning(name[::-1], half)[::-1]}"
        for name in names
    ]


def _columns(text: str) -> int:
    """How wide a text is. Source: Unicode Standard Annex 11."""
    return sum(2 if east_asian_width(letter) in ("W", "F") else 1 for letter in text)


def _beginning(text: str, columns: int) -> str:
    """As much of a text as has no more columns."""
    return next(text[:n] for n in range(columns, -1, -1) if _columns(text[:n]) <= columns)
