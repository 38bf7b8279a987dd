"""One epoch over batches, with its figures kept on the device until somebody reads them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from .._xp import Array
from ..layers.tree import Tree
from ..optim import State
from .step import StepResult

READ_EVERY = 0.1
"""Seconds between two looks at the loss: reading waits for the device."""

Batch = tuple[Array, Array]


class Progress:
    """The running figures of an epoch: images done, and their mean loss and accuracy so far."""

    def __init__(self) -> None:
        self.images, self.batches = 0, 0
        self._loss: Array | float = 0.0
        self._correct: Array | int = 0
        self._start = time.perf_counter()

    def add(self, result: StepResult, images: int) -> None:
        """Count a step in, on its device, without waiting."""
        self.images += images
        self.batches += 1
        self._loss = self._loss + (result.loss - self._loss) * (images / self.images)
        self._correct = result.correct + self._correct

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy so far; waits for the device.

        Raises FloatingPointError where the loss is NaN or infinite.
        """
        loss = float(self._loss)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} within the first {self.batches} batches of this epoch; "
                "lower the learning rate, clip gradients (max_norm=1.0) or look at the images"
            )
        return loss, int(self._correct) / max(self.images, 1)

    @property
    def seconds(self) -> float:
        """Wall time since the epoch began."""
        return time.perf_counter() - self._start


def run_epoch(
    step: Callable[[Tree, State, Array, Array], StepResult],
    params: Tree,
    state: State,
    batches: Iterable[Batch],
    watch: Callable[[int, float, float], None] | None = None,
) -> tuple[Tree, State, Progress]:
    """Take `step(params, state, x, y)` for each batch (x, y): what it leaves, and the figures.

    `watch(images, loss, accuracy)` is told how far it is, a few times a second. Raises
    FloatingPointError where the loss became NaN or infinite, when it is next read.

    >>> from functools import partial
    >>> import numpy as np
    >>> from xpcnn import layers, optim, random, training
    >>> model, sgd = layers.Linear(2), optim.SGD(0.1)
    >>> params, _ = model.init(random.key(0), (3,))
    >>> state = training.init_state(model, sgd, params)
    >>> batch = np.ones((4, 3), np.float32), np.asarray([0, 1, 1, 1])
    >>> step = partial(training.train_step, model, sgd)
    >>> params, state, progress = run_epoch(step, params, state, [batch, batch])
    >>> progress.images, state["step"]
    (8, 2)
    """
    progress, told = Progress(), 0.0
    for x, y in batches:
        result = step(params, state, x, y)
        params, state = result.params, result.state
        progress.add(result, x.shape[0])
        if watch and progress.seconds - told > READ_EVERY:
            told = progress.seconds
            watch(progress.images, *progress.read())
    loss, accuracy = progress.read()
    if watch:
        watch(progress.images, loss, accuracy)
    return params, state, progress
