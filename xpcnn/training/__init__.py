"""Training: one step, the loop around it, and the classifier that most people want."""

from __future__ import annotations

from .callbacks import Snapshot, best_model, csv_log, early_stopping, tensorboard
from .checkpoint import Checkpoints
from .classifier import Classifier, load
from .history import Epoch, History
from .interrupt import Interrupted
from .loop import Batch, Figures, Run, run_epoch
from .lr_finder import Rates, find_lr
from .parallel import MpiRanks, mpi_ranks
from .ranks import Ranks
from .step import StepResult, init_state, train_step

__all__ = [
    "Batch",
    "Checkpoints",
    "Classifier",
    "Epoch",
    "Figures",
    "History",
    "Interrupted",
    "MpiRanks",
    "Ranks",
    "Rates",
    "Run",
    "Snapshot",
    "StepResult",
    "best_model",
    "csv_log",
    "early_stopping",
    "find_lr",
    "init_state",
    "load",
    "mpi_ranks",
    "run_epoch",
    "tensorboard",
    "train_step",
]
