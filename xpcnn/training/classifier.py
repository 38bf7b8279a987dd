"""A network that learns to tell classes of images apart, with scikit-learn's habits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from .. import ops, random
from .._xp import Array, Device, library, namespace, to_numpy
from .._xp import device as find_device
from ..data import batches
from ..io.model_file import Card, load_model, save_model
from ..layers import Layer, tree
from ..layers.tree import Tree
from ..ops._layout import channels_first
from ..optim import Adam, Optimizer, State
from .bar import Silent, progress_bar
from .history import Epoch, History
from .inputs import check_images, encode, host_labels
from .loop import run_epoch
from .step import StepResult, count_correct, init_state, train_step

INIT, ORDER, NOISE = range(3)  # what the seed is folded with: weights, batch order, dropout


class Classifier:
    """Train a model on labelled images, and predict.

    `model` is a layer from images (C, H, W) to one number per class. `device` is a name for
    `xpcnn.device`; "auto" takes a GPU if CuPy has one. Weights and arithmetic are of `dtype`,
    float32 or float64, and batches are converted to it: uint8 images are scaled to [0, 1], floating
    ones are taken as they are (a saved model scales the uint8 pictures it is to predict: train it
    on that range). `layout` says how images lie: NCHW, NHWC; for signals NCW, NWC; for
    volumes NCDHW, NDHWC. With `label_names`, labels are the integers 0 to len(label_names) - 1;
    without, whatever distinct values y holds. `max_norm` clips the joint norm of the gradients.

    After `fit`: `classes_` (the labels), `label_names_`, `in_shape_` (C, H, W), `params_` (the
    parameter tree on the device), `history_`.

    >>> import xpcnn
    >>> (x, y), (xt, yt) = xpcnn.data.digits().train, xpcnn.data.digits().test
    >>> net = Classifier(xpcnn.models.classic(), optimizer=xpcnn.optim.Adam(0.01), device="cpu")
    >>> net.fit(x, y, epochs=5).score(xt, yt) > 0.9
    True

    Source: scikit-learn's estimators (fit, predict, predict_proba, score).
    """

    uint8_scale = 1.0 / 255.0

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
        if not isinstance(model, Layer):
            raise TypeError(
                f"Classifier: model must be a layer, such as xpcnn.models.convnet(); it is {model}"
            )
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
        self, x: Array, y: Array, epochs: int = 10, *, validation: tuple[Array, Array] | None = None
    ) -> Classifier:
        """Draw weights and train on images x (N, C, H, W) with labels y (N,): self.

        x is uint8 or floating, on the host or on this classifier's device. `validation` is a pair
        (images, labels) that is scored after each epoch. On a terminal a bar shows the progress.

        Raises before any work ValueError or TypeError for data that do not fit (no images, one
        class, labels of another length or out of range, NaN), and FloatingPointError when the loss
        has become NaN; the classifier then is as it was before.
        """
        place, key = find_device(self.device), random.key(self.seed)
        in_shape = check_images("fit", x, self.layout, place)
        labels = host_labels("fit", y, x.shape[0])
        classes = self._classes(labels)
        codes = encode("fit", labels, classes)
        if validation is not None:
            if not isinstance(validation, tuple | list) or len(validation) != 2:
                raise TypeError("fit: validation must be a pair, (images, labels)")
            xv, yv = validation
            check_images("fit: validation", xv, self.layout, place, in_shape)
            labels = host_labels("fit: validation", yv, xv.shape[0])
            validation = xv, encode("fit: validation", labels, classes)
        self._check_options(epochs)

        params, out_shape = self.model.init(
            random.fold_in(key, INIT), in_shape, dtype=self.dtype, device=place
        )
        if out_shape != classes.shape:
            raise ValueError(
                f"fit: the model gives {out_shape} for each image, and there are {len(classes)} "
                f"classes; let its last layer give {len(classes)} numbers"
            )
        with progress_bar(epochs) as bar, np.errstate(all="ignore"):  # a NaN shows in the loss
            if x.dtype == namespace(x).uint8:
                bar.say("uint8 images are scaled to [0, 1]")
            params, history = self._train(params, x, codes, epochs, validation, place, key, bar)
        self.classes_, self.in_shape_ = classes, in_shape
        self.label_names_ = _names(self.label_names, classes)
        self.params_, self.history_, self.device_ = params, history, place
        return self

    def predict(self, x: Array) -> np.ndarray:
        """The most probable label of each image, as a NumPy array (N,)."""
        chances = self._probabilities("predict", x)
        return self.classes_[np.argmax(chances, axis=1)]

    def predict_proba(self, x: Array) -> np.ndarray:
        """The probability of each class for each image: NumPy (N, K), columns as `classes_`."""
        return self._probabilities("predict_proba", x)

    def score(self, x: Array, y: Array) -> float:
        """The share of images whose predicted label is y's."""
        self._require_fitted("score")
        check_images("score", x, self.layout, self.device_, self.in_shape_)
        codes = encode("score", host_labels("score", y, x.shape[0]), self.classes_)
        return self._evaluate(self.params_, x, codes, self.device_)[1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file that holds all predicting needs; `xpcnn.load` reads it.

        Raises ValueError for a model with layers that are not xpcnn's own, which no file can tell.
        """
        self._require_fitted("save")
        card = Card(
            in_shape=self.in_shape_,
            scale=self.uint8_scale,
            classes=tuple(self.classes_.tolist()),
            label_names=None if self.label_names is None else self.label_names_,
            layout=self.layout,
        )
        save_model(path, self.model, self.params_, card)

    def _train(
        self, params: Tree, x: Array, codes: np.ndarray, epochs: int,
        validation: tuple[Array, np.ndarray] | None, place: Device, key: random.Key, bar: Silent,
    ) -> tuple[Tree, History]:  # fmt: skip
        optimizer = self.optimizer or Adam()
        orders, noise = random.fold_in(key, ORDER), random.fold_in(key, NOISE)

        def step(params: Tree, state: State, xb: Array, yb: Array) -> StepResult:
            drops = random.fold_in(noise, state["step"])
            return train_step(
                self.model, optimizer, params, state, xb, yb, key=drops, max_norm=self.max_norm
            )

        state, count, history = init_state(self.model, optimizer, params), x.shape[0], []
        for number in range(1, epochs + 1):
            bar.begin(number, count)
            order = batches(count, self.batch_size, random.fold_in(orders, number))
            moved = ((self._batch(x, i, place), place.asarray(codes[i])) for i in order)
            params, state, progress = run_epoch(step, params, state, moved, bar.watch)
            (loss, accuracy), seconds = progress.read(), progress.seconds
            held: tuple[float | None, float | None] = (None, None)
            if validation:
                held = self._evaluate(params, *validation, place)
            history.append(Epoch(number, loss, accuracy, *held, seconds, count / seconds))
            bar.end(history[-1])
        return params, History(tuple(history))

    def _probabilities(self, call: str, x: Array) -> np.ndarray:
        self._require_fitted(call)
        check_images(call, x, self.layout, self.device_, self.in_shape_)
        logits = self._logits(self.params_, x, self.device_)
        return np.concatenate([to_numpy(ops.softmax(rows)) for rows in logits])

    def _evaluate(
        self, params: Tree, x: Array, codes: np.ndarray, place: Device
    ) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, correct, start = 0.0, 0, 0
        for logits in self._logits(params, x, place):
            y = place.asarray(codes[start : start + logits.shape[0]])
            loss += float(ops.cross_entropy(logits, y)) * logits.shape[0]
            correct += int(count_correct(logits, y))
            start += logits.shape[0]
        return loss / start, correct / start

    def _logits(self, params: Tree, x: Array, place: Device) -> Iterator[Array]:
        for indices in batches(x.shape[0], self.batch_size):
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
        return floats * self.uint8_scale if part.dtype == xp.uint8 else floats

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        seen = np.unique(labels)
        if len(seen) < 2:
            raise ValueError(f"fit: y holds the one class {seen.tolist()[0]!r}; give at least two")
        return seen if self.label_names is None else np.arange(len(self.label_names))

    def _check_options(self, epochs: int) -> None:
        for name, value in {"epochs": epochs, "batch_size": self.batch_size}.items():
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"fit: {name}={value!r}; it must be an integer of at least 1")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"fit: max_norm={self.max_norm!r}; it must be above 0, or None")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"fit: dtype={self.dtype!r}; give 'float32' or 'float64'")
        if not isinstance(self.optimizer, Optimizer | None):
            raise TypeError(
                "fit: optimizer must be one of xpcnn.optim, such as Adam(0.001), not "
                f"{self.optimizer!r}"
            )

    def _require_fitted(self, call: str) -> None:
        if not hasattr(self, "params_"):
            raise ValueError(f"{call}: this classifier is not trained yet; call fit first")


def load(path: str | os.PathLike[str], device: str | Device = "auto") -> Classifier:
    """Read what `Classifier.save` wrote, onto a device, ready to predict.

    No code is evaluated. Raises FileNotFoundError, or ValueError naming the file and its fault.

    Source: the safetensors format.
    """
    place = find_device(device)
    model, params, card = load_model(path)
    net = Classifier(model, device=device, layout=card.layout, label_names=card.label_names)
    net.uint8_scale, net.in_shape_ = card.scale, card.in_shape
    net.classes_ = np.asarray(card.classes)
    net.label_names_ = _names(card.label_names, net.classes_)
    net.params_ = tree.map(lambda array: place.asarray(array, array.dtype.name), params)
    net.history_, net.device_ = History(), place
    net.dtype = next((array.dtype.name for array in tree.leaves(params)), net.dtype)
    return net


def _names(label_names: Sequence[str] | None, classes: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, classes.tolist() if label_names is None else label_names))
