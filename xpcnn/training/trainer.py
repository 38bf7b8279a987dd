"""How a model is trained: from one state of a run to the next, epoch after epoch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from .. import ops, random
from .._xp import Array
from ..data import one_hot
from ..layers import Layer
from ..layers.tree import Tree
from ..optim import Optimizer, State
from .feed import Feed
from .history import Epoch, History
from .loop import Batch, Figures, Run, run_epoch
from .step import StepResult, count_correct, init_state, train_step

INIT, ORDER, NOISE, MIXING, AUGMENT = range(5)
"""What the seed's key is folded with: for weights, the order of batches, dropout, and images."""


@dataclass(frozen=True)
class CrossEntropy:
    """The loss of a run, with its option."""

    label_smoothing: float = 0.0

    def vjp(self, logits: Array, y: Array, wrt: Sequence[str]) -> tuple[Array, Callable]:
        """The loss and its pull."""
        return ops.cross_entropy.vjp(logits, y, wrt=wrt, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class Trainer:
    """A model, what it learns from and how: so many `classes`; `held_out` is for validation.

    `best` names the figure by which the best epoch's parameters are kept, if they are.

    `augment(key, x)` changes the images of a batch, and then `mixing(key, x, y)` mixes them, and
    their labels as probabilities. The other options are those of `train_step`.
    """

    model: Layer
    optimizer: Optimizer
    key: random.Key
    feed: Feed
    classes: int
    held_out: Feed | None = None
    loss: CrossEntropy = CrossEntropy()
    augment: Any = None
    mixing: Any = None
    accumulate: int = 1
    max_norm: float | None = None
    best: str | None = None

    def start(self, params: Tree) -> Run:
        """Where a run begins."""
        return Run(params, init_state(self.model, self.optimizer, params))

    def runs(self, run: Run, epochs: int) -> Generator[Run]:
        """The run after each batch and, with the epoch in its history, after each epoch."""
        while run.epoch <= epochs:
            optimizer = self.optimizer.after(run.history)
            order = random.fold_in(self._keys[ORDER], run.epoch)
            with closing(self.feed.batches(order, start=run.figures.batches)) as batches:
                for run in run_epoch(partial(self.step, optimizer), run, batches):  # noqa: B020
                    yield run
            run = self._ended(run, optimizer)
            yield run

    def to_predict(self, run: Run) -> Tree:
        """The parameters that the run predicts with now; `Run.best` are those of its best epoch."""
        return self.optimizer.averaged(run.params, run.state)

    @cached_property
    def _keys(self) -> dict[int, random.Key]:
        """This rank's keys; the order of batches is the same for all."""
        keys = {use: random.fold_in(self.key, use) for use in (ORDER, NOISE, MIXING, AUGMENT)}
        if self.feed.ranks.size > 1:
            for use in (NOISE, MIXING, AUGMENT):
                keys[use] = random.fold_in(keys[use], self.feed.ranks.rank)
        return keys

    def step(
        self,
        optimizer: Optimizer,
        params: Tree,
        state: State,
        batch: Batch,
        lr: float | None = None,
    ) -> StepResult:
        """One step; a given `lr` stands in for the optimizer's own."""
        x, y = batch.x, batch.y
        if self.augment is not None and x.shape[0]:
            x = self.augment(random.fold_in(self._keys[AUGMENT], state["step"]), x)
        if self.mixing is not None and x.shape[0]:
            dtype = "float64" if self.feed.dtype == "float64" else "float32"  # that of the loss
            chances = one_hot(y, self.classes, dtype)
            x, y = self.mixing(random.fold_in(self._keys[MIXING], state["step"]), x, chances)
        return train_step(
            self.model, optimizer, params, state, x, y,
            key=random.fold_in(self._keys[NOISE], state["step"]), loss=self.loss,
            max_norm=self.max_norm, lr=lr, accumulate=self.accumulate,
            ranks=self.feed.ranks, share=x.shape[0] / batch.images,
        )  # fmt: skip

    def _ended(self, run: Run, optimizer: Optimizer) -> Run:
        figures = run.figures
        loss, accuracy = figures.read()
        val_loss = val_accuracy = None
        if self.held_out is not None:
            val_loss, val_accuracy = evaluate(self.model, self.to_predict(run), self.held_out)
        lr = optimizer.rate(run.state["step"] - 1)
        epoch = Epoch(
            run.epoch, loss, accuracy, val_loss, val_accuracy, figures.seconds,
            figures.images / figures.seconds, figures.waiting, lr,
        )  # fmt: skip
        history, best = History((*run.history, epoch)), run.best
        if self.best is not None and history.best(self.best) == len(history):
            best = self.to_predict(run)
        return replace(run, history=history, figures=Figures(), best=best)


def evaluate(model: Layer, params: Tree, feed: Feed) -> tuple[float, float]:
    """Mean loss and accuracy over all images of a feed, in inference."""
    loss, correct = 0.0, 0
    for x, y, _ in feed.batches():
        if x.shape[0]:
            logits = model(params, x)
            loss += float(ops.cross_entropy(logits, y)) * x.shape[0]
            correct += int(count_correct(logits, y))
    sums = feed.ranks.sum({"loss": np.asarray(loss), "correct": np.asarray(correct)})
    return float(sums["loss"]) / len(feed), int(sums["correct"]) / len(feed)
