"""Figures that commands draw: where they are written, and how."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from .._files import replacing, require_place
from ._shared import err, out

FORMATS = ("png", "svg", "pdf")
DPI = 150


def figure_option(default: str) -> Any:
    """Where a figure goes; `default` is for the help."""
    return typer.Option(
        "--out", metavar="FILE",
        help=f"The figure: {', '.join(FORMATS)}.  [default: {default}, in this folder]",
    )  # fmt: skip


def figure_path(path: Path | None, image: Path, command: str) -> Path:
    """Where a figure is to be written: by default in this folder, named after the image.

    Raises, before any work, ImportError where Matplotlib is missing, and ValueError or
    FileNotFoundError for no place or no format that a figure can have.
    """
    if not find_spec("matplotlib"):
        raise ImportError(f'{command} needs Matplotlib: pip install "xpcnn[plots]"')
    path = path or Path(f"{image.stem}-{command}.png")
    if path.suffix[1:].lower() not in FORMATS:
        raise ValueError(
            f"--out {path}: no figure is written so; let its name end in .{', .'.join(FORMATS)}"
        )
    if path.resolve() == image.resolve():
        raise ValueError(f"--out {path}: the image itself lies there; give another name")
    require_place(path)
    return path


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure of Matplotlib's, whole or not at all, in the format of its name's ending."""
    with replacing(path) as file, warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", "Glyph .* missing from font")
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=DPI)
    if told:
        err.print(
            "[yellow]no font that Matplotlib knows has all letters of the figure: boxes stand for "
            "them[/yellow]"
        )
    out.print(f"figure written to {escape(str(path))}")
