"""`xpcnn evaluate` and `xpcnn predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..io import read_image
from ..ops._layout import from_channels_first
from ..training import Classifier, load
from ._images import pictures_like
from ._shared import (
    DataOption,
    DeviceOption,
    ModelArgument,
    about,
    out,
    reporting,
    require_classes,
    say_error,
    tested,
)


def evaluate(
    model: ModelArgument, data: DataOption = "digits", device: DeviceOption = "auto"
) -> None:
    """Test a trained model on the test images of a data set."""
    with reporting():
        net = load(model, device)
        images = pictures_like(data, net.in_shape_, net.resize_)
        require_classes(net, images)
        out.print(about(images))
        out.print(tested(net, images))


def predict(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    device: DeviceOption = "auto",
) -> None:
    """Tell what is in image files.

    A line for each tells the label and its probability. Files that cannot be read are told on
    standard error, and the exit status is then 1.
    """
    with reporting():
        net = load(model, device)
        failed = [path for path in images if not _predict_one(net, path)]
    if failed:
        raise typer.Exit(1)


def _predict_one(net: Classifier, path: Path) -> bool:
    in_shape: Any = net.in_shape_  # read_image refuses what is no image's
    try:
        image = read_image(path, in_shape, net.resize_)
    except (OSError, ValueError) as error:
        say_error(error)
        return False
    [chances] = net.predict_proba(from_channels_first(image[None], net.layout))
    best = int(chances.argmax())
    out.print(f"{escape(str(path))}: {escape(net.label_names_[best])} ({chances[best]:.1%})")
    return True
