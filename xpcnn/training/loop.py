"""One epoch over batches, with its figures kept on the device until somebody reads them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from .._xp import Array
from .step import Step

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

    def add(self, step: Step, images: int) -> None:
        """Count a step in, on its device, without waiting."""
        self._loss = step.loss * float(images) + self._loss
        self._correct = step.correct + self._correct
        self.images += images
        self.batches += 1

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy so far; waits for the device.

        Raises FloatingPointError where the loss is NaN or infinite.
        """
        loss = float(self._loss) / max(self.images, 1)
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
    step: Callable[[Array, Array, int], Step],
    batches: Iterable[Batch],
    watch: Callable[[int, float, float], None] | None = None,
) -> Progress:
    """Take a step for each batch (x, y); `step` is called with (x, y, number in the epoch).

    `watch(images, loss, accuracy)` is told how far it is, a few times a second. Raises
    FloatingPointError where the loss became NaN or infinite, when it is next read.
    """
    progress, told = Progress(), 0.0
    for number, (x, y) in enumerate(batches):
        progress.add(step(x, y, number), x.shape[0])
        if watch and progress.seconds - told > READ_EVERY:
            told = progress.seconds
            watch(progress.images, *progress.read())
    loss, accuracy = progress.read()
    if watch:
        watch(progress.images, loss, accuracy)
    return progress
