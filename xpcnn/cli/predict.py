"""`xpcnn evaluate` and `xpcnn predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from ..ops._layout import from_channels_first
from ..training import Classifier, load
from ._images import picture_for, pictures_like
from ._records import trained_on
from ._shared import (
    DeviceOption,
    ModelArgument,
    SameDataOption,
    about,
    out,
    reporting,
    require_classes,
    say_error,
    tested,
)


def evaluate(
    model: ModelArgument, data: SameDataOption = None, device: DeviceOption = "auto"
) -> None:
    """Test a trained model on the test images of a data set."""
    with reporting():
        net = load(model, device)
        images = pictures_like(data or trained_on(model), net.in_shape_, net.resize_)
        require_classes(net, images)
        out.print(about(images))
        out.print(tested(net.score(*images.test), images))


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


def chances_of(net: Classifier, picture: np.ndarray) -> np.ndarray:
    """The probability of each class for a picture (C, H, W): (K,)."""
    [chances] = net.predict_proba(from_channels_first(picture[None], net.layout))
    return chances


def verdict(net: Classifier, chances: np.ndarray) -> str:
    """The likeliest class and its probability."""
    best = int(chances.argmax())
    return f"{escape(net.label_names_[best])} ({chances[best]:.1%})"


def _predict_one(net: Classifier, path: Path) -> bool:
    try:
        picture = picture_for(net, path)
    except (OSError, ValueError) as error:
        say_error(error)
        return False
    out.print(f"{escape(str(path))}: {verdict(net, chances_of(net, picture))}")
    return True
