"""`xpcnn train`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from .. import optim
from .._xp import product
from ..data import CutMix, Dataset, Mixup, part, stratified_split
from ..layers import tree
from ..models import MODELS
from ..training import (
    Checkpoints,
    Classifier,
    Interrupted,
    csv_log,
    early_stopping,
    mpi_ranks,
    tensorboard,
)
from ..training.ranks import ALONE, Ranks
from ._images import GreyOption, ResizeOption, SizeOption, SkipOption, load_images
from ._shared import DataOption, DeviceOption, about, err, out, reporting, say_error, tested

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
    "lion": optim.Lion,
    "lars": optim.LARS,
}
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda lr, steps: lr,
    "cosine": lambda lr, steps: optim.Cosine(lr, steps=steps),
    "one-cycle": lambda lr, steps: optim.OneCycle(lr, steps=steps),
    "plateau": lambda lr, steps: optim.Plateau(lr),
}
MIXINGS: dict[str, Callable[[], Any]] = {"none": lambda: None, "mixup": Mixup, "cutmix": CutMix}
MOMENTUM = 0.9  # of SGD


def train(
    data: DataOption = "digits",
    model: Annotated[
        str, typer.Option(metavar="NAME", help=f"The network: {', '.join(MODELS)}.")
    ] = "convnet",
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the images.")] = 10,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images in a step.")] = 64,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate; else the optimizer's own."),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(OPTIMIZERS)}.")
    ] = "adam",
    schedule: Annotated[
        str, typer.Option(metavar="NAME", help=f"Of the rate: {', '.join(SCHEDULES)}.")
    ] = "constant",
    average: Annotated[
        float | None,
        typer.Option(metavar="DECAY", help="Predict with a moving average of the weights."),
    ] = None,
    label_smoothing: Annotated[
        float, typer.Option(metavar="SHARE", min=0.0, max=1.0, help="Of the labels.")
    ] = 0.0,
    mixing: Annotated[
        str, typer.Option(metavar="NAME", help=f"Of images: {', '.join(MIXINGS)}.")
    ] = "none",
    accumulate: Annotated[
        int, typer.Option(metavar="N", min=1, help="Parts of a batch, to save memory.")
    ] = 1,
    half: Annotated[
        bool, typer.Option("--half", help="Compute in float16, which GPUs gain by.")
    ] = False,
    validation: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0.0, max=0.9, help="Of the training images, to validate with."
        ),
    ] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Stop after N epochs without a better validation."),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Keep the weights of the best validation.")
    ] = False,
    size: SizeOption = None,
    grey: GreyOption = False,
    resize: ResizeOption = "crop",
    skip_unreadable: SkipOption = False,
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write checkpoints.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Write one each N batches, not each epoch alone."),
    ] = None,
    keep: Annotated[int, typer.Option(metavar="K", min=1, help="Checkpoints that stay.")] = 3,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the latest checkpoint.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write each epoch's figures as CSV.")
    ] = None,
    tensorboard_folder: Annotated[
        Path | None,
        typer.Option("--tensorboard", metavar="FOLDER", help="Write them for TensorBoard."),
    ] = None,
    parallel: Annotated[
        bool, typer.Option("--parallel", help="In the processes that mpiexec started.")
    ] = False,
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
    with reporting(), _resumable(), _processes(parallel) as ranks:
        _require_known(
            model=(model, MODELS), optimizer=(optimizer, OPTIMIZERS),
            schedule=(schedule, SCHEDULES), mixing=(mixing, MIXINGS),
        )  # fmt: skip
        if not validation and (patience or best or schedule == "plateau"):
            raise ValueError(
                "--patience, --best and --schedule plateau go by validation images; hold some back "
                "with --validation 0.1"
            )
        if (every or resume) and not checkpoints:
            raise ValueError("--every and --resume need --checkpoints FOLDER")
        place = ranks.device(device)
        images = load_images(data, size, grey, resize, skip_unreadable)
        path = _writable(out_path or Path(f"xpcnn-{images.name.partition('.')[0]}.safetensors"))
        (x, y), held_out = _parted(images, validation, seed)
        steps = ceil(len(y) / batch_size) * epochs
        net = Classifier(
            MODELS[model](len(images.classes)),
            optimizer=_optimizer(optimizer, schedule, lr, steps, average),
            batch_size=batch_size,
            device=place,
            dtype="float16" if half else "float32",
            label_names=images.classes,
            label_smoothing=label_smoothing,
            mixing=MIXINGS[mixing](),
            accumulate=accumulate,
            seed=seed,
        )
        callbacks = [
            *([early_stopping(patience)] if patience else []),
            *([csv_log(log)] if log else []),
            *([tensorboard(tensorboard_folder)] if tensorboard_folder else []),
        ]
        tell = out.print if ranks.rank == 0 else _nothing
        tell(about(images))
        net.fit(
            x, y, epochs, validation=held_out, best="val_loss" if best else None,
            callbacks=callbacks, resume=resume, ranks=ranks,
            checkpoints=Checkpoints(checkpoints, keep, every) if checkpoints else None,
        )  # fmt: skip
        tell(_told(model, net, ranks))
        if ranks.rank == 0:
            tell(tested(net, images))
            net.save(path)
            tell(f"model written to {escape(str(path))}")


def _nothing(text: str) -> None:
    """What ranks say that do not speak for all."""


@contextmanager
def _resumable() -> Iterator[None]:
    """Tell how to go on after Ctrl-C or SIGTERM; the exit status is the shell's for these."""
    try:
        yield
    except Interrupted as stop:
        if stop.rank == 0:
            err.print(f"{escape(str(stop))}:\n  {escape(_command_to_resume(stop.ranks))}")
        sys.exit(128 + stop.signal)


