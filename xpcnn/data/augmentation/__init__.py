"""Augmentation: random changes of a batch of images that leave their labels true.

What is drawn is drawn on the host, so that a key means the same change on every library; pixels are
moved where they are. Call a step before a compiled step, not in it: a traced key cannot be drawn
from.
"""

from __future__ import annotations

from .augment import Augment, parse_augment
from .geometric import Crop, Flip, Rotate, Scale, Shift
from .pixels import Colour, CutOut

__all__ = [
    "Augment",
    "Colour",
    "Crop",
    "CutOut",
    "Flip",
    "Rotate",
    "Scale",
    "Shift",
    "parse_augment",
]
