"""`xpcnn train`."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from .._xp import product
from ..data import Dataset, parse_augment, part, stratified_split
from ..layers import tree
from ..models import MODELS
from ..report import beside
from ..training import Checkpoints, Classifier, csv_log, early_stopping, tensorboard
from ..training.ranks import ALONE, Ranks
from ._choices import MIXINGS, OPTIMIZERS, SCHEDULES, make_model, make_optimizer, require_known
from ._images import GreyOption, ResizeOption, SizeOption, SkipOption, load_images
from ._records import leave_page, record_of, writable
from ._run import processes, resumable
from ._shared import DataOption, DeviceOption, about, out, reporting, tested


def train(
    context: typer.Context,
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
    augment: Annotated[
        str | None,
        typer.Option(metavar="STEPS", help="Of images: shift=0.1,rotate=15,flip and the like."),
    ] = None,
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
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no page about the training.")
    ] = False,
) -> None:
    """Train a network on images, test it, and write a model file.

    Beside that go the record of the training, as JSON, and a page with its figures, as HTML.
    """
    with reporting(), resumable(context), processes(parallel) as ranks:
        require_known(
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
        path = writable(out_path or Path(f"xpcnn-{images.name.partition('.')[0]}.safetensors"), log)
        (x, y), held_out = _parted(images, validation, seed)
        steps = ceil(len(y) / batch_size) * epochs
        rate = OPTIMIZERS[optimizer]().lr if lr is None else lr
        net = Classifier(
            make_model(model, len(images.classes), x.shape[1:]),
            optimizer=make_optimizer(optimizer, schedule, rate, steps, average),
            batch_size=batch_size,
            device=place,
            dtype="float16" if half else "float32",
            label_names=images.classes,
            label_smoothing=label_smoothing,
            augment=None if augment is None else parse_augment(augment),
            mixing=MIXINGS[mixing](),
            accumulate=accumulate,
            seed=seed,
        )
        callbacks = [
            *([early_stopping(patience)] if patience else []),
            *([csv_log(log)] if log else []),
            *([tensorboard(tensorboard_folder)] if tensorboard_folder else []),
        ]
        kept = Checkpoints(checkpoints, keep, every) if checkpoints else None
        tell = out.print if ranks.rank == 0 else _nothing
        tell(about(images))
        if resume and kept and not kept.paths():
            tell(f"no checkpoint in {escape(str(checkpoints))}: beginning anew")
        net.fit(
            x, y, epochs, validation=held_out, best="val_loss" if best else None,
            callbacks=callbacks, checkpoints=kept, resume=resume, ranks=ranks,
        )  # fmt: skip
        tell(_told(model, net, ranks))
        if ranks.rank == 0:
            accuracy = net.score(*images.test)
            tell(tested(accuracy, images))
            net.save(path)
            tell(f"model written to {escape(str(path))}")
            found = {"--lr": rate, "--out": str(path)}
            record = record_of(context, net, images, accuracy, ranks.size, found)
            record.write(beside(path, ".json"))
            if not no_report:
                leave_page(net, images, record, path)


def _nothing(text: str) -> None:
    """What ranks say that do not speak for all."""


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
