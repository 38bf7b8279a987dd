"""What a training run was like, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Epoch(NamedTuple):
    """One epoch: mean loss and accuracy over its batches as they were trained, and its speed.

    `val_loss` and `val_accuracy` are None without validation data; `seconds` is wall time.
    """

    number: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


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
