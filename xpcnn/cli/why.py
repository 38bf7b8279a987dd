"""`xpcnn why`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from .. import inspection
from .._xp import to_numpy
from ..training import Classifier, load
from ._figures import figure_option, figure_path, write_figure
from ._images import ImageArgument, as_fed, picture_for
from ._shared import DeviceOption, ModelArgument, out, reporting
from .predict import chances_of, verdict


def why(
    model: ModelArgument,
    image: ImageArgument,
    name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="What speaks for it; else for the likeliest."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of Grad-CAM, such as 3 or 2.0; else the last that can."),
    ] = None,
    figure: Annotated[Path | None, figure_option("IMAGE-why.png")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Show where in an image a network sees what it tells.

    Grad-CAM shows which places of a layer's output speak for the class, saliency which pixels sway
    it.
    """
    with reporting():
        path = figure_path(figure, image, "why")
        net = load(model, device)
        picture = picture_for(net, image)
        chances = chances_of(net, picture)
        chosen = int(chances.argmax()) if name is None else _place(net, name)
        heats = _heats(net, picture, chosen, layer)
        out.print(f"{escape(str(image))}: {verdict(net, chances)}")
        if name is not None:
            out.print(f"shown is what speaks for {escape(name)} ({chances[chosen]:.1%})")
        from ..plots import heat_maps

        write_figure(heat_maps(picture, heats), path)


def _place(net: Classifier, name: str) -> int:
    if name not in net.label_names_:
        raise ValueError(
            f"--class {name}: the model tells apart {', '.join(net.label_names_)}; choose one"
        )
    return net.label_names_.index(name)


def _heats(
    net: Classifier, picture: np.ndarray, chosen: int, layer: str | None
) -> dict[str, np.ndarray]:
    """What speaks for a class, as maps (H, W) by what they are called.

    Without a layer that Grad-CAM could look at, saliency alone.
    """
    given = net.model_, net.params_, as_fed(net, picture), [chosen]
    maps = {}
    if layer is not None or inspection.spatial_layers(net.model_, picture.shape):
        maps["Grad-CAM"] = inspection.grad_cam(*given, layer)
    maps["saliency"] = inspection.saliency(*given)
    label = net.label_names_[chosen]
    return {f"{kind}: {label}": to_numpy(one)[0] for kind, one in maps.items()}
