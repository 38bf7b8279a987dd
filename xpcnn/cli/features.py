"""`xpcnn features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .. import inspection
from ..training import load
from ._figures import figure_option, figure_path, write_figure
from ._images import ImageArgument, as_fed, picture_for
from ._shared import DeviceOption, ModelArgument, reporting


def features(
    model: ModelArgument,
    image: ImageArgument,
    out: Annotated[Path | None, figure_option("IMAGE-features.png")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Show what each layer of a network makes of an image."""
    with reporting():
        path = figure_path(out, image, "features")
        net = load(model, device)
        x = as_fed(net, picture_for(net, image))
        seen = inspection.features(net.model_, net.params_, x)
        from ..plots import network_features

        write_figure(network_features(seen), path)
