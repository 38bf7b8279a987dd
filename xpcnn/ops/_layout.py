"""Channels-last arguments are permuted views: everything below an op sees logical NCHW."""

from __future__ import annotations

from .._check import require_axes
from .._xp import Array, namespace

NAMES = {0: ("NC", "NC"), 1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
"""Channels first and last by the rank of space; without space they are the same."""


def channels_first(call: str, x: Array, layout: str, rank: int) -> Array:
    """View x, laid out as `layout` names, as (N, C, *space)."""
    first, last = NAMES[rank]
    if layout == first:
        return x
    if layout != last:
        raise ValueError(f"{call}: layout={layout!r}; give {first!r} or {last!r}")
    require_axes(call, "x", x.shape, last)
    return namespace(x).permute_dims(x, (0, rank + 1, *range(1, rank + 1)))


def from_channels_first(y: Array, layout: str) -> Array:
    """View y (N, C, *space) as `layout` names."""
    if layout[1] == "C":
        return y
    return namespace(y).permute_dims(y, (0, *range(2, y.ndim), 1))
