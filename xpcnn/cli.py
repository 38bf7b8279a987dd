"""The command `xpcnn`: train, evaluate, predict, and tell which devices there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from ._xp import device as find_device
from ._xp import devices as find_devices
from ._xp import product
from .data import Dataset
from .data import load as load_data
from .io import read_image
from .layers import tree
from .models import MODELS
from .ops._layout import from_channels_first
from .optim import Adam
from .training import Classifier
from .training import load as load_model

app = typer.Typer(
    help="Convolutional neural networks for any array: train one on images, and use it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help and errors: no boxes
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="digits, fashion-mnist, an IDX images file or a folder with MNIST's four.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax, strict."),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]


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
    model: Annotated[
        str, typer.Option(metavar="NAME", help=f"The network: {', '.join(MODELS)}.")
    ] = "convnet",
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the images.")] = 10,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images in a step.")] = 64,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Learning rate of Adam.")] = 0.001,
    device: DeviceOption = "auto",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of weights, batch order and dropout.")
    ] = 0,
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Model file.  [default: xpcnn-DATA.safetensors]"
        ),
    ] = None,
) -> None:
    """Train a network on images, test it, and write a model file."""
    with _reporting():
        place = find_device(device)
        if model not in MODELS:
            raise ValueError(f"--model {model}: no such network; choose {', '.join(MODELS)}")
        images = load_data(data)
        path = _writable(out_path or Path(f"xpcnn-{images.name.partition('.')[0]}.safetensors"))
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
        weights = sum(product(array.shape) for array in tree.leaves(net.params_))
        seconds = sum(net.history_.column("seconds"))
        out.print(f"{model}: {weights:,} parameters, trained on {place.name} in {seconds:.1f} s")
        out.print(_tested(net, images))
        net.save(path)
        out.print(f"model written to {escape(str(path))}")


@app.command()
def evaluate(
    model: ModelArgument, data: DataOption = "digits", device: DeviceOption = "auto"
) -> None:
    """Test a trained model on the test images of a data set."""
    with _reporting():
        net, images = load_model(model, device), load_data(data)
        out.print(_about(images))
        out.print(_tested(net, images))


@app.command()
def predict(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    device: DeviceOption = "auto",
) -> None:
    """Tell what is in image files.

    A line for each tells the label and its probability. Files that cannot be read are told on
    standard error, and the exit status is then 1.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it finds wrong, we tell
    with _reporting():
        net = load_model(model, device)
        failed = [path for path in images if not _predict_one(net, path)]
    if failed:
        raise typer.Exit(1)


@app.command()
def devices() -> None:
    """Tell where xpcnn can compute, and why not elsewhere."""
    table = Table("device", "here", "what")
    for found in find_devices():
        table.add_row(found.name, "yes" if found.device else "no", escape(found.detail))
    out.print(table)


def _predict_one(net: Classifier, path: Path) -> bool:
    in_shape: Any = net.in_shape_  # read_image refuses what is no image's
    try:
        image = read_image(path, in_shape)
    except (OSError, ValueError) as error:
        _say_error(error)
        return False
    [chances] = net.predict_proba(from_channels_first(image[None], net.layout))
    best = int(chances.argmax())
    out.print(f"{escape(str(path))}: {escape(net.label_names_[best])} ({chances[best]:.1%})")
    return True


def _tested(net: Classifier, images: Dataset) -> str:
    return f"test accuracy {net.score(*images.test):.2%} on {len(images.test[0]):,} images"


def _about(images: Dataset) -> str:
    train, test = len(images.train[0]), len(images.test[0])
    shape = "x".join(map(str, images.train[0].shape[1:]))
    return (
        f"{escape(images.name)}: {train:,} training and {test:,} test images {shape}, "
        f"{len(images.classes)} classes"
    )


def _writable(path: Path) -> Path:
    """Refuse, before hours of training, a place that no file can be written to."""
    if path.exists() and not path.is_file():
        raise ValueError(f"--out {path}: it is a folder or a device; give the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise FileNotFoundError(f"--out {path}: {path.parent} is no folder one can write to")
    return path


def _say_error(error: Exception) -> None:
    err.print(f"[red]error:[/red] {escape(str(error))}")


@contextmanager
def _reporting() -> Iterator[None]:
    """Tell users what went wrong in a line, without a traceback; exit status 1."""
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, FloatingPointError) as error:
        _say_error(error)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
