"""The page about a training run: one HTML file that needs no other, no script and no network."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from .._files import replacing
from ..data import Dataset
from ..inspection import class_scores, confusion_matrix
from ..training import Classifier
from .record import Record, Setting
from .shown import curves, kernels, matrix, mistakes

BEGINS = "<!DOCTYPE html>\n<!-- A training report of xpcnn -->"
MOST_ROWS = 100
"""So many classes have a row of their own: of more, those that are told apart worst."""


def write_page(
    path: str | os.PathLike[str], net: Classifier, images: Dataset, record: Record, model: str
) -> None:
    """Write the page about the training of `net`, whole or not at all.

    It shows what the network makes of the test images now, and what the record tells; `model` is
    the name of the model file, for the lines that load it.

    Raises ImportError where Matplotlib or Jinja2 is missing (the extra `plots`), ValueError where
    the images are not such as the network takes.

    Source: HTML Living Standard, https://html.spec.whatwg.org; Jinja2.
    """
    text = _page(_templates(), net, images, record, model)
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def _page(templates: Any, net: Classifier, images: Dataset, record: Record, model: str) -> str:
    (x, labels), names = images.test, images.classes
    chances = net.predict_proba(x)
    counts = confusion_matrix(labels, np.argmax(chances, axis=1), len(names))
    summary = net.model_.summary(net.in_shape_)
    return templates.get_template("page.html").render(
        record=record,
        model=model,
        finished=datetime.fromisoformat(record.finished),
        validated=None not in record.history.column("val_accuracy"),
        accuracy=np.trace(counts) / np.sum(counts),
        images=len(labels),
        in_shape=net.in_shape_,
        summary=summary,
        rows=[row.cells() for row in summary.rows],
        classes=_classes(counts, names),
        all_classes=len(names),
        curves=curves(record.history),
        matrix=matrix(counts, names),
        mistakes=mistakes(x, labels, chances, names),
        kernels=kernels(summary.rows, net.params_),
    )


class _Class(NamedTuple):
    """A row of the table of classes."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


def _classes(counts: np.ndarray, names: tuple[str, ...]) -> list[_Class]:
    """All classes in order or, of many, those that are told apart worst."""
    scores = (column.tolist() for column in class_scores(counts))
    rows = [_Class(*row) for row in zip(names, *scores, strict=True)]
    return rows if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: row.f1)[:MOST_ROWS]


def _templates() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError('a report needs Jinja2: pip install "xpcnn[plots]"') from error
    made = Environment(
        loader=PackageLoader("xpcnn.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["begins"] = Markup(BEGINS)
    made.filters |= {
        "count": "{:,}".format,
        "duration": _duration,
        "figure": _figure,
        "quote": shlex.quote,
        "repr": repr,
        "setting": _setting,
        "share": _share,
    }
    return made


def _share(value: float) -> str:
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _setting(value: Setting) -> str:
    """An option's value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else str(value)


def _duration(seconds: float) -> str:
    """Seconds for reading.

    >>> _duration(4.26), _duration(75), _duration(3 * 3600)
    ('4.3 s', '1 min 15 s', '3 h 0 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
