"""`xpcnn why`."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape

from .. import inspection
from .._xp import to_numpy
from ..training import Classifier, load
from ._figures import FigureOption, figure_path, write_figure
from ._images import ImageArgument, as_fed, picture_for
from ._shared import DeviceOption, ModelArgument, out, reporting
from .predict import chances_of, verdict

INCHES = 2.6  # of a picture's width
ROOM = (0.1, 0.1, 0.1, 0.3)


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
    figure: FigureOption = None,
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
        write_figure(_drawn(picture, heats, net.label_names_[chosen]), path)


def _place(net: Classifier, name: str) -> int:
    if name not in net.label_names_:
        raise ValueError(
            f"--class {name}: the model tells apart {', '.join(net.label_names_)}; choose one"
        )
    return net.label_names_.index(name)


def _heats(
    net: Classifier, picture: np.ndarray, chosen: int, layer: str | None
) -> dict[str, np.ndarray]:
    """What speaks for a class, as maps (H, W) by what they are called."""
    given = net.model_, net.params_, as_fed(net, picture), [chosen]
    maps = {"Grad-CAM": inspection.grad_cam(*given, layer), "saliency": inspection.saliency(*given)}
    return {name: to_numpy(one)[0] for name, one in maps.items()}


def _drawn(picture: np.ndarray, heats: dict[str, np.ndarray], label: str) -> Any:
    """The picture as the network sees it, and the maps over it."""
    from ..plots import _draw, heat_map

    height, width = picture.shape[1:]
    ax, (first, *others) = _draw.panels(
        None, 1 + len(heats), 1 + len(heats), aspect=height / width, inches=INCHES, room=ROOM
    )
    _draw.show(first, _draw.pixels("why", "image", picture), vmin=0.0, vmax=1.0)
    _draw.title(first, "as the network sees it")
    for panel, (kind, heat) in zip(others, heats.items(), strict=True):
        heat_map(picture, heat, ax=panel)
        _draw.title(panel, f"{kind}: {label}", parse_math=False)
    return _draw.figure_of(ax)