@contextmanager
def _processes(parallel: bool) -> Iterator[Ranks]:
    """This process alone, or all that mpiexec started."""
    if not parallel:
        yield ALONE
        return
    with mpi_ranks(tell=say_error) as ranks:
        yield ranks


def _require_known(**chosen: tuple[str, Collection[str]]) -> None:
    for name, (value, known) in chosen.items():
        if value not in known:
            raise ValueError(f"--{name} {value}: no such {name}; choose {', '.join(known)}")


def _optimizer(
    name: str, schedule: str, lr: float | None, steps: int, average: float | None
) -> optim.Optimizer:
    make = OPTIMIZERS[name]
    rate = SCHEDULES[schedule](make().lr if lr is None else lr, steps)
    chosen = make(rate, momentum=MOMENTUM) if name == "sgd" else make(rate)
    return chosen if average is None else optim.Averaged(chosen, average)


def _parted(images: Dataset, share: float, seed: int) -> tuple[Any, Any]:
    """The training images with their labels: those to train on, and those to validate with."""
    x, y = images.train
    if not share:
        return (x, y), None
    kept, held = stratified_split(y, share, seed)
    return (part(x, kept), y[kept]), (part(x, held), y[held])


def _told(model: str, net: Classifier, ranks: Ranks) -> str:
    weights = sum(product(array.shape) for array in tree.leaves(net.params_))
    seconds, waiting = (sum(net.history_.column(name)) for name in ("seconds", "waiting"))
    place = net.device_.name if ranks is ALONE else f"{net.device_.name} in {ranks.size} processes"
    return (
        f"{model}: {weights:,} parameters, trained on {place} in {seconds:.1f} s, "
        f"{waiting / seconds:.1%} of it waiting for data"
    )


def _command_to_resume(ranks: int) -> str:
    words = [word for word in sys.argv[1:] if word != "--resume"]
    start = ["mpiexec", "-n", str(ranks)] if "--parallel" in words else []
    return shlex.join([*start, "xpcnn", *words, "--resume"])


def _writable(path: Path) -> Path:
    """Refuse, before hours of training, a place that no file can be written to."""
    if path.exists() and not path.is_file():
        raise ValueError(f"--out {path}: it is a folder or a device; give the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise FileNotFoundError(f"--out {path}: {path.parent} is no folder one can write to")
    return path
