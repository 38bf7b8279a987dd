"""What a network has learned: its layers' outputs, what decided, and where it errs.

Arrays of any library come in, and maps of the same library out; what is counted is NumPy's.
"""

from __future__ import annotations

from .activations import features
from .attribution import grad_cam, saliency, spatial_layers
from .scores import ClassScores, class_scores, confusion_matrix, most_confident_mistakes

__all__ = [
    "ClassScores",
    "class_scores",
    "confusion_matrix",
    "features",
    "grad_cam",
    "most_confident_mistakes",
    "saliency",
    "spatial_layers",
]
