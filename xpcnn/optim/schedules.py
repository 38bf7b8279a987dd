"""Learning rates: functions of the number of steps done."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ._options import settle, settle_count

MONITORS = ("loss", "accuracy", "val_loss", "val_accuracy")
"""Figures of a history that tell how good an epoch was."""


def grows(monitor: str) -> bool:
    """Whether a figure is the better the larger it is, as an accuracy, unlike a loss."""
    return monitor.endswith("accuracy")


@dataclass(frozen=True)
class Schedule:
    """A learning rate by step: called with the number of steps done, it returns a Python float.

    The first `warmup` steps climb evenly: step t takes (t + 1) / (warmup + 1) of what the schedule
    has without. Steps count from 0, the warm-up's among them.

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017 (warm-up).
    """

    lr: float
    _: KW_ONLY
    warmup: int = 0

    def __post_init__(self) -> None:
        settle(self, "lr")
        settle_count(self, "warmup", least=0)

    def __call__(self, step: int) -> float:
        """The rate after `step` steps."""
        return self._plain(step) * min(1.0, (step + 1) / (self.warmup + 1))

    def after(self, history: Any) -> Schedule:
        """The schedule for the epoch that follows `history`, a `training.History`.

        Itself, save for one that heeds how training went.
        """
        return self

    def _plain(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate always, after the warm-up.

    >>> [Constant(1.0, warmup=3)(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """


@dataclass(frozen=True)
class Step(Schedule):
    """The rate times `factor` after each `every` steps.

    >>> [Step(1.0, every=2, factor=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "factor")
        settle_count(self, "every", least=1)

    def _plain(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


@dataclass(frozen=True)
class Exponential(Step):
    """`Step` without the stairs: the rate times `factor` in the course of each `every` steps.

    >>> [Exponential(1.0, every=2, factor=0.25)(step) for step in range(5)]
    [1.0, 0.5, 0.25, 0.125, 0.0625]

    Source: torch.optim.lr_scheduler.ExponentialLR, whose `every` is 1.
    """

    def _plain(self, step: int) -> float:
        return self.lr * self.factor ** (step / self.every)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `lr` at the end of the warm-up to `final` at step `steps`, and on.

    >>> [round(Cosine(1.0, steps=4)(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """

    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "final")
        settle_count(self, "steps", least=1)
        if self.steps <= self.warmup:
            raise ValueError(
                f"Cosine(steps={self.steps}, warmup={self.warmup}): the warm-up takes all steps; "
                "steps counts them all, so it must be more than warmup"
            )

    def _plain(self, step: int) -> float:
        done = (step - self.warmup) / (self.steps - self.warmup)
        return _cosine(self.lr, self.final, min(max(done, 0.0), 1.0))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from lr / div_factor to `lr`, then down to lr / div_factor / final_div_factor.

    The way up takes the share `pct_start` of the `steps`; the last of them, and any further, have
    the least rate. `anneal_strategy` is "cos", half a cosine each way, or "linear". The momentum is
    not cycled. Raises ValueError for options out of range, and for a warm-up before the way up.

    >>> cycle = OneCycle(1.0, steps=10, pct_start=0.5, anneal_strategy="linear")
    >>> [round(cycle(step), 3) for step in range(0, 10, 2)]
    [0.04, 0.52, 1.0, 0.6, 0.2]

    Source: Smith and Topin, "Super-convergence", 2018; torch.optim.lr_scheduler.OneCycleLR.
    """

    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    anneal_strategy: str = "cos"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_count(self, "steps", least=1)
        settle(self, "pct_start", below=1.0)
        settle(self, "div_factor", least=1.0)
        settle(self, "final_div_factor", least=1.0)
        if self.anneal_strategy not in _WAYS:
            raise ValueError(
                f"OneCycle(anneal_strategy={self.anneal_strategy!r}): give 'cos' or 'linear'"
            )
        if self.warmup:
            raise ValueError(
                f"OneCycle(warmup={self.warmup}): the cycle begins with a way up of its own; "
                "leave warmup out, and set pct_start"
            )

    def _plain(self, step: int) -> float:
        way, top = _WAYS[self.anneal_strategy], self.pct_start * self.steps - 1.0
        first = self.lr / self.div_factor
        if step < top:
            return way(first, self.lr, step / top)
        done = (step - top) / (self.steps - 1.0 - top)
        return way(self.lr, first / self.final_div_factor, min(done, 1.0))


@dataclass(frozen=True)
class Plateau(Schedule):
    """The rate times `factor` whenever a figure got no better for more than `patience` epochs.

    `monitor` is a figure of the history: the one of a loss should fall, that of an accuracy grow,
    by more than the share `threshold` of its best. After a cut, `cooldown` epochs are not counted,
    and no cut leads below `least`. There is no state to save: `after` asks the history for all the
    figures so far, so ask the Plateau itself each time, not what it returned.

    Raises ValueError for options out of range, and where the history lacks the figure.

    >>> from types import SimpleNamespace
    >>> losses = [1.0, 0.5, 0.5, 0.5]
    >>> history = SimpleNamespace(column=lambda name: losses)
    >>> Plateau(1.0, patience=1, monitor="loss").after(history)
    Constant(lr=0.1, warmup=0)

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    monitor: str = "val_loss"
    cooldown: int = 0
    least: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "factor", below=1.0)
        settle(self, "threshold", below=1.0)
        settle(self, "least")
        settle_count(self, "patience", least=0)
        settle_count(self, "cooldown", least=0)
        if self.monitor not in MONITORS:
            raise ValueError(
                f"Plateau(monitor={self.monitor!r}): give one of {', '.join(MONITORS)}"
            )

    def after(self, history: Any) -> Schedule:
        """The constant rate, after the warm-up, of the epoch that follows `history`.

        That is anything with column(name) -> the figures of all epochs, in order.
        """
        lr, bad, resting = self.lr, 0, 0
        best = -math.inf if grows(self.monitor) else math.inf
        for figure in self._figures(history):
            bad += 1
            if self._is_better(figure, best):
                best, bad = figure, 0
            if resting:
                resting, bad = resting - 1, 0
            if bad > self.patience:
                lr = min(lr, max(lr * self.factor, self.least))
                resting, bad = self.cooldown, 0
        return Constant(lr, warmup=self.warmup)

    def _is_better(self, figure: float, best: float) -> bool:
        if grows(self.monitor):
            return figure > best * (1.0 + self.threshold)
        return figure < best * (1.0 - self.threshold)

    def _figures(self, history: Any) -> list[float]:
        figures = history.column(self.monitor)
        if None in figures:
            raise ValueError(
                f"Plateau(monitor={self.monitor!r}): epoch {figures.index(None) + 1} has no such "
                "figure; fit with validation data, or monitor 'loss'"
            )
        return figures


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * done))


def _linear(start: float, end: float, done: float) -> float:
    return start + (end - start) * done


_WAYS = {"cos": _cosine, "linear": _linear}
