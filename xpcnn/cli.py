"""The command `xpcnn`: train, evaluate, predict, and tell which devices there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from ._xp import device as find_device
from ._xp import devices as find_devices
from .data import Dataset
from .data import load as load_data
from .layers import tree
from .models import MODELS
from .optim import Adam
from .training import Classifier
from .training import load as load_model

app = typer.Typer(
    help="Convolutional neural networks for any array.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ModelName = StrEnum("ModelName", {name: name for name in MODELS})

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, fashion-mnist, an IDX images file, or a folder with MNIST's four files.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax or strict.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


@app.command()
def train(
    data: DataOption = "digits",
    model: Annotated[ModelName, typer.Option(help="Which network.")] = ModelName("convnet"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 64,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate of Adam.")] = 0.001,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batch order and dropout.")] = 0,
    out_path: Annotated[
        Path | None, typer.Option("--out", help="Model file  [default: xpcnn-DATA.safetensors]")
    ] = None,
) -> None:
    """Train a network on images, test it, and write a model file."""
    with _reporting():
        images = load_data(data)
        path = _writable(out_path or Path(f"xpcnn-{images.name.partition('.')[0]}.safetensors"))
        place = find_device(device)
        net = Classifier(
            MODELS[model](len(images.classes)),
            optimizer=Adam(lr),
            batch_size=batch_size,
            device=place,
            label_names=images.classes,
            seed=seed,
        )
        out.print(_about(images))
        net.fit(*images.train, epochs)
        weights = sum(_size(array) for array in tree.leaves(net.params_))
        out.print(f"{model.value}: {weights:,} parameters, {epochs} epochs on {place.name}")
        _print_accuracy(net, images)
        net.save(path)
        out.print(f"model written to {escape(str(path))}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    data: DataOption = "digits",
    device: DeviceOption = "auto",
) -> None:
    """Test a trained model on the test images of a data set."""
    with _reporting():
        net, images = load_model(model, device), load_data(data)
        out.print(_about(images))
        _print_accuracy(net, images)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    device: DeviceOption = "auto",
) -> None:
    """Tell what is in image files: a line for each, with label and probability.

    Files that cannot be read are told on standard error, and the exit status is then 1.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it finds wrong, we tell
    with _reporting():
        net = load_model(model, device)
        failed = [path for path in images if not _predict_one(net, path)]
    if failed:
        raise typer.Exit(1)


@app.command()
def devices() -> None:
    """List where xpcnn can compute on this machine, and why not elsewhere."""
    table = Table("device", "here", "what")
    for found in find_devices():
        table.add_row(found.name, "yes" if found.device else "no", escape(found.detail))
    out.print(table)


def _predict_one(net: Classifier, path: Path) -> bool:
    from .io.images import read_image

    try:
        image = read_image(path, net.in_shape_)[None]
    except (OSError, ValueError) as error:
        err.print(f"[red]error:[/red] {escape(str(error))}")
        return False
    probabilities = net.predict_proba(image)[0]
    best = int(probabilities.argmax())
    label = net.label_names_[best]
    out.print(f"{escape(str(path))}: {escape(label)} ({probabilities[best]:.1%})")
    return True


def _print_accuracy(net: Classifier, images: Dataset) -> None:
    accuracy = net.score(*images.test)
    out.print(f"test accuracy {accuracy:.2%} on {len(images.test[0]):,} images")


def _about(images: Dataset) -> str:
    train, test = len(images.train[0]), len(images.test[0])
    shape = "x".join(map(str, images.train[0].shape[1:]))
    return (
        f"{escape(images.name)}: {train:,} training and {test:,} test images {shape}, "
        f"{len(images.classes)} classes; uint8 scaled to [0, 1]"
    )


def _writable(path: Path) -> Path:
    """Refuse, before hours of training, a place that no file can be written to."""
    if path.is_dir():
        raise IsADirectoryError(f"--out {path}: is a folder; give the name of a file in it")
    if not os.access(path.parent, os.W_OK):
        raise FileNotFoundError(f"--out {path}: {path.parent} is no folder one can write to")
    return path


def _size(array) -> int:
    return int(array.size) if not callable(array.size) else int(array.numel())


@contextmanager
def _reporting() -> Iterator[None]:
    """Tell users what went wrong in a line, without a traceback; exit status 1."""
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, FloatingPointError) as error:
        err.print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
