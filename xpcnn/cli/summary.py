"""`xpcnn summary`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models import MODELS
from ..training import load
from ._shared import out, reporting

IN_SHAPE = "3x224x224"


def summary(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"A model file, or one of {', '.join(MODELS)}.")
    ],
    in_shape: Annotated[
        str | None,
        typer.Option(
            metavar="CxHxW", help=f"Of one image.  [default: the file's own, else {IN_SHAPE}]"
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images whose bytes are told.")
    ] = 1,
    classes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Classes of a model that is no file.")
    ] = 1000,
) -> None:
    """Tell what a model is and costs, layer by layer.

    Shapes, parameters, multiply-adds of one image, bytes of activations and of what training keeps,
    how much of the image an output sees, and the memory that all of it takes.
    """
    with reporting():
        if model in MODELS:
            network, shape = MODELS[model](classes), _shape(in_shape or IN_SHAPE)
        elif Path(model).exists():
            net = load(model, "cpu")
            network, shape = net.model_, _shape(in_shape) if in_shape else net.in_shape_
        else:
            raise ValueError(
                f'summary: there is no model and no file "{model}"; choose {", ".join(MODELS)}, or '
                "give a model file"
            )
        told = network.summary(shape, batch_size)
    out.print(str(told), markup=False, no_wrap=True)


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise ValueError(f"--in-shape {text}: give channels x height x width, such as {IN_SHAPE}")
    return tuple(map(int, sizes))
