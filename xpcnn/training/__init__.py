"""Training: one step, the loop around it, and the classifier that most people want."""

from __future__ import annotations

from .classifier import Classifier, load
from .history import Epoch, History
from .loop import Progress, run_epoch
from .step import StepResult, init_state, train_step

__all__ = [
    "Classifier",
    "Epoch",
    "History",
    "Progress",
    "StepResult",
    "init_state",
    "load",
    "run_epoch",
    "train_step",
]
