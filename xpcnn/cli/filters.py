"""`xpcnn filters`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from ..io import read_photo
from ._figures import figure_option, figure_path, write_figure
from ._shared import err, reporting

LONGEST = 512
"""Pixels of a photo's longer side: as many as a panel shows."""

SEEN = 16
"""Pixels of a photo's shorter side: of fewer, hardly anything is to be seen."""

PhotoArgument = Annotated[Path, typer.Argument(metavar="PHOTO", help="An image file.")]
LongestOption = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Shrink a photo until its longer side has so many pixels."
    ),
]


def filters(
    photo: PhotoArgument,
    out: Annotated[Path | None, figure_option("PHOTO-filters.png")] = None,
    longest: LongestOption = LONGEST,
) -> None:
    """Show what nine hand-made filters make of a photo.

    They sharpen, blur, emboss and find edges; the figure shows each filter's numbers, too.
    """
    with reporting():
        path = figure_path(out, photo, "filters")
        image = shrunk(photo, longest)
        from ..plots import filter_gallery

        write_figure(filter_gallery(image), path)


def shrunk(photo: Path, longest: int) -> np.ndarray:
    """A photo (3, H, W) as it is to be shown; where shrinking leaves little, that is told."""
    image = read_photo(photo, longest)
    height, width = image.shape[1:]
    if min(height, width) < SEEN and max(height, width) == longest:
        err.print(
            f"[yellow]{escape(str(photo))} is {height}x{width} pixels when its longer side has "
            f"{longest}, which is little to look at; raise --longest[/yellow]"
        )
    return image
