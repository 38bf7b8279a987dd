"""What `xpcnn train` leaves beside a model file: the record of the run, and a page about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.markup import escape

from ..data import SETS, Dataset, ImageFolder
from ..report import PAGE_BEGINS, RECORD_BEGINS, Record, Setting, beside, versions_with, write_page
from ..training import Classifier
from ._images import OF_PICTURES
from ._run import BESIDE, command_line, settings
from ._shared import out

NEEDED = ("matplotlib", "jinja2")
"""What pages are made with: the extra `plots`."""

INSTALL = 'pip install "xpcnn[plots]"'


def writable(path: Path, log: Path | None) -> Path:
    """Refuse, before hours of training, a place that no file can be written to.

    The files that are to lie beside it may take the place of such files only.
    """
    if path.suffix not in ("", ".safetensors"):
        raise ValueError(
            f"--out {path}: the model file is of safetensors; let its name end in .safetensors"
        )
    if path.exists() and not path.is_file():
        raise ValueError(f"--out {path}: it is a folder or a device; give the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise FileNotFoundError(f"--out {path}: {path.parent} is no folder one can write to")
    record, page = beside(path, ".json"), beside(path, ".html")
    require_own(record, RECORD_BEGINS)
    require_own(page, PAGE_BEGINS)
    if log is not None and log.resolve() in (one.resolve() for one in (path, record, page)):
        raise ValueError(f"--log {log}: the model, or what is told of it, is written there, too")
    return path


def require_own(path: Path, begins: str) -> None:
    """Refuse to take the place of a file that does not begin as xpcnn's do."""
    if path.exists() and not _begins(path, begins):
        raise ValueError(
            f"{path}: it would be written over, and xpcnn did not write it; give another name by "
            "--out"
        )


def record_of(
    context: typer.Context,
    net: Classifier,
    images: Dataset,
    accuracy: float,
    processes: int,
    found: Mapping[str, Setting],
) -> Record:
    """The record of the run that has just come to its end.

    `found` are options by name whose defaults were found out: not given, they are not told.
    """
    pictures = isinstance(images, ImageFolder)
    without = BESIDE if pictures else BESIDE + OF_PICTURES
    if pictures:
        found = {"--size": "x".join(map(str, net.in_shape_[1:])), **found}
    return Record(
        data=images.name,
        model=context.params["model"],
        command=command_line(context, processes, without=BESIDE),
        settings={**settings(context, without), **found},
        seed=net.seed,
        versions=versions_with(net.device_),
        device=net.device_.name,
        processes=processes,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=sum(net.history_.column("seconds")),
        test_accuracy=accuracy,
        test_images=len(images.test[0]),
        history=net.history_,
    )


def trained_on(model: Path) -> str:
    """The name or path of the data that a model was trained on, as its record has it."""
    path = beside(model, ".json")
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such record, which names the images; name them with --data"
        )
    record = Record.read(path)
    name = str(record.settings.get("--data", record.data))
    if name not in ("digits", *SETS) and not Path(name).exists():
        raise FileNotFoundError(
            f"the images are no longer at {name}, where {path} has them; say where with --data"
        )
    return name


def leave_page(net: Classifier, images: Dataset, record: Record, path: Path) -> None:
    """Write the page of a run, or tell what it takes."""
    if not all(map(find_spec, NEEDED)):
        out.print(f"for a report with figures: {escape(INSTALL)}")
        return
    page = beside(path, ".html")
    write_page(page, net, images, record, path.name)
    out.print(f"report written to {escape(str(page))}")


def _begins(path: Path, begins: str) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(begins)) == begins.encode()
