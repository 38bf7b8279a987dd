"""What happens after each epoch: plain functions of where the training is.

    net.fit(x, y, epochs=100, validation=held_out, callbacks=[
        early_stopping(patience=5), best_model("best.safetensors"), csv_log("log.csv"),
    ])

A callback is called with a `Snapshot` after each epoch, and once more when a run is resumed after
one; it changes nothing in it. If it returns True, the training stops.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .._files import replacing, require_place
from ..layers.tree import Tree
from .history import Epoch, History


@dataclass(frozen=True)
class Snapshot:
    """Where a training is after an epoch, to be read only.

    `step` counts the steps done, `epochs` those asked for; `params` is the tree to predict with,
    on its device, and `save(path)` writes the model file of it.
    """

    history: History
    epochs: int
    step: int
    params: Tree
    save: Callable[[str | os.PathLike[str]], None]


Callback = Callable[[Snapshot], bool | None]


def early_stopping(patience: int = 5, monitor: str = "val_loss") -> Callback:
    """Stop when a figure has not become better for `patience` epochs.

    `monitor` is "loss", "accuracy", "val_loss" or "val_accuracy". Raises ValueError for a patience
    below 1, and in training where the figure is missing.

    >>> import xpcnn
    >>> net = xpcnn.Classifier(xpcnn.models.classic(), optimizer=xpcnn.optim.SGD(0.0), device="cpu")
    >>> x, y = xpcnn.data.digits().test
    >>> stop = early_stopping(patience=2, monitor="accuracy")
    >>> len(net.fit(x, y, epochs=50, callbacks=[stop]).history_)
    3

    Source: Prechelt, "Early stopping - but when?", 1998.
    """
    if patience < 1:
        raise ValueError(f"early_stopping(patience={patience}): give a number of epochs, 1 or more")

    def stop(now: Snapshot) -> bool:
        return len(now.history) - now.history.best(monitor) >= patience

    return stop


def best_model(path: str | os.PathLike[str], monitor: str = "val_loss") -> Callback:
    """Write the model file after each epoch in which a figure is better than ever before.

    `monitor` as in `early_stopping`. `xpcnn.load` reads the file. `fit(best=...)` keeps the best
    parameters instead, in checkpoints, too. Raises at once where no file can be written.
    """
    require_place(path)

    def write_if_best(now: Snapshot) -> None:
        if now.history.best(monitor) == len(now.history):
            now.save(path)

    return write_if_best


def csv_log(path: str | os.PathLike[str]) -> Callback:
    """Write the figures of all epochs, one a row, as a CSV file with a header.

    It is written anew after each epoch, whole or not at all: a resumed run has no row twice. Raises
    at once where no file can be written.
    """
    require_place(path)

    def write(now: Snapshot) -> None:
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(Epoch._fields)
        rows.writerows(now.history)
        with replacing(path) as file:
            file.write(text.getvalue().encode())

    return write


def tensorboard(folder: str | os.PathLike[str]) -> Callback:
    """Write the figures of each epoch for TensorBoard, by tensorboardX (extra `tensorboard`).

    Raises ImportError where that is missing. A resumed run goes on in the same folder.

    Source: https://tensorboardx.readthedocs.io.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError(
            'tensorboard needs tensorboardX: pip install "xpcnn[tensorboard]"'
        ) from error

    Path(folder).mkdir(parents=True, exist_ok=True)

    def write(now: Snapshot) -> None:
        last = now.history[-1]
        figures = {name: value for name, value in last._asdict().items() if value is not None}
        del figures["number"]
        # an event file of its own for each epoch: none stays open, and a killed run leaves no part
        suffix = f".epoch-{last.number:05d}"
        with SummaryWriter(os.fspath(folder), last.number, filename_suffix=suffix) as writer:
            for name, value in figures.items():
                writer.add_scalar(name, value, last.number)

    return write
