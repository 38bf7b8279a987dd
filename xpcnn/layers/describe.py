"""A model as plain data, and back: what a model file holds instead of code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .base import Layer


def describe(layer: Layer) -> dict[str, Any]:
    """A layer as nested dicts of JSON values: {"layer": class name, option: value, ...}.

    >>> from xpcnn.layers import Linear
    >>> describe(Linear(10))
    {'layer': 'Linear', 'out_features': 10, 'bias': True, 'weight_init': 'he_normal'}
    """
    options = {f.name: _plain(getattr(layer, f.name)) for f in dataclasses.fields(layer)}
    return {"layer": type(layer).__name__, **options}


def build(description: Mapping[str, Any]) -> Layer:
    """The layer that `description` tells of; no code is evaluated, only xpcnn's layers are known.

    Raises ValueError for an unknown layer or unknown options.

    >>> build({"layer": "Linear", "out_features": 10})
    Linear(out_features=10)
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("layer"), str):
        raise ValueError(f"build: {description!r} describes no layer; it needs a key 'layer'")
    options = {name: _layers(value) for name, value in description.items() if name != "layer"}
    kind = _kinds().get(description["layer"])
    if kind is None:
        raise ValueError(f"build: no layer is called {description['layer']!r} in xpcnn.layers")
    try:
        return kind(**options)
    except TypeError as error:
        fault = str(error).partition("__init__() ")[2] or error  # a base class's, perhaps
        raise ValueError(f"build: {description['layer']}: {fault}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Layer):
        return describe(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _layers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return build(value)
    return [_layers(part) for part in value] if isinstance(value, list) else value


def _kinds() -> dict[str, type[Layer]]:
    from .. import layers

    found = {name: getattr(layers, name) for name in layers.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Layer) and kind is not Layer
    }
