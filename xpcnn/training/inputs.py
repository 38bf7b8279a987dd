"""What a classifier is given, checked before any work: images and labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._xp import Array, Device, namespace, require_same, to_numpy
from ..ops._layout import NAMES

LAYOUTS = [name for pair in NAMES.values() for name in pair]


def check_images(
    call: str, x: Array, layout: str, place: Device, in_shape: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """The shape (C, *space) of images x, laid out as `layout` says: `in_shape` where that is given.

    Raises TypeError for what is no array, is not on the host or at `place`, or is neither uint8 nor
    floating; ValueError for another rank or shape, no images, and NaN or infinite pixels.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{call}: layout={layout!r}; give one of {', '.join(LAYOUTS)}")
    here = {} if isinstance(x, np.ndarray) else {"the network": place.asarray(np.zeros(1))}
    require_same(call, {"x": x} | here)
    shape = tuple(x.shape)
    if x.ndim != len(layout):
        hint = "x[:, None]" if layout[1] == "C" else "x[..., None]"
        raise ValueError(
            f"{call}: x must be images ({', '.join(layout)}); it is {shape}"
            + (f": grey images need a channel axis, {hint}" if x.ndim == len(layout) - 1 else "")
        )
    xp = namespace(x)
    if x.dtype != xp.uint8 and not xp.isdtype(x.dtype, "real floating"):
        raise TypeError(
            f"{call}: x must be uint8 or floating, not {x.dtype}; convert it, for example "
            "to float32, and scale it"
        )
    if 0 in shape:
        raise ValueError(f"{call}: x {shape} holds no pixels; give at least one image")
    found = shape[1:] if layout[1] == "C" else (shape[-1], *shape[1:-1])
    if in_shape not in (None, found):
        raise ValueError(f"{call}: the network takes images {in_shape} (C, ...); x holds {found}")
    if x.dtype != xp.uint8 and not bool(xp.all(xp.isfinite(x))):
        raise ValueError(f"{call}: x holds NaN or infinite pixels; replace them")
    return found


def host_labels(call: str, y: Any, count: int) -> np.ndarray:
    """Labels y, an array of any library or a sequence, as a NumPy array (count,).

    Raises ValueError for another length and TypeError for what is neither integer nor string.
    """
    labels = to_numpy(y) if hasattr(y, "__dlpack__") else np.asarray(y)
    if labels.shape != (count,):
        raise ValueError(
            f"{call}: y must be ({count},), a label for each image; it is {labels.shape}"
        )
    if labels.dtype.kind not in "iuUb":
        raise TypeError(f"{call}: y must hold integers or strings, not {labels.dtype}")
    return labels


def encode(call: str, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each label among `classes`, int64; ValueError for one that is not there."""
    places = {label: place for place, label in enumerate(classes.tolist())}
    try:
        return np.asarray([places[label] for label in labels.tolist()], np.int64)
    except KeyError as error:
        some = ", ".join(map(repr, classes[:10].tolist()))
        raise ValueError(
            f"{call}: y holds the label {error.args[0]!r}; the {len(classes)} classes are "
            f"{some}{', ...' if len(classes) > 10 else ''}"
        ) from None
