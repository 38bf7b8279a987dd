"""What each rank does in test_parallel.py: mpiexec -n 2 python parallel_run.py CASE FOLDER.

Each writes the parameters and the history that it ended with to FOLDER/RANK.npz.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

import xpcnn
from xpcnn import Classifier
from xpcnn.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, tree
from xpcnn.optim import SGD
from xpcnn.training import Checkpoints, csv_log, early_stopping, mpi_ranks, trainer
from xpcnn.training.ranks import Ranks

DIGITS = xpcnn.data.digits()
X, Y = DIGITS.train[0][:322], DIGITS.train[1][:322]  # 5 batches of 64, and one of 2 images
HELD = DIGITS.test[0][:50], DIGITS.test[1][:50]
PLAIN = Sequential(Conv2d(8, 3, padding="same"), ReLU(), MaxPool2d(2), Flatten(), Linear(10))
NORMED = Sequential(Conv2d(8, 3, bias=False), BatchNorm(), ReLU(), Flatten(), Linear(10))


def net(model=PLAIN, **options) -> Classifier:
    return Classifier(model, **{"device": "cpu", "optimizer": SGD(0.1, momentum=0.9), **options})


def plain(ranks: Ranks, folder: Path) -> Classifier:
    return net().fit(X, Y, 1, validation=HELD, ranks=ranks)


def exact(ranks: Ranks, folder: Path) -> Classifier:
    options = {"dtype": "float64", "max_norm": 1.0, "accumulate": 2, "label_smoothing": 0.1}
    return net(**options).fit(X, Y, 2, validation=HELD, ranks=ranks)


def strict(ranks: Ranks, folder: Path) -> Classifier:
    return net(device="strict").fit(X[:128], Y[:128], 1, ranks=ranks)


def normed(ranks: Ranks, folder: Path) -> Classifier:
    """One batch, and a rate of 0: what changes are the statistics."""
    return net(NORMED, optimizer=SGD(0.0), batch_size=96).fit(X[:96], Y[:96], 1, ranks=ranks)


def stopped(ranks: Ranks, folder: Path) -> Classifier:
    """Callbacks are called on one rank, and what they say holds for all."""
    callbacks = [early_stopping(1, "loss"), csv_log(folder / "log.csv")]
    return net(optimizer=SGD(0.0)).fit(X, Y, 9, callbacks=callbacks, ranks=ranks)


def resumed(ranks: Ranks, folder: Path) -> Classifier:
    return net().fit(
        X, Y, 3, validation=HELD, checkpoints=Checkpoints(folder / "run", every=1), resume=True,
        ranks=ranks,
    )  # fmt: skip


def failing(ranks: Ranks, folder: Path) -> Classifier:
    """In the third step the last rank raises an error."""
    return _with_trouble(ranks, folder, 3, _fail)


def killed(ranks: Ranks, folder: Path) -> Classifier:
    return _with_trouble(ranks, folder, 8, lambda: os.kill(os.getpid(), signal.SIGKILL))


def interrupted(ranks: Ranks, folder: Path) -> Classifier:
    return _with_trouble(ranks, folder, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))


def _fail() -> None:
    raise RuntimeError("this rank fails")


def _with_trouble(ranks: Ranks, folder: Path, at: int, trouble) -> Classifier:
    step, count = trainer.train_step, 0

    def troubled(*args, **options):
        nonlocal count
        count += 1
        if count == at and ranks.rank == ranks.size - 1:
            trouble()
        return step(*args, **options)

    trainer.train_step = troubled
    return resumed(ranks, folder)


def main(case: str, folder: Path) -> None:
    with mpi_ranks() as ranks:
        fitted = globals()[case](ranks, folder)
    flat = tree.flatten(fitted.params_)
    params = {name: fitted.device_.to_numpy(array) for name, array in flat.items()}
    figures = np.asarray([epoch[1:5] for epoch in fitted.history_], np.float64)
    np.savez(folder / f"{ranks.rank}.npz", figures=figures, **params)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
