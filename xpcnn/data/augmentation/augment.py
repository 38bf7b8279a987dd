"""Steps one after another, and as the command has them: a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from ... import random
from ..._xp import Array
from .affine import resample
from .geometric import Crop, Flip, Geometric, Rotate, Scale, Shift
from .pixels import Colour, CutOut
from .step import Step

STEPS: dict[str, Callable[..., Step]] = {
    "shift": Shift,
    "rotate": Rotate,
    "scale": Scale,
    "flip": Flip,
    "crop": Crop,
    "colour": lambda share=0.2: Colour(share, share, share),
    "cutout": CutOut,
}


@dataclass(frozen=True, repr=False, init=False)
class Augment(Step):
    """Steps of augmentation, one after another, each with a key of its own.

    Called, as each step by itself, with a key and floating images x (N, C, H, W), it returns them
    changed, in x's shape and dtype; float16 is computed in float32. Neighbours that move pixels
    (`Shift`, `Crop`, `Rotate`, `Scale`, `Flip`) and have the same `fill` are joined into one map,
    and images are read once: what one moves out, the next may bring back, and nothing is blurred
    twice. A function (key, x) -> x may be a step too.

    Raises TypeError for what is no step, no key, or images that are not floating; ValueError for
    other shapes.

    >>> augment = Augment(Shift(0.1), Rotate(15), Flip())
    >>> augment
    Augment(Shift(share=0.1, fill=0.0), Rotate(degrees=15.0, fill=0.0), Flip(p=0.5, vertical=0.0))
    >>> augment(random.key(0), np.zeros((2, 3, 8, 8), np.float32)).shape
    (2, 3, 8, 8)

    Source: torchvision.transforms.Compose; its affine maps joined as in homogeneous coordinates.
    """

    steps: tuple[Any, ...]

    def __init__(self, *args: Any, steps: Sequence[Any] = ()) -> None:
        for step in (*args, *steps):
            if not callable(step) or isinstance(step, type):
                raise TypeError(f"Augment: {step!r} is no step; give some such as Shift(0.1)")
        object.__setattr__(self, "steps", (*args, *steps))

    def __repr__(self) -> str:
        return f"Augment({', '.join(map(repr, self.steps))})"

    def change(self, key: random.Key, x: Array) -> Array:
        for group in _groups(self.steps):
            keyed = [(random.fold_in(key, number), step) for number, step in group]
            if _joinable([step for _, step in group]):
                maps = reduce(np.matmul, [step.maps(own, x.shape) for own, step in keyed])
                fills = [step.fill for _, step in group if step.fill is not None]
                x = resample(x, maps, fills[0] if fills else 0.0)
            else:
                ((own, step),) = keyed
                x = step(own, x)
        return x


def parse_augment(text: str) -> Augment:
    """The steps that a text names: by name, or with a number, one after another.

    The names are shift, rotate, scale, flip, crop, colour and cutout; a number is a step's first
    option, and for colour all three. Raises ValueError for other names and for numbers that are
    none, and what the steps raise for their options.

    >>> parse_augment("crop=2,flip")
    Augment(Crop(padding=2, fill=0.0), Flip(p=0.5, vertical=0.0))

    Source: mount's options, with commas between them and numbers after an equals sign.
    """
    return Augment(*(_parsed(text, part.strip()) for part in text.split(",")))


def _parsed(text: str, part: str) -> Step:
    call = f'augment "{text}"'
    name, given, number = (word.strip() for word in part.partition("="))
    if name not in STEPS:
        raise ValueError(f"{call}: there is no step {name!r}; choose {', '.join(STEPS)}")
    if not given:
        return STEPS[name]()
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{call}: {number!r} is no number; give {name}, or {name}=0.5") from None
    return STEPS[name](int(value) if value.is_integer() else value)


def _groups(steps: Sequence[Any]) -> list[list[tuple[int, Any]]]:
    """The steps with their numbers, in one list those that are done at once."""
    groups: list[list[tuple[int, Any]]] = []
    for number, step in enumerate(steps):
        if groups and _joinable([*(other for _, other in groups[-1]), step]):
            groups[-1].append((number, step))
        else:
            groups.append([(number, step)])
    return groups


def _joinable(steps: Sequence[Any]) -> bool:
    if not all(isinstance(step, Geometric) for step in steps):
        return False
    return len({step.fill for step in steps} - {None}) <= 1
