"""`xpcnn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from .._files import require_place
from ..report import PAGE_BEGINS, Record, beside, write_page
from ..training import load
from ._images import pictures_like
from ._records import require_own, trained_on
from ._shared import DeviceOption, ModelArgument, SameDataOption, out, reporting, require_classes


def report(
    model: ModelArgument,
    data: SameDataOption = None,
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
        if path.suffix.lower() != ".html":
            raise ValueError(f"--out {path}: the page is HTML; let its name end in .html")
        require_place(path)
        require_own(path, PAGE_BEGINS)
        net = load(model, device)
        record = Record.read(beside(model, ".json"))
        images = pictures_like(data or trained_on(model), net.in_shape_, net.resize_)
        require_classes(net, images)
        write_page(path, net, images, record, model.name)
        out.print(f"report written to {escape(str(path))}")
