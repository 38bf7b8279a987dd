"""`xpcnn stages`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._choices import require_known
from ._figures import figure_option, figure_path, write_figure
from ._shared import reporting
from .filters import LONGEST, LongestOption, PhotoArgument, shrunk


def stages(
    photo: PhotoArgument,
    kernel: Annotated[
        str,
        typer.Option("--filter", metavar="NAME", help="One of those that `xpcnn filters` shows."),
    ] = "sobel-x",
    out: Annotated[Path | None, figure_option("PHOTO-stages.png")] = None,
    longest: LongestOption = LONGEST,
) -> None:
    """Show a photo after convolution, ReLU and max pooling."""
    with reporting():
        path = figure_path(out, photo, "stages")
        weights = _filter(kernel)
        image = shrunk(photo, longest)
        from ..plots import stages as drawn

        write_figure(drawn(image, weights), path)


def _filter(name: str) -> Any:
    """The kernel of that name, as the figure writes it or in small letters joined by hyphens."""
    from ..plots import FILTERS

    known = {_option(title): kernel for title, kernel in FILTERS.items()}
    require_known(filter=(_option(name), known))
    return known[_option(name)]


def _option(title: str) -> str:
    return title.lower().replace(" ", "-")
