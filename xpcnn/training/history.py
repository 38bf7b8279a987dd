"""What a training run was like, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..optim.schedules import MONITORS, grows


class Epoch(NamedTuple):
    """One epoch: mean loss and accuracy over its batches as they were trained, and its speed.

    `val_loss` and `val_accuracy` are None without validation data; `seconds` is wall time, and
    `waiting` the seconds of it that were spent on waiting for data; `lr` is the rate of the last
    step.
    """

    number: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float
    waiting: float = 0.0
    lr: float | None = None


@dataclass(frozen=True)
class History:
    """The epochs of a run, in order.

    >>> one = Epoch(1, 0.5, 0.9, None, None, 2.0, 500.0)
    >>> History((one,)).column("loss")
    [0.5]
    """

    epochs: tuple[Epoch, ...] = ()

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def __getitem__(self, index: int) -> Epoch:
        return self.epochs[index]

    def column(self, name: str) -> list:
        """One figure of every epoch, by name."""
        return [getattr(epoch, name) for epoch in self.epochs]

    def best(self, monitor: str) -> int:
        """The number of the epoch in which a figure was best: the first one, if several are.

        Of an accuracy that is the largest, of a loss the least; NaN is worse than any. Raises
        ValueError where there is no such figure, or no epoch.

        >>> one, two = (Epoch(i, 1 / i, 0.5, None, None, 1.0, 1.0) for i in (1, 2))
        >>> History((one, two)).best("loss"), History((one, two)).best("accuracy")
        (2, 1)
        """
        if monitor not in MONITORS:
            raise ValueError(
                f"monitor={monitor!r}: there is no such figure; choose {', '.join(MONITORS)}"
            )
        found = self.column(monitor)
        if not found or None in found:
            raise ValueError(
                f"monitor={monitor!r}: no epoch has it; "
                + ("give validation data" if monitor.startswith("val_") else "train one first")
            )
        sign = -1.0 if grows(monitor) else 1.0
        badness = [math.inf if math.isnan(figure) else sign * figure for figure in found]
        return badness.index(min(badness)) + 1
