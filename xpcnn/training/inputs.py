"""What a classifier is given, checked before any work: images, labels, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._xp import Array, Device, namespace, product, require_same, to_numpy
from ..data import is_read_as_needed
from ..layers import tree
from ..layers.tree import Tree
from ..ops._layout import NAMES

PIECE = 1 << 22  # pixels looked at at once
LAYOUTS = list(dict.fromkeys(name for pair in NAMES.values() for name in pair))


def check_images(
    call: str, x: Array, layout: str, place: Device, in_shape: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """The shape (C, *space) of images x, laid out as `layout` says: `in_shape` where that is given.

    Raises TypeError for what is no array, is not on the host or at `place`, or is neither uint8 nor
    floating; ValueError for another rank or shape, no images, and NaN or infinite values.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{call}: layout={layout!r}; give one of {', '.join(LAYOUTS)}")
    if not is_read_as_needed(x):
        here = {} if isinstance(x, np.ndarray) else {"the network": place.asarray(np.zeros(1))}
        require_same(call, {"x": x} | here)
    shape = tuple(x.shape)
    if x.ndim != len(layout):
        hint = "x[:, None]" if layout[1] == "C" else "x[..., None]"
        raise ValueError(
            f"{call}: x must be images ({', '.join(layout)}); it is {shape}"
            + (f": grey images need a channel axis, {hint}" if x.ndim == len(layout) - 1 else "")
        )
    xp = np if is_read_as_needed(x) else namespace(x)
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
    if x.dtype != xp.uint8 and not _all_finite(x, xp):
        raise ValueError(f"{call}: x holds NaN or infinite values; replace them")
    return found


def take_rows(
    call: str, x: Any, place: Device, in_shape: tuple[int, ...] | None = None
) -> tuple[Array, tuple[int, ...]]:
    """Rows of features x (N, C) as an array, and (C,): `in_shape` where that is given.

    Lists, tables and integers become NumPy's floating numbers; uint8 stays. Raises what
    `check_images` does, in scikit-learn's words where it has some.
    """
    for_numpy = isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__")
    if for_numpy and not is_read_as_needed(x):
        x = _numbers(call, x)
    shape = tuple(x.shape)
    if x.ndim != 2:
        raise ValueError(
            f"{call}: x must be rows (N, C); it is {shape}. Reshape your data: x.reshape(1, -1) is "
            "one row, x.reshape(-1, 1) rows of one feature"
        )
    if 0 in shape:
        raise ValueError(
            f"{call}: x has {shape[0]} sample(s) of {shape[1]} feature(s) (shape={shape}) while a "
            "minimum of 1 is required."
        )
    if in_shape not in (None, shape[1:]):
        raise ValueError(
            f"{call}: X has {shape[1]} features, but Classifier is expecting {in_shape[0]} "
            "features as input"
        )
    return x, check_images(call, x, "NC", place, in_shape)


def _numbers(call: str, x: Any) -> np.ndarray:
    if hasattr(x, "toarray"):
        raise TypeError(f"{call}: x is sparse; give x.toarray()")
    try:
        x = np.asarray(x)
        if np.iscomplexobj(x):
            raise ValueError("Complex data not supported")
        return x if x.dtype == np.uint8 or x.dtype.kind == "f" else x.astype(np.float64)
    except (TypeError, ValueError) as error:  # NumPy's own words on what is no number
        raise type(error)(f"{call}: x must hold real numbers: {error}") from None


def _all_finite(x: Any, xp: Any) -> bool:
    """Piece by piece: it may be larger than memory."""
    count, size = x.shape[0], max(1, PIECE // product(x.shape[1:]))
    pieces = (x[start : min(start + size, count), ...] for start in range(0, count, size))
    return all(bool(xp.all(xp.isfinite(piece))) for piece in pieces)


def host_labels(call: str, y: Any, count: int) -> np.ndarray:
    """Labels y, an array of any library or a sequence, as a NumPy array (count,).

    They are integers, also as floating numbers, or strings, also as objects. Raises ValueError for
    another length and for numbers that are not whole, TypeError for what is none of these.
    """
    if y is None:
        raise ValueError(f"{call}: a classifier requires y to be passed, but the target y is None")
    labels = to_numpy(y) if hasattr(y, "__dlpack__") else np.asarray(y)
    if labels.shape != (count,):
        raise ValueError(
            f"{call}: y must be ({count},), a label for each image; it is {labels.shape}"
        )
    if labels.dtype == object and len(set(map(type, labels.tolist()))) == 1:
        labels = np.asarray(labels.tolist())
    if labels.dtype.kind == "f":
        labels = _whole(call, labels)
    if labels.dtype.kind not in "iuUb":
        raise TypeError(f"{call}: y must hold integers or strings, not {labels.dtype}")
    return labels


def _whole(call: str, labels: np.ndarray) -> np.ndarray:
    """Floating labels as the integers they are."""
    whole = (np.abs(labels) < 2**53) & (labels == np.trunc(labels))
    if not np.all(whole):
        raise ValueError(
            f"{call}: y holds {labels[~whole][0]}, as a continuous target does; labels are "
            "integers or strings"
        )
    return labels.astype(np.int64)


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


def check_params(call: str, params: Any, planned: Tree) -> None:
    """Raise where `params` are not some of those that a model plans, of their shapes.

    TypeError for what is no tree of floating arrays, ValueError for others and for NaN.
    """
    if not isinstance(params, Mapping):
        raise TypeError(
            f"{call}: params must be a tree of arrays, such as a classifier's params_; it is a "
            f"{type(params).__name__}"
        )
    if dotted := [name for name in params if "." in str(name)]:
        raise ValueError(
            f"{call}: params hold {dotted[0]!r}; make a tree of dotted names: "
            "xpcnn.layers.tree.unflatten(params)"
        )
    plan = tree.flatten(planned)
    for name, array in tree.flatten(params).items():
        if name not in plan:
            raise ValueError(f"{call}: params hold {name!r}, which the model has not")
        if not namespace(array).isdtype(array.dtype, "real floating"):
            raise TypeError(f"{call}: params hold {name!r} of {array.dtype}; it must be floating")
        if tuple(array.shape) != plan[name].shape:
            raise ValueError(
                f"{call}: params hold {name!r} of shape {tuple(array.shape)}; the model's is "
                f"{plan[name].shape}"
            )
        if not np.isfinite(to_numpy(array)).all():
            raise ValueError(f"{call}: params hold NaN or infinite values in {name!r}")
