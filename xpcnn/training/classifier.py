"""A network that learns to tell classes of images apart, with scikit-learn's habits."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from .. import ops, random
from .._check import require_share
from .._xp import Array, Device, product, to_numpy
from .._xp import device as find_device
from ..data.pictures import Pictures
from ..io.model_file import Card, load_model, save_model
from ..layers import Layer, tree
from ..layers.base import DTYPES, Shape
from ..layers.tree import Tree
from ..optim import Adam, MixedPrecision, Optimizer
from ..optim.schedules import MONITORS
from .bar import Silent, progress_bar
from .callbacks import Callback, Snapshot
from .checkpoint import Checkpoints
from .estimator import Estimator, not_fitted
from .feed import UINT8_SCALE, Feed
from .fitting import Fitting
from .history import History
from .inputs import check_images, check_params, encode, host_labels, take_rows
from .loop import Run
from .ranks import ALONE, Ranks
from .trainer import INIT, CrossEntropy, Trainer, evaluate

ADAM = Adam()
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of a function, another in each process


class Classifier(Estimator):
    """Train a model on labelled images, and predict.

    `model` is a layer from images (C, H, W) to one number per class, or a function of the number of
    classes that makes one, such as `xpcnn.models.convnet`. `device` is a name for `xpcnn.device`;
    "auto" takes a GPU if CuPy has one. `layout` says how images lie: NCHW, NHWC; for signals NCW,
    NWC; for volumes NCDHW, NDHWC; for rows of features NC, and those may be lists or tables too.
    With `label_names`, labels are the integers 0 to len(label_names) - 1; without, whatever
    distinct values y holds.

    Weights and arithmetic are of `dtype`, float32 or float64, and batches are converted to it:
    uint8 images are scaled to [0, 1], floating ones are taken as they are (a saved model scales the
    uint8 pictures it is to predict: train it on that range). With float16 the weights stay float32
    and the model computes in float16, its loss scaled (`optim.MixedPrecision`): GPUs gain by that,
    CPUs do not.

    `epochs` is how often `fit` goes over all images unless it is told otherwise;
    `label_smoothing` is that of `ops.cross_entropy`; `augment`, a `data.Augment` or one of its
    steps, changes images (N, C, H, W) in training, and then `mixing`, a `data.Mixup` or
    `data.CutMix`, mixes them; `max_norm` clips the joint norm of the gradients, and `accumulate`
    takes each batch in so many parts, one after another, which saves memory.

    After `fit`: `classes_` (the labels), `label_names_`, `in_shape_` (C, H, W), `n_features_in_`
    (C*H*W), `model_` (the layer), `params_` (the parameter tree on the device), `history_`,
    `resize_` (how pictures are brought to in_shape_: `io.read_image`).

    >>> import xpcnn
    >>> (x, y), (xt, yt) = xpcnn.data.digits().train, xpcnn.data.digits().test
    >>> net = Classifier(xpcnn.models.classic(), optimizer=xpcnn.optim.Adam(0.01), device="cpu")
    >>> net.fit(x, y, epochs=5).score(xt, yt) > 0.9
    True

    Source: scikit-learn's estimators (fit, predict, predict_proba, score).
    """

    uint8_scale = UINT8_SCALE

    def __init__(
        self,
        model: Layer | Callable[[int], Layer],
        *,
        optimizer: Optimizer = ADAM,
        epochs: int = 10,
        batch_size: int = 64,
        device: str | Device = "auto",
        dtype: str = "float32",
        layout: str = "NCHW",
        label_names: Sequence[str] | None = None,
        label_smoothing: float = 0.0,
        augment: Any = None,
        mixing: Any = None,
        max_norm: float | None = None,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.layout = layout
        self.label_names = label_names
        self.label_smoothing = label_smoothing
        self.augment = augment
        self.mixing = mixing
        self.max_norm = max_norm
        self.accumulate = accumulate
        self.seed = seed

    def fit(
        self,
        x: Array,
        y: Array,
        epochs: int | None = None,
        *,
        params: Tree | None = None,
        validation: tuple[Array, Array] | None = None,
        best: str | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        ranks: Ranks = ALONE,
    ) -> Classifier:
        """Draw weights and train on images x (N, C, H, W) with labels y (N,): self.

        x is uint8 or floating, on the host or on this classifier's device, or images that are read
        as they are needed (memory-mapped, or `data.Pictures`). `params` is a tree of parameters to
        begin with, all of the model's or some, in place of drawn ones. `validation` is a pair
        (images, labels) that is scored after each epoch, and `callbacks` are called then. `best`
        names a figure such as "val_loss": the parameters of the epoch in which it was best are
        those kept in the end. On a terminal a bar shows the progress.

        With `checkpoints`, Ctrl-C and SIGTERM end the training between two batches: what there is
        is written, and Interrupted raised. `resume` goes on from the latest checkpoint, if there is
        one, to the very numbers of a run without a break. `ranks` are processes that train together
        (`training.mpi_ranks`).

        Raises before any work ValueError or TypeError for data that do not fit (no images, one
        class, labels of another length or out of range, NaN, parameters that the model has not);
        FloatingPointError when the loss has become NaN; the classifier then is as it was before.
        """
        epochs = self.epochs if epochs is None else epochs
        _check_counts(epochs=epochs)
        if resume and checkpoints is None:
            raise ValueError("fit(resume=True): give checkpoints=Checkpoints(folder) to go on from")
        trainer, card = self.prepare(x, y, validation, best, ranks)
        settings, place = self._settings(trainer, card), trainer.feed.place
        if params is not None:
            check_params("fit", params, trainer.model.plan(card.in_shape)[0])
            params = tree.map(lambda array: place.asarray(array, self._weights_dtype), params)

        def first() -> Run:
            begun = checkpoints.begin(place, settings, resume, ranks) if checkpoints else None
            if begun is not None:
                return begun
            drawn = self.draw(trainer.model, card.in_shape, place)
            return trainer.start(tree.unflatten(tree.flatten(drawn) | tree.flatten(params or {})))

        def ended(run: Run) -> bool:
            params = trainer.to_predict(run)
            save = partial(save_model, model=trainer.model, params=params, card=card)
            now = Snapshot(run.history, epochs, run.state["step"], params, save)
            return any([callback(now) for callback in callbacks])  # a list: all of them are called

        shown = progress_bar(epochs) if ranks.rank == 0 else nullcontext(Silent())
        with shown as bar, np.errstate(all="ignore"):  # a NaN shows in the loss
            if str(trainer.feed.images.dtype).endswith("uint8"):
                bar.say("uint8 images are scaled to [0, 1]")
            run = Fitting(trainer, epochs, bar, ended, checkpoints, settings).go(first())
        self._be_fitted(trainer.model, run.best or trainer.to_predict(run), card, place)
        self.history_ = run.history
        return self

    def prepare(
        self,
        x: Array,
        y: Array,
        validation: tuple[Array, Array] | None = None,
        best: str | None = None,
        ranks: Ranks = ALONE,
    ) -> tuple[Trainer, Card]:
        """What `fit` trains with, once all that is given is checked, and what is to be saved."""
        self._check_options()
        if best is not None and best not in MONITORS[: 2 if validation is None else None]:
            raise ValueError(
                f"fit: best={best!r}; give one of {', '.join(MONITORS)}, the last two of which "
                "need validation data"
            )
        place = ranks.device(self.device)
        x, in_shape = self._images("fit", x, place)
        labels = host_labels("fit", y, x.shape[0])
        classes = self._classes(labels)
        codes = encode("fit", labels, classes)
        held_out = None
        if validation is not None:
            held_out = self._feed(*self._pair(validation, in_shape, classes, place), place, ranks)
        trainer = Trainer(
            self._model_for(in_shape, classes), self._optimizer(), random.key(self.seed),
            self._feed(x, codes, place, ranks, self.dtype), len(classes), held_out,
            CrossEntropy(self.label_smoothing), self.augment, self.mixing, self.accumulate,
            self.max_norm, best,
        )  # fmt: skip
        resize = x.resize if isinstance(x, Pictures) else "stretch"
        return trainer, self._card(in_shape, classes, resize)

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
        x, _ = self._images("score", x, self.device_, self.in_shape_)
        codes = encode("score", host_labels("score", y, x.shape[0]), self.classes_)
        return evaluate(self.model_, self.params_, self._feed(x, codes, self.device_))[1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file that holds all predicting needs; `xpcnn.load` reads it.

        Raises ValueError for a model with layers that are not xpcnn's own, which no file can tell.
        """
        self._require_fitted("save")
        card = self._card(self.in_shape_, self.classes_, self.resize_)
        save_model(path, self.model_, self.params_, card)

    def _probabilities(self, call: str, x: Array) -> np.ndarray:
        self._require_fitted(call)
        x, _ = self._images(call, x, self.device_, self.in_shape_)
        feed = self._feed(x, np.zeros(x.shape[0], np.int64), self.device_)
        logits = (self.model_(self.params_, batch.x) for batch in feed.batches())
        return np.concatenate([to_numpy(ops.softmax(rows)) for rows in logits])

    def _images(
        self, call: str, x: Any, place: Device, in_shape: Shape | None = None
    ) -> tuple[Array, Shape]:
        """What is fed as x, once it is checked, and the shape of one image in it."""
        if self.layout == "NC":
            return take_rows(call, x, place, in_shape)
        return x, check_images(call, x, self.layout, place, in_shape)

    def _feed(
        self,
        x: Array,
        codes: np.ndarray,
        place: Device,
        ranks: Ranks = ALONE,
        dtype: str | None = None,
    ) -> Feed:
        dtype = dtype or self._weights_dtype
        return Feed(x, codes, place, dtype, self.layout, self.batch_size, self.uint8_scale, ranks)

    def _pair(
        self, validation: Any, in_shape: Shape, classes: np.ndarray, place: Device
    ) -> tuple[Array, np.ndarray]:
        """Images and the places of their labels, to validate with."""
        call = "fit: validation"
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise TypeError(f"{call} must be a pair, (images, labels)")
        x, y = validation
        x, _ = self._images(call, x, place, in_shape)
        return x, encode(call, host_labels(call, y, x.shape[0]), classes)

    def _model_for(self, in_shape: Shape, classes: np.ndarray) -> Layer:
        model: Any = self.model
        if callable(model) and not isinstance(model, Layer):
            model = model(len(classes))
        if not isinstance(model, Layer):
            raise TypeError(
                "fit: model must be a layer, such as xpcnn.models.convnet(), or a function of the "
                f"number of classes that makes one; it is or makes {model!r}"
            )
        _, out_shape = model.plan(in_shape)
        if out_shape != classes.shape:
            raise ValueError(
                f"fit: the model gives {out_shape} for each image, and there are {len(classes)} "
                f"classes; let its last layer give {len(classes)} numbers"
            )
        return model

    def draw(self, model: Layer, in_shape: Shape, place: Device) -> Tree:
        """The parameters that a training begins with."""
        weights = random.fold_in(random.key(self.seed), INIT)
        return model.init(weights, in_shape, dtype=self._weights_dtype, device=place)[0]

    def _optimizer(self) -> Optimizer:
        return MixedPrecision(self.optimizer) if self.dtype == "float16" else self.optimizer

    @property
    def _weights_dtype(self) -> str:
        return "float32" if self.dtype == "float16" else self.dtype

    def _card(self, in_shape: Shape, classes: np.ndarray, resize: str) -> Card:
        return Card(
            in_shape=in_shape,
            scale=self.uint8_scale,
            classes=tuple(classes.tolist()),
            label_names=_names(self.label_names, classes) if self.label_names else None,
            layout=self.layout,
            resize=resize,
        )

    def _settings(self, trainer: Trainer, card: Card) -> dict[str, str]:
        """What must be the same for a run to go on from a checkpoint."""
        names = (
            "batch_size", "dtype", "layout", "seed", "label_smoothing", "augment", "mixing",
            "max_norm", "accumulate",
        )  # fmt: skip
        feed, held_out = trainer.feed, trainer.held_out
        settings = {
            "model": repr(trainer.model),
            "optimizer": repr(trainer.optimizer),
            "shape of x": str(tuple(feed.images.shape)),
            "dtype of x": str(feed.images.dtype),
            "classes": str(card.classes),
            "label names": str(card.label_names),
            "labels": _checksum(feed.codes),
            "validation labels": "none" if held_out is None else _checksum(held_out.codes),
            "best": str(trainer.best),
            "number of ranks": str(feed.ranks.size),
            **{name: str(getattr(self, name)) for name in names},
        }
        return {name: ADDRESS.sub("", text) for name, text in settings.items()}

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        seen = np.unique(labels)
        if len(seen) < 2:
            raise ValueError(f"fit: y holds the one class {seen.tolist()[0]!r}; give at least two")
        return seen if self.label_names is None else np.arange(len(self.label_names))

    def _check_options(self) -> None:
        _check_counts(batch_size=self.batch_size, accumulate=self.accumulate)
        require_share("fit", "label_smoothing", self.label_smoothing)
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"fit: max_norm={self.max_norm!r}; it must be above 0, or None")
        if self.augment is not None:
            if not callable(self.augment) or isinstance(self.augment, type):
                raise TypeError(
                    f"fit: augment={self.augment!r}; give one such as xpcnn.data.Shift(0.1), or "
                    "None"
                )
            if self.layout == "NC":
                raise ValueError("fit: augment changes images, and layout='NC' has rows; give None")
        if self.mixing is not None and not callable(self.mixing):
            raise TypeError(
                f"fit: mixing={self.mixing!r}; give xpcnn.data.Mixup(), CutMix() or None"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"fit: dtype={self.dtype!r}; give one of {', '.join(DTYPES)}")
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(
                "fit: optimizer must be one of xpcnn.optim, such as Adam(0.001), not "
                f"{self.optimizer!r}"
            )

    def _be_fitted(self, model: Layer, params: Tree, card: Card, place: Device) -> None:
        self.model_, self.params_, self.device_ = model, params, place
        self.classes_, self.in_shape_ = np.asarray(card.classes), card.in_shape
        self.n_features_in_, self.resize_ = product(card.in_shape), card.resize
        self.label_names_ = _names(card.label_names, self.classes_)

    def _require_fitted(self, call: str) -> None:
        if not hasattr(self, "params_"):
            raise not_fitted(f"{call}: this classifier is not trained yet; call fit first")


def load(path: str | os.PathLike[str], device: str | Device = "auto") -> Classifier:
    """Read what `Classifier.save` wrote, onto a device, ready to predict.

    No code is evaluated. Raises FileNotFoundError, or ValueError naming the file and its fault.

    Source: the safetensors format.
    """
    place = find_device(device)
    model, params, card = load_model(path)
    net = Classifier(model, device=device, layout=card.layout, label_names=card.label_names)
    net.uint8_scale = card.scale
    net.dtype = next((array.dtype.name for array in tree.leaves(params)), net.dtype)
    params = tree.map(lambda array: place.asarray(array, array.dtype.name), params)
    net._be_fitted(model, params, card, place)
    net.history_ = History()
    return net


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"fit: {name}={value!r}; it must be an integer of at least 1")


def _checksum(codes: np.ndarray) -> str:
    return f"CRC-32 {zlib.crc32(codes.tobytes()):08x}"


def _names(label_names: Sequence[str] | None, classes: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, classes.tolist() if label_names is None else label_names))
