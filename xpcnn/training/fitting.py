"""A whole training run: shown, written down, told to callbacks, and stopped when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from signal import SIGTERM

from .bar import Silent
from .checkpoint import Checkpoints
from .interrupt import Interrupted, deferred_signals
from .loop import Run
from .ranks import Ranks
from .trainer import Trainer

READ_EVERY = 0.1
"""Seconds between two looks at the loss: reading waits for the device."""


@dataclass(frozen=True)
class Fitting:
    """What goes on around the steps of a run.

    `ended(run)` is called after each epoch and tells whether to stop. Checkpoints are written with
    `settings`; with them, a signal to stop is obeyed between two batches.
    """

    trainer: Trainer
    epochs: int
    bar: Silent
    ended: Callable[[Run], bool]
    checkpoints: Checkpoints | None
    settings: Mapping[str, str]

    def go(self, run: Run) -> Run:
        """Train from where `run` is to the end: after the last epoch, or when `ended` says so.

        Raises Interrupted after SIGINT or SIGTERM, when a checkpoint is written, and
        FloatingPointError for a loss or parameters that became NaN, of which none is written.
        """
        if run.history and not run.figures.batches and self._ended(run):
            return run
        deferred = deferred_signals() if self.checkpoints else nullcontext(lambda: 0)
        with deferred as noted, closing(self.trainer.runs(run, self.epochs)) as runs:
            self._begin(run)
            told = time.perf_counter()
            for run in runs:
                if not run.figures.batches:
                    self.bar.end(run.history[-1])
                elif time.perf_counter() - told > READ_EVERY:  # also unseen: NaN is found soon
                    self.bar.watch(run.figures.images, *run.figures.read())
                    told = time.perf_counter()
                self._look_up(run, noted())
                if not run.figures.batches:
                    if self._ended(run):
                        break
                    self._begin(run)
        return run

    @property
    def _ranks(self) -> Ranks:
        return self.trainer.feed.ranks

    def _begin(self, run: Run) -> None:
        if run.epoch <= self.epochs:
            self.bar.begin(run.epoch, len(self.trainer.feed), run.figures.images)

    def _ended(self, run: Run) -> bool:
        return self._ranks.any(self._ranks.rank == 0 and self.ended(run))

    def _look_up(self, run: Run, signal: int) -> None:
        """Between two steps: write what is due, and stop if asked."""
        if self.checkpoints is None:
            return
        stop = self._ranks.any(bool(signal))
        if self._ranks.rank == 0 and (stop or self.checkpoints.due(run)):
            run.figures.read()  # no checkpoint of NaN
            self.checkpoints.write(run, self.settings)
        if stop and run.epoch <= self.epochs:
            done = run.figures.batches
            within = f"in epoch {run.epoch}, after {done} batch{'es' * (done > 1)} of it"
            raise Interrupted(
                f"interrupted {within if done else f'after epoch {run.epoch - 1}'}; go on with "
                f"resume=True from the checkpoints in {self.checkpoints.folder}",
                signal or SIGTERM,  # which another rank has had
                self._ranks.rank,
                self._ranks.size,
            )
