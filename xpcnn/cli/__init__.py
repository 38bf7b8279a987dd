"""The command `xpcnn`: train, look and predict; data sets, models and devices."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import data
from ._shared import out
from .devices import devices
from .features import features
from .filters import filters
from .predict import evaluate, predict
from .report import report
from .stages import stages
from .summary import summary
from .train import train
from .why import why

app = typer.Typer(
    help="Convolutional neural networks for any array: train one on images, and use it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help and errors: no boxes
    pretty_exceptions_enable=False,
)
COMMANDS = (
    train, report, evaluate, predict, why, features, filters, stages, summary, devices,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
