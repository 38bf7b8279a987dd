"""`xpcnn data`: which data sets there are, and how they get here."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..data import SETS, Source, find, get
from ._shared import err, out, reporting, say_error

app = typer.Typer(
    help="Data sets: which there are, and download one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

HEAD = "name", "classes", "image", "training", "test", "download", "where"
DIGITS = "digits", "10", "1x8x8", "1,438", "359", "", "comes with xpcnn"


@app.command("list")
def list_sets() -> None:
    """Tell which data sets there are, and where they are on this machine."""
    rows = HEAD, DIGITS, *map(_row, SETS.values())
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(map(str.ljust, row, widths))
        out.print(line.rstrip(), markup=False, no_wrap=True)  # whole paths, also in a pipe


@app.command("get")
def get_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `xpcnn data list`.")],
) -> None:
    """Download a data set that is not here yet, or its rest."""
    columns = TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bar = Progress(*columns, TimeRemainingColumn(), console=err, disable=not err.is_terminal)
    try:
        with reporting():
            with bar:
                task = bar.add_task(name, total=None)
                folder = get(name, lambda done, due: bar.update(task, completed=done, total=due))
            out.print(f"{name} is in {escape(str(folder))}")
    except KeyboardInterrupt:
        say_error(f"stopped; run `xpcnn data get {name}` again to go on from there")
        raise typer.Exit(130) from None


def _row(source: Source) -> tuple[str, ...]:
    paths = find(source)
    return (
        source.name,
        str(source.classes),
        "x".join(map(str, source.shape)),
        f"{source.train:,}",
        f"{source.test:,}",
        decimal(source.size),
        str(paths[0].parent) if paths else "",
    )
