"""Dropout: noise that is a function of a key."""

from __future__ import annotations

from .._check import require_share
from .._xp import Array, device_of, namespace
from ..random import Key, bits, require_key
from ._op import op

RESOLUTION = 24  # random bits compared with p: as many as float32 has


@op
def dropout(x: Array, p: float = 0.5, *, key: Key) -> Array:
    """Set each entry of x to 0 with probability p and divide the others by 1 - p.

    Returns x's shape and dtype. The same key and shape drop the same entries, whatever the dtype,
    the library and the memory layout; draw a fresh one for each step with `xpcnn.random.fold_in`.

    Raises ValueError for a p outside [0, 1], TypeError for a key that is none.

    >>> import numpy as np
    >>> import xpcnn.random
    >>> dropout(np.ones(8), 0.25, key=xpcnn.random.key(0)).round(2)
    array([1.33, 1.33, 1.33, 0.  , 1.33, 0.  , 1.33, 1.33])

    Source: Srivastava et al., "Dropout", JMLR 15, 2014; scaled in training ("inverted"), so that
    inference is the identity.
    """
    return _drop(x, p, _kept(x, p, key))


@dropout.pullback
def _(x, p=0.5, *, key):
    kept = _kept(x, p, key)
    return _drop(x, p, kept), lambda dy: (_drop(dy, p, kept),)


def _kept(x: Array, p: float, key: Key) -> Array | None:
    """Where entries stay; None where all do."""
    require_share("dropout", "p", p)
    require_key("dropout", key)
    if p == 0.0:
        return None
    high = bits(key, tuple(x.shape), namespace(x), device_of(x)) >> (32 - RESOLUTION)
    return (high & (2**RESOLUTION - 1)) < round((1.0 - p) * 2**RESOLUTION)


def _drop(x: Array, p: float, kept: Array | None) -> Array:
    if kept is None:
        return x
    scale = 1.0 / (1.0 - p) if p < 1.0 else 1.0
    return namespace(x).where(kept, x * scale, namespace(x).zeros_like(x))
