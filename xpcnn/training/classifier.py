"""A network that learns to tell classes of images apart, with scikit-learn's habits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops, random
from .._xp import Array, Device, device, library, namespace, to_numpy
from ..data import batches
from ..io.model_file import Card, load_model, save_model
from ..layers import Layer, tree
from ..ops._layout import channels_first
from ..optim import Adam, Optimizer
from .bar import Silent, progress_bar
from .history import Epoch, History
from .loop import run_epoch
from .step import Step, count_correct, init_state, train_step

UINT8_SCALE = 1.0 / 255.0
INIT, ORDER, NOISE = range(3)  # what the seed is folded with: weights, batch order, dropout


class Classifier:
    """Train a model on labelled images, and predict.

    `model` is a layer from images (C, H, W) to one number per class. `device` is a name for
    `xpcnn.device`; "auto" takes a GPU if CuPy has one. Weights and arithmetic are of `dtype`, and
    batches are converted to it: uint8 images are scaled to [0, 1], floating ones are taken as they
    are. With `label_names`, labels are the integers 0 to len(label_names) - 1; without, whatever
    distinct values y holds. `max_norm` clips the joint norm of the gradients.

    After `fit`: `classes_` (the labels), `label_names_`, `params_` (the parameter tree on the
    device), `history_`.

    >>> import xpcnn
    >>> (x, y), (xt, yt) = xpcnn.data.digits().train, xpcnn.data.digits().test
    >>> net = Classifier(xpcnn.models.classic(), device="cpu", seed=0)
    >>> net.fit(x, y, epochs=10).score(xt, yt) > 0.9
    True

    Source: scikit-learn's estimators (fit, predict, predict_proba, score).
    """

    def __init__(
        self,
        model: Layer,
        *,
        optimizer: Optimizer | None = None,
        batch_size: int = 64,
        device: str | Device = "auto",
        dtype: str = "float32",
        layout: str = "NCHW",
        label_names: Sequence[str] | None = None,
        max_norm: float | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.layout = layout
        self.label_names = label_names
        self.max_norm = max_norm
        self.seed = seed

    def fit(
        self, x: Array, y: Array, epochs: int = 10, *, validation: tuple | None = None
    ) -> Classifier:
        """Draw weights and train on images x (N, C, H, W) with labels y (N,): self.

        x is uint8 or floating, on the host or on this classifier's device. `validation` is a pair
        (images, labels) that is scored after each epoch. On a terminal a bar shows the progress.

        Raises before any work ValueError or TypeError for data that do not fit (no images, one
        class, labels of another length or out of range, NaN), and FloatingPointError when the loss
        has become NaN; the classifier then is as it was before.
        """
        place = device(self.device)
        x = self._images("fit", x, place)
        labels = _host_labels("fit", y, len(x))
        classes, names = self._classes(labels)
        codes = _encode("fit", labels, classes)
        if validation is not None:
            validation = self._labelled("fit: validation", validation, classes, place)
        if epochs < 1:
            raise ValueError(f"fit: epochs={epochs} must be at least 1")
        _require_finite("fit", x)

        key = random.key(self.seed)
        in_shape = self._in_shape(x)
        params, out_shape = self.model.init(
            random.fold_in(key, INIT), in_shape, dtype=self.dtype, device=place
        )
        if out_shape != (len(classes),):
            raise ValueError(
                f"fit: the model gives {out_shape} for each image, but y has {len(classes)} "
                f"classes; let its last layer give {len(classes)} numbers"
            )
        with progress_bar(epochs) as bar, np.errstate(all="ignore"):
            if x.dtype == namespace(x).uint8:
                bar.say("uint8 images are scaled to [0, 1]")
            params, history = self._train(
                params, x, codes, epochs, validation, place, key, bar
            )
        self.classes_, self.label_names_, self.in_shape_ = classes, names, in_shape
        self.params_, self.history_, self.device_ = params, history, place
        return self

    def predict(self, x: Array) -> np.ndarray:
        """The most probable label of each image, as a NumPy array (N,)."""
        return self.classes_[np.argmax(self.predict_proba(x), axis=1)]

    def predict_proba(self, x: Array) -> np.ndarray:
        """The probability of each class for each image: NumPy (N, K), columns as `classes_`."""
        self._require_fitted("predict")
        x = self._images("predict", x, self.device_)
        rows = [to_numpy(ops.softmax(y)) for y in self._logits(self.params_, x, self.device_)]
        return np.concatenate(rows)

    def score(self, x: Array, y: Array) -> float:
        """The share of images whose predicted label is y's."""
        self._require_fitted("score")
        x = self._images("score", x, self.device_)
        codes = _encode("score", _host_labels("score", y, len(x)), self.classes_)
        return self._evaluate(self.params_, x, codes, self.device_)[1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file that holds all predicting needs; `xpcnn.load` reads it."""
        self._require_fitted("save")
        card = Card(
            in_shape=self.in_shape_,
            scale=UINT8_SCALE,
            classes=tuple(self.classes_.tolist()),
            label_names=self.label_names_,
            layout=self.layout,
        )
        save_model(path, self.model, self.params_, card)

    def _train(self, params, x, codes, epochs, validation, place, key, bar: Silent):
        optimizer = self.optimizer or Adam()
        state = init_state(self.model, optimizer, params)
        orders, noise = random.fold_in(key, ORDER), random.fold_in(key, NOISE)
        history = []
        for number in range(epochs):
            epoch_noise = random.fold_in(noise, number)

            def step(xb: Array, yb: Array, count: int) -> Step:
                nonlocal params, state
                step_key = random.fold_in(epoch_noise, count)  # noqa: B023
                done = train_step(
                    self.model, optimizer, params, state, xb, yb,
                    key=step_key, max_norm=self.max_norm,
                )  # fmt: skip
                params, state = done.params, done.state
                return done

            bar.begin(number + 1, len(x))
            order = batches(len(x), self.batch_size, random.fold_in(orders, number))
            moved = ((self._batch(x, i, place), place.asarray(codes[i])) for i in order)
            progress = run_epoch(step, moved, bar.watch)
            loss, accuracy = progress.read()
            seconds = progress.seconds
            held = self._evaluate(params, *validation, place) if validation else (None, None)
            history.append(Epoch(number + 1, loss, accuracy, *held, seconds, len(x) / seconds))
            bar.end(history[-1])
        return params, History(tuple(history))

    def _evaluate(self, params, x, codes, place) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, correct, start = 0.0, 0, 0
        for logits in self._logits(params, x, place):
            y = place.asarray(codes[start : start + logits.shape[0]])
            loss += float(ops.cross_entropy(logits, y)) * logits.shape[0]
            correct += int(count_correct(logits, y))
            start += logits.shape[0]
        return loss / len(x), correct / len(x)

    def _logits(self, params, x, place) -> Iterator[Array]:
        for indices in batches(len(x), self.batch_size):
            yield self.model(params, self._batch(x, indices, place))

    def _batch(self, x: Array, indices: np.ndarray, place: Device) -> Array:
        """Images of a batch on the device, channels first, scaled if they are uint8."""
        xp = place.xp
        if library(x) == "numpy":
            part = place.asarray(x[indices])
        else:
            part = xp.take(x, place.asarray(indices), axis=0)
        part = channels_first("fit", part, self.layout, part.ndim - 2)
        floats = xp.astype(part, getattr(xp, self.dtype))
        return floats * UINT8_SCALE if part.dtype == xp.uint8 else floats

    def _images(self, call: str, x: Array, place: Device) -> Array:
        """x, checked: its rank, its dtype, where it lies, and the shape it was trained with."""
        if not hasattr(x, "shape") or x.ndim not in (3, 4, 5):
            raise ValueError(
                f"{call}: x must be images (N, C, H, W) in one array; it is "
                f"{tuple(x.shape) if hasattr(x, 'shape') else type(x).__name__}; grey images "
                "(N, H, W) need a channel axis: x[:, None]"
            )
        if library(x) not in ("numpy", place.library):
            raise TypeError(
                f"{call}: x is a {library(x)} array, and this classifier is on {place.name}; "
                "move it by xpcnn.device(...).asarray, or name its device"
            )
        xp = namespace(x)
        if x.dtype != xp.uint8 and not xp.isdtype(x.dtype, "real floating"):
            raise TypeError(
                f"{call}: x must be uint8 or floating, not {x.dtype}; convert it, for example "
                "to float32, and scale it"
            )
        if 0 in x.shape:
            raise ValueError(f"{call}: x {tuple(x.shape)} holds no images; give at least one")
        if hasattr(self, "in_shape_") and call != "fit" and self._in_shape(x) != self.in_shape_:
            raise ValueError(
                f"{call}: this network was trained on images {self.in_shape_}; x holds "
                f"{self._in_shape(x)}"
            )
        return x

    def _in_shape(self, x: Array) -> tuple[int, ...]:
        n, *rest = x.shape
        return tuple(rest) if self.layout[1] == "C" else (rest[-1], *rest[:-1])

    def _labelled(self, call, pair, classes, place) -> tuple[Array, np.ndarray]:
        x = self._images(call, pair[0], place)
        return x, _encode(call, _host_labels(call, pair[1], len(x)), classes)

    def _classes(self, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        if self.label_names is not None:
            names = tuple(map(str, self.label_names))
            return np.arange(len(names)), names
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"fit: y holds the one class {classes[0]!r}; give at least two")
        return classes, tuple(map(str, classes.tolist()))

    def _require_fitted(self, call: str) -> None:
        if not hasattr(self, "params_"):
            raise ValueError(f"{call}: this classifier is not trained yet; call fit first")


def load(path: str | os.PathLike[str], device: str | Device = "auto") -> Classifier:
    """Read what `Classifier.save` wrote, onto a device, ready to predict.

    No code is evaluated. Raises FileNotFoundError, or ValueError naming the file and its fault.

    Source: the safetensors format.
    """
    from .._xp import device as find_device

    place = find_device(device)
    model, params, card = load_model(path)
    net = Classifier(model, device=device, layout=card.layout, label_names=card.label_names)
    net.classes_, net.label_names_ = np.asarray(card.classes), card.label_names
    net.in_shape_, net.history_, net.device_ = card.in_shape, History(), place
    net.params_ = tree.map(place.asarray, params)
    net.dtype = str(next(iter(tree.flatten(params).values())).dtype)
    return net


def _host_labels(call: str, y: Any, count: int) -> np.ndarray:
    """Labels as a NumPy array (N,), of the right length and kind."""
    labels = to_numpy(y) if hasattr(y, "shape") else np.asarray(y)
    if labels.shape != (count,):
        raise ValueError(
            f"{call}: y must be ({count},), a label for each image; it is {labels.shape}"
        )
    if labels.dtype.kind not in "iuUb":
        raise TypeError(f"{call}: y must hold integers or strings, not {labels.dtype}")
    return labels


def _encode(call: str, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each label in `classes`, int64; ValueError for a label that is not there."""
    codes = np.clip(np.searchsorted(classes, labels), 0, len(classes) - 1)
    strange = labels[classes[codes] != labels]
    if len(strange):
        raise ValueError(
            f"{call}: y holds the label {strange[0]!r}; the classes are "
            f"{', '.join(map(str, classes[:10].tolist()))}{', ...' if len(classes) > 10 else ''}"
        )
    return codes.astype(np.int64)


def _require_finite(call: str, x: Array) -> None:
    xp = namespace(x)
    if xp.isdtype(x.dtype, "real floating") and not bool(xp.all(xp.isfinite(x))):
        raise ValueError(f"{call}: x holds NaN or infinite pixels; replace them")
