"""A trained model as one safetensors file: PyTorch's names and layouts, and all predicting needs.

The tensors are the flattened parameter tree. The metadata holds one JSON text under "xpcnn": the
model's description, the shape and scaling of its images, and its labels. Nothing in it is
evaluated: a model is rebuilt from the names of xpcnn's layers.

Source: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._xp import product, to_numpy
from ..layers import Layer, build, describe, tree
from ..layers.base import Shape
from ..layers.tree import Tree
from ..ops._layout import NAMES
from .images import RESIZES
from .tensors import read_tensors, write_tensors

FORMAT = 1
CHECKPOINT = '{"checkpoint": '  # what a checkpoint's text begins with
LARGEST = 1 << 28  # numbers in one image: more, and the description is damaged
IGNORED = "num_batches_tracked"  # PyTorch's own count of batches, which nothing here needs


@dataclass(frozen=True)
class Card:
    """What a model file tells of its model beside the layers.

    `in_shape` is (C, H, W); `scale` multiplies uint8 images; `classes` are the labels, one per
    output; `label_names` their names, or None where labels are their own names; `layout` is that of
    the images, `resize` how a picture is brought to their size, as `read_image` does.
    """

    in_shape: Shape
    scale: float
    classes: tuple[int | str, ...]
    label_names: tuple[str, ...] | None
    layout: str = "NCHW"
    resize: str = "stretch"

    def check(self) -> None:
        """Raise ValueError for what no model can have."""
        whole = all(type(n) is int and n > 0 for n in self.in_shape)
        fits = whole and product(self.in_shape) <= LARGEST
        if not fits or self.layout not in NAMES.get(len(self.in_shape) - 1, ()):
            raise ValueError(f"no images are {self.in_shape}, laid out as {self.layout!r}")
        if self.resize not in RESIZES:
            raise ValueError(f"no picture is resized by {self.resize!r}")
        if type(self.scale) is not float or not math.isfinite(self.scale):
            raise ValueError(f"no scale of images is {self.scale!r}")
        same = set(map(type, self.classes)) in ({int}, {str}, {bool})
        if not same or np.asarray(self.classes).dtype == object:  # integers beyond 64 bits
            raise ValueError("its labels are not all integers or all strings")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("it has a label twice")
        names = self.label_names
        if names is not None and list(map(type, names)) != [str] * len(self.classes):
            raise ValueError("its label names are not one string for each label")


def save_model(path: str | os.PathLike[str], model: Layer, params: Tree, card: Card) -> None:
    """Write a model file, whole or not at all.

    Raises ValueError where `path` is no place for a file or the model has layers of others' making,
    OSError where the file cannot be written.
    """
    description = describe(model)
    if build(description) != model:
        raise ValueError(f"writing {path}: the model has layers that a file cannot tell: {model}")
    arrays = {name: to_numpy(array) for name, array in tree.flatten(params).items()}
    about = json.dumps({"format": FORMAT, "model": description, **asdict(card)})
    write_tensors(path, arrays, about)


def load_model(path: str | os.PathLike[str]) -> tuple[Layer, Tree, Card]:
    """Read a model file: the model, its parameters as NumPy arrays, and its card.

    Raises FileNotFoundError, IsADirectoryError, or ValueError naming the file where it is damaged,
    holds another program's tensors, or tensors that do not fit its own description.
    """
    arrays, about = read_tensors(Path(path), "model file")
    if about is None:
        raise ValueError(f"{path}: is no xpcnn model, for its metadata lacks 'xpcnn'; train one")
    if about.startswith(CHECKPOINT):
        raise ValueError(
            f"{path}: is a checkpoint, not a model; the end of its training writes one"
        )
    try:
        model, card = _parse(about)
    except Exception as error:  # forged values may trip layers anywhere
        raise ValueError(f"{path}: its description of the model is damaged: {error}") from error
    try:
        return model, _fitting(model, card, arrays), card
    except Exception as error:
        raise ValueError(f"{path}: its tensors do not fit its model: {error}") from error


def _parse(text: str) -> tuple[Layer, Card]:
    about = json.loads(text)
    if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}, which this version of xpcnn reads")
    model = build(about.pop("model", None))
    card = Card(**{name: _tuple(value) for name, value in about.items()})
    card.check()
    return model, card


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _fitting(model: Layer, card: Card, arrays: dict[str, np.ndarray]) -> Tree:
    """The tensors as the model's parameter tree; ValueError unless they are just what it needs."""
    arrays = {name: a for name, a in arrays.items() if name.rpartition(".")[2] != IGNORED}
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) > 1 or any(dtype.kind != "f" for dtype in dtypes):
        raise ValueError(f"tensors must share a floating dtype, not {sorted(map(str, dtypes))}")
    planned, out_shape = model.plan(card.in_shape)
    expected = {name: parameter.shape for name, parameter in tree.flatten(planned).items()}
    found = {name: array.shape for name, array in arrays.items()}
    if differing := found.keys() ^ expected.keys():
        name = min(differing)
        raise ValueError(f"they {'lack' if name in expected else 'hold'} {name!r}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{name!r} is {found[name]} and should be {shape}")
    if out_shape != (len(card.classes),):
        raise ValueError(f"it gives {out_shape} for {len(card.classes)} labels")
    return tree.unflatten({name: arrays[name] for name in expected})
