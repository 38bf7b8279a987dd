"""The record of a training run: a JSON file beside the model's.

A model file holds neither times nor versions, so that the same run gives the same bytes. What is to
be told of the run itself is kept here.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._files import replacing
from .._xp import Device
from ..training.history import Epoch, History

FORMAT = 1
BEGINS = '{\n "xpcnn record": '
MODULES = {
    "numpy": "numba", "cupy": "cupy", "torch": "torch", "jax": "jax", "strict": "array_api_strict",
}  # fmt: skip
"""What computes on the arrays of a library, beside NumPy; each tells its version."""

NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""Figures that JSON has no numbers for, as Protocol Buffers' JSON mapping writes them."""

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class Record:
    """What a training run was, and what came of it.

    `command` is the line that repeats it, `settings` each of its options by name, given or not;
    `versions` are those of xpcnn, Python, NumPy and what else computed. `finished` is the
    time in UTC as ISO 8601 has it, `seconds` the wall time of all epochs; `processes` took part.
    `test_accuracy` is the share of the `test_images` whose label was found.

    >>> record = Record(
    ...     data="digits", model="convnet", command="xpcnn train --epochs 1",
    ...     settings={"--epochs": 1}, seed=0, versions={"xpcnn": "0.1.0"}, device="cpu",
    ...     processes=1, finished="2026-01-31T12:00:00+00:00", seconds=1.5,
    ...     history=History((Epoch(1, 0.5, 0.9, None, None, 1.5, 960.0),)),
    ...     test_accuracy=0.9, test_images=359,
    ... )
    >>> Record.from_json(record.to_json()) == record
    True
    """

    data: str
    model: str
    command: str
    settings: Mapping[str, Setting]
    seed: int
    versions: Mapping[str, str]
    device: str
    processes: int
    finished: str
    seconds: float
    test_accuracy: float
    test_images: int
    history: History

    def to_json(self) -> str:
        """The record as JSON."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        told["history"] = [
            {name: _finite(value) for name, value in epoch._asdict().items()}
            for epoch in self.history
        ]
        about = {"xpcnn record": FORMAT, **told}
        return json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record that `to_json` told of.

        Raises ValueError for what is no record, for one of another format, and for an entry that is
        missing or of another kind, naming the place.

        >>> Record.from_json('{"xpcnn record": 1, "data": 7}')
        Traceback (most recent call last):
        ValueError: data: it is 7; it should be a string
        """
        try:
            told = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON, or not whole: {error}") from error
        if not isinstance(told, dict) or "xpcnn record" not in told:
            raise ValueError("it is no record of a run, for it lacks 'xpcnn record'")
        if told["xpcnn record"] != FORMAT:
            raise ValueError(
                f"its format is {told['xpcnn record']!r}, and this version of xpcnn reads {FORMAT}"
            )
        return cls(**{name: READERS[name](name, _entry(told, name)) for name in READERS})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the record, whole or not at all."""
        with replacing(path) as file:
            file.write(self.to_json().encode(errors="backslashreplace"))  # names of no UTF-8

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Record:
        """Read what `write` wrote.

        Raises FileNotFoundError, IsADirectoryError, or ValueError naming the file, the place in it
        and what is wrong there.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: there is no such record; `xpcnn train` writes one")
        try:
            return cls.from_json(Path(path).read_text("utf-8"))
        except ValueError as error:  # of the bytes, too, where they are no UTF-8
            raise ValueError(f"{path}: {error}") from error


def beside(model: Path, ending: str) -> Path:
    """Where what belongs to a model file lies.

    >>> beside(Path("digits.safetensors"), ".json").name, beside(Path("net.v2"), ".json").name
    ('digits.json', 'net.v2.json')
    """
    return model.with_name(model.name.removesuffix(".safetensors") + ending)


def versions_with(place: Device) -> dict[str, str]:
    """The versions of what computes on a device and of what reads pictures, as far as it is loaded.

    >>> from xpcnn import device
    >>> list(versions_with(device("cpu")))[:3]
    ['xpcnn', 'Python', 'NumPy']
    """
    told = {"xpcnn": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
    name = MODULES[place.library]
    if name in sys.modules:
        told[name] = str(sys.modules[name].__version__)
    if "cv2" in sys.modules:
        told["OpenCV"] = str(sys.modules["cv2"].__version__)
    return told


def _finite(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return NOT_FINITE[0 if math.isnan(value) else 1 if value > 0 else 2]


def _entry(told: Mapping[str, Any], name: str, place: str = "") -> Any:
    if name not in told:
        raise ValueError(f"{place}it lacks {name!r}")
    return told[name]


def _require(fits: bool, place: str, value: Any, kind: str) -> None:
    if not fits:
        raise ValueError(f"{place}: it is {value!r}; it should be {kind}")


def _text(place: str, value: Any) -> str:
    _require(isinstance(value, str), place, value, "a string")
    return value


def _count(place: str, value: Any) -> int:
    _require(type(value) is int and value >= 0, place, value, "an integer of at least 0")
    return value


def _number(place: str, value: Any) -> float:
    _require(_is_number(value) or value in NOT_FINITE, place, value, "a number")
    return float(value)


def _amount(place: str, value: Any) -> float:
    _require(_is_number(value) and value >= 0, place, value, "a number of at least 0")
    return float(value)


def _is_number(value: Any) -> bool:
    """Whether it is one that a float can be, of those that JSON has."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _time(place: str, value: Any) -> str:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        _require(False, place, value, "a time of ISO 8601")
    return value


def _by_name(place: str, value: Any) -> dict[str, Any]:
    _require(isinstance(value, dict), place, value, "an object")
    return value


def _settings(place: str, value: Any) -> dict[str, Setting]:
    for name, setting in _by_name(place, value).items():
        _require(isinstance(setting, Setting), f"{place}: {name}", setting, "a plain value")
    return value


def _versions(place: str, value: Any) -> dict[str, str]:
    told = {name: _text(f"{place}: {name}", text) for name, text in _by_name(place, value).items()}
    _entry(told, "xpcnn", f"{place}: ")
    return told


def _history(place: str, value: Any) -> History:
    _require(isinstance(value, list) and bool(value), place, value, "a list of epochs")
    return History(tuple(_epoch(f"{place}, epoch {n + 1}", told) for n, told in enumerate(value)))


def _epoch(place: str, value: Any) -> Epoch:
    told = {name: _entry(_by_name(place, value), name, f"{place}: ") for name in Epoch._fields}
    number = _count(f"{place}: number", told.pop("number"))
    optional = ("val_loss", "val_accuracy", "lr")
    figures: dict[str, Any] = {
        name: None if value is None and name in optional else _number(f"{place}: {name}", value)
        for name, value in told.items()
    }
    return Epoch(number, **figures)


READERS: dict[str, Callable[[str, Any], Any]] = {
    "data": _text, "model": _text, "command": _text, "settings": _settings, "seed": _count,
    "versions": _versions, "device": _text, "processes": _count, "finished": _time,
    "seconds": _amount, "test_accuracy": _amount, "test_images": _count, "history": _history,
}  # fmt: skip
