"""A trained model as one safetensors file: PyTorch's names and layouts, and all that predicting needs.

The tensors are the flattened parameter tree. The metadata holds one JSON text under "xpcnn": the
model's description, the shape and scaling of its images, and its labels. Nothing in it is
evaluated: a model is rebuilt from the names of xpcnn's layers.

Source: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._files import replacing
from .._xp import to_numpy
from ..layers import Layer, build, describe, tree
from ..layers.tree import Tree
from ..random import key

FORMAT = 1
IGNORED = "num_batches_tracked"  # PyTorch's own count of batches, which nothing here needs


@dataclass(frozen=True)
class Card:
    """What a model file tells of its model beside the layers.

    `in_shape` is (C, H, W); `scale` multiplies uint8 images; `classes` are the labels and
    `label_names` their names, one per output.
    """

    in_shape: tuple[int, ...]
    scale: float
    classes: tuple[int | str, ...]
    label_names: tuple[str, ...]
    layout: str = "NCHW"


def save_model(path: str | os.PathLike[str], model: Layer, params: Tree, card: Card) -> None:
    """Write a model file, whole or not at all.

    Raises ValueError where `path` is no place for a file, OSError where it cannot be written.
    """
    from safetensors.numpy import save

    arrays = {
        name: np.ascontiguousarray(to_numpy(array)) for name, array in tree.flatten(params).items()
    }
    about = {"format": FORMAT, "model": describe(model), **asdict(card)}
    data = save(arrays, metadata={"xpcnn": json.dumps(about)})
    with replacing(path) as file:
        file.write(data)


def load_model(path: str | os.PathLike[str]) -> tuple[Layer, dict[str, Any], Card]:
    """Read a model file: the model, its parameters as NumPy arrays, and its card.

    Raises FileNotFoundError, or ValueError naming the file where it is damaged, holds another
    program's tensors, or tensors that do not fit its own description.
    """
    arrays, metadata = _read(Path(path))
    if "xpcnn" not in metadata:
        raise ValueError(f"{path}: is no xpcnn model, for its metadata lacks 'xpcnn'; train one")
    try:
        model, card = _parse(metadata["xpcnn"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its description of the model is damaged: {error}") from error
    try:
        expected = tree.flatten(model.build(key(0), card.in_shape)[0])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its model takes no images {card.in_shape}: {error}") from error
    return model, tree.unflatten(_matching(path, arrays, expected)), card


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give a model file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; train a model first")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is no safetensors file, or damaged: {error}") from error


def _parse(text: str) -> tuple[Layer, Card]:
    about = json.loads(text)
    if about.pop("format") != FORMAT:
        raise ValueError(f"it is of another version of xpcnn; this one reads format {FORMAT}")
    model = build(about.pop("model"))
    card = Card(**{name: _tuple(value) for name, value in about.items()})
    sizes = all(isinstance(n, int) and 0 < n < 2**20 for n in card.in_shape)
    if not sizes or len(card.classes) != len(card.label_names):
        raise ValueError(f"in_shape {card.in_shape} or the labels make no sense")
    return model, card


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _matching(path, arrays: dict, expected: dict) -> dict[str, np.ndarray]:
    arrays = {name: a for name, a in arrays.items() if name.rpartition(".")[2] != IGNORED}
    if differing := arrays.keys() ^ expected.keys():
        name = min(differing)
        fault = "lacks" if name in expected else "holds"
        raise ValueError(f"{path}: {fault} the tensor {name!r}, unlike its description")
    for name, array in arrays.items():
        if array.shape != expected[name].shape or array.dtype.kind != "f":
            raise ValueError(
                f"{path}: {name} must be floating {expected[name].shape}; it is {array.dtype} "
                f"{array.shape}"
            )
    return {name: arrays[name] for name in expected}
