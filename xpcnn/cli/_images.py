"""Where a command's images come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape

from .._xp import Array
from ..data import Dataset, ImageFolder, image_folder, is_image_folder, load
from ..io import read_image
from ..io.images import RESIZES
from ..training import Classifier
from ._shared import err

SIZE = 64
"""Of a folder's pictures, unless told otherwise: enough for many, and quick."""

SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help=f"Of a folder's pictures.  [default: {SIZE}x{SIZE}]"
    ),
]
GreyOption = Annotated[bool, typer.Option("--grey", help="Read a folder's pictures as grey.")]
ResizeOption = Annotated[
    str, typer.Option(metavar="HOW", help="crop the middle, or stretch, to that size.")
]
SkipOption = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out what cannot be read, and list it.")
]
OF_PICTURES = ("size", "grey", "resize", "skip_unreadable")
"""The parameters that these options are: other data has no use for them."""

ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")]


def load_images(
    name: str, size: str | None, grey: bool, resize: str, skip_unreadable: bool
) -> Dataset:
    """The data set of that name or path; the options are for folders of pictures."""
    if resize not in RESIZES:
        raise ValueError(f"--resize {resize}: give {' or '.join(RESIZES)}")
    if not is_image_folder(name):
        if size or grey or skip_unreadable:
            raise ValueError(
                "--size, --grey and --skip-unreadable are for folders of pictures; --data "
                f"{name} is none"
            )
        return load(name)
    images = image_folder(
        name, _sides(size), color=not grey, resize=resize,
        on_error="skip" if skip_unreadable else "raise",
    )  # fmt: skip
    _tell_skipped(images)
    return images


def pictures_like(name: str, in_shape: Any, resize: str) -> Dataset:
    """The data set of that name or path, folders of pictures being read as a model takes them."""
    if not is_image_folder(name):
        return load(name)
    if len(in_shape) != 3 or in_shape[0] not in (1, 3):
        raise ValueError(f"--data {name}: the model takes {in_shape}, which no pictures are")
    color, size = in_shape[0] == 3, in_shape[1:]
    images = image_folder(name, size, color=color, resize=resize, on_error="skip")
    _tell_skipped(images)
    return images


def picture_for(net: Classifier, path: Path) -> np.ndarray:
    """An image file as a network takes it, uint8 (C, H, W)."""
    in_shape: Any = net.in_shape_  # read_image refuses what is no image's
    return read_image(path, in_shape, net.resize_)


def as_fed(net: Classifier, picture: np.ndarray) -> Array:
    """A batch of that picture alone, on the network's device, scaled as for training."""
    return net.device_.asarray(picture[None].astype(net.dtype) * net.uint8_scale, net.dtype)


def _tell_skipped(images: ImageFolder) -> None:
    for path, reason in images.skipped:
        err.print(f"[yellow]left out:[/yellow] {escape(path)}: {escape(reason)}")


def _sides(size: str | None) -> tuple[int, int]:
    if size is None:
        return SIZE, SIZE
    sides = size.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(f"--size {size}: give height x width in pixels, such as 224x224, or 224")
    return int(sides[0]), int(sides[-1])
