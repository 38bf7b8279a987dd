"""What `xpcnn train` lets one choose by name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from .. import optim
from ..data import CutMix, Mixup
from ..layers import Layer
from ..layers.base import Shape
from ..models import MODELS

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


def require_known(**chosen: tuple[str, Collection[str]]) -> None:
    """Refuse what is none of the names that an option takes."""
    for name, (value, known) in chosen.items():
        if value not in known:
            raise ValueError(f"--{name} {value}: no such {name}; choose {', '.join(known)}")


def make_model(name: str, classes: int, in_shape: Shape) -> Layer:
    """The network of that name; ValueError where images (C, H, W) are too small for it."""
    model = MODELS[name](classes)
    try:
        model.plan(in_shape)
    except ValueError as error:
        raise ValueError(
            f"{error}; images of {'x'.join(map(str, in_shape))} are too small for {name}: give a "
            "larger --size, or another --model"
        ) from error
    return model


def make_optimizer(
    name: str, schedule: str, lr: float, steps: int, average: float | None
) -> optim.Optimizer:
    """The optimizer of that name, its rate on a schedule for so many steps."""
    rate, make = SCHEDULES[schedule](lr, steps), OPTIMIZERS[name]
    chosen = make(rate, momentum=MOMENTUM) if name == "sgd" else make(rate)
    return chosen if average is None else optim.Averaged(chosen, average)
