"""Training: one step, the loop around it, and the classifier that most people want."""

from __future__ import annotations

from .classifier import Classifier, load
from .history import Epoch, History
from .loop import Progress, run_epoch
from .step import Step, train_step

__all__ = ["Classifier", "Epoch", "History", "Progress", "Step", "load", "run_epoch", "train_step"]
