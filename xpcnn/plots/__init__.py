"""Pictures of networks and of what they compute, drawn by Matplotlib (the extra `plots`).

Each function takes arrays of any library and returns the figure: one of its own, or that of `ax`,
the axes it is told to draw into. Pixels are square, and colour-blind eyes can tell the colours
apart; those of lines are `COLOURS`.
"""

from __future__ import annotations

from ._draw import COLOURS
from .columns import columns
from .curves import learning_curves
from .field import receptive_field
from .filters import FILTERS, filter_gallery
from .heat import heat_map, heat_maps
from .kernels import kernels
from .maps import feature_maps, network_features
from .pooling import pooling
from .scores import confusion, mistakes
from .stages import stages
from .windows import convolution, numbers

__all__ = [
    "COLOURS",
    "FILTERS",
    "columns",
    "confusion",
    "convolution",
    "feature_maps",
    "filter_gallery",
    "heat_map",
    "heat_maps",
    "kernels",
    "learning_curves",
    "mistakes",
    "network_features",
    "numbers",
    "pooling",
    "receptive_field",
    "stages",
]
