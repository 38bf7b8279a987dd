"""`xpcnn filters`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..io import read_photo
from ._figures import FigureOption, figure_path, write_figure
from ._shared import reporting

LONGEST = 512
"""Pixels of a photo's longer side: as many as a panel shows."""

PhotoArgument = Annotated[Path, typer.Argument(metavar="PHOTO", help="An image file.")]
LongestOption = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Shrink a photo until its longer side has so many pixels."
    ),
]


def filters(
    photo: PhotoArgument, out: FigureOption = None, longest: LongestOption = LONGEST
) -> None:
    """Show what nine hand-made filters make of a photo.

    They sharpen, blur, emboss and find edges; the figure shows each filter's numbers, too.
    """
    with reporting():
        path = figure_path(out, photo, "filters")
        image = read_photo(photo, longest)
        from ..plots import filter_gallery

        write_figure(filter_gallery(image), path)
