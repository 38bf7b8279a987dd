"""A run of `xpcnn train`: its processes, how it stops, and the command lines that tell of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.markup import escape

from ..training import Interrupted, mpi_ranks
from ..training.ranks import ALONE, Ranks
from ._shared import err, say_error

BESIDE = (
    "checkpoints", "every", "keep", "resume", "log", "tensorboard_folder", "no_report",
)  # fmt: skip
"""Options that what comes out does not depend on."""


@contextmanager
def resumable(context: typer.Context) -> Iterator[None]:
    """Tell how to go on after Ctrl-C or SIGTERM; the exit status is the shell's for these."""
    try:
        yield
    except Interrupted as stop:
        if stop.rank == 0:
            line = f"{command_line(context, stop.ranks, without=('resume',))} --resume"
            happened, _, _ = str(stop).partition(";")  # how to go on in Python is told after it
            err.print(f"{escape(happened)}; go on with\n  {escape(line)}")
        sys.exit(128 + stop.signal)


@contextmanager
def processes(parallel: bool) -> Iterator[Ranks]:
    """This process alone, or all that mpiexec started."""
    if not parallel:
        yield ALONE
        return
    with mpi_ranks(tell=say_error) as ranks:
        yield ranks


def command_line(context: typer.Context, ranks: int, without: tuple[str, ...]) -> str:
    """The command as it was given, save some options."""
    words = ["mpiexec", "-n", str(ranks)] if context.params["parallel"] else []
    words += ["xpcnn", "train"]
    for name, option in _options(context).items():
        value = context.params[name]
        source = context.get_parameter_source(name)
        if name not in without and source and source.name == "COMMANDLINE":
            words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def settings(
    context: typer.Context, without: tuple[str, ...]
) -> dict[str, str | int | float | bool | None]:
    """Each option save some, by its name, with its value, given or not."""
    found = {
        option: context.params[name]
        for name, option in _options(context).items()
        if name not in without
    }
    plain = (str, int, float, bool, type(None))
    return {name: one if isinstance(one, plain) else str(one) for name, one in found.items()}


def _options(context: typer.Context) -> dict[str, str]:
    """The options' names: of the function's arguments, and on the command line."""
    return {
        option.name: option.opts[0]
        for option in context.command.params
        if option.name in context.params
    }
