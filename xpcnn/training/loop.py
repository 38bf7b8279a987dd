"""A training run as a series of states, one after each batch.

Who iterates over them decides what happens between two steps: showing, writing, stopping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .._xp import Array
from ..layers.tree import Tree
from ..optim import State
from .history import History
from .step import StepResult


class Batch(NamedTuple):
    """Images x (n, C, ...) and labels y of one step: this rank's part of a batch of `images`."""

    x: Array
    y: Array
    images: int


@dataclass(frozen=True)
class Figures:
    """The epoch under way: images done, and their mean loss and accuracy, kept on the device."""

    images: int = 0
    batches: int = 0
    loss: Array | float = 0.0
    correct: Array | int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def plus(self, result: StepResult, images: int) -> Figures:
        """A step counted in, on its device, without waiting for it."""
        total = self.images + images
        return replace(
            self,
            images=total,
            batches=self.batches + 1,
            loss=self.loss + (result.loss - self.loss) * (images / total),
            correct=result.correct + self.correct,
        )

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy so far; waits for the device.

        Raises FloatingPointError where the loss is NaN or infinite.
        """
        loss = float(self.loss)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} within the first {self.batches} batches of this epoch; "
                "lower the learning rate, clip gradients (max_norm=1.0) or look at the images"
            )
        return loss, int(self.correct) / max(self.images, 1)


@dataclass(frozen=True)
class Run:
    """Where a training run is, between two batches: all that it takes to go on.

    `best` are the parameters to predict with of the best epoch so far, where they are to be kept.
    """

    params: Tree
    state: State
    history: History = field(default_factory=History)
    figures: Figures = field(default_factory=Figures)
    best: Tree = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, or of the next one, from 1."""
        return len(self.history) + 1


Step = Callable[[Tree, State, Batch], StepResult]


def run_epoch(step: Step, run: Run, batches: Iterable[Batch]) -> Iterator[Run]:
    """The run after each of the batches, by `step(params, state, batch)`.

    >>> import numpy as np
    >>> from xpcnn import layers, optim, random, training
    >>> model, sgd = layers.Linear(2), optim.SGD(0.1)
    >>> params, _ = model.init(random.key(0), (3,))
    >>> run = Run(params, training.init_state(model, sgd, params))
    >>> batch = Batch(np.ones((4, 3), np.float32), np.asarray([0, 1, 1, 1]), 4)
    >>> def step(params, state, batch):
    ...     return training.train_step(model, sgd, params, state, batch.x, batch.y)
    >>> [run.figures.images for run in run_epoch(step, run, [batch, batch])]
    [4, 8]
    """
    began = time.perf_counter() - run.figures.seconds
    asked = time.perf_counter()
    for batch in batches:
        waiting = run.figures.waiting + time.perf_counter() - asked
        result = step(run.params, run.state, batch)
        figures = run.figures.plus(result, batch.images)
        figures = replace(figures, seconds=time.perf_counter() - began, waiting=waiting)
        run = replace(run, params=result.params, state=result.state, figures=figures)
        yield run
        asked = time.perf_counter()
