"""What the commands share: the terminal, common options, and how errors are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..data import Dataset
from ..training import Classifier

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it finds wrong, we tell
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="digits, a set of `xpcnn data list`, a folder of images or of arrays, or a file.",
    ),
]
SameDataOption = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|PATH", help="As for train.  [default: as it was there]"),
]
DeviceOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax, strict."),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]


def about(images: Dataset) -> str:
    """A data set in a line."""
    train, test = len(images.train[0]), len(images.test[0])
    shape = "x".join(map(str, images.train[0].shape[1:]))
    return (
        f"{escape(images.name)}: {train:,} training and {test:,} test images {shape}, "
        f"{len(images.classes)} classes"
    )


def tested(accuracy: float, images: Dataset) -> str:
    """How good a network is, in a line."""
    return f"test accuracy {accuracy:.2%} on {len(images.test[0]):,} images"


def require_classes(net: Classifier, images: Dataset) -> None:
    """Refuse images of other classes than the network tells apart."""
    if images.classes != net.label_names_:
        raise ValueError(
            f"the model tells apart {', '.join(net.label_names_)}, and {images.name} holds "
            f"{', '.join(images.classes)}; give images of the same classes"
        )


def say_error(error: Any) -> None:
    """Tell on standard error what went wrong."""
    err.print(f"[red]error:[/red] {escape(_told(error))}")


def _told(error: Any) -> str:
    """What an error says, without the number that the system has for it."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


@contextmanager
def reporting() -> Iterator[None]:
    """Tell users what went wrong in a line, without a traceback; exit status 1."""
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, FloatingPointError) as error:
        say_error(error)
        raise typer.Exit(1) from None
