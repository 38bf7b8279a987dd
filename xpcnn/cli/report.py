"""`xpcnn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from .._files import require_place
from ..report import Record, beside, write_page
from ..training import load
from ._images import pictures_like
from ._shared import DeviceOption, ModelArgument, out, reporting, require_classes


def report(
    model: ModelArgument,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME|PATH", help="As for train.  [default: as it was]"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The page.  [default: MODEL.html]"),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write the page about a training once more.

    It is made from the model file, from the record that lies beside it, and from the test images.
    """
    with reporting():
        path = page or beside(model, ".html")
        require_place(path)
        net = load(model, device)
        record = Record.read(beside(model, ".json"))
        images = pictures_like(data or _data(record), net.in_shape_, net.resize_)
        require_classes(net, images)
        write_page(path, net, images, record, model.name)
        out.print(f"report written to {escape(str(path))}")


def _data(record: Record) -> str:
    return str(record.settings.get("--data", record.data))
