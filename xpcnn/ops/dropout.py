"""Dropout: noise that is a function of a key."""

from __future__ import annotations

from collections.abc import Callable

from .. import engines
from .._check import require_share
from .._xp import Array, device_of, namespace
from ..random import Key, bits, require_key
from ._offered import offered
from ._op import op

RESOLUTION = 24  # random bits compared with p: as many as float32 has


@op(in_engines=True)
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
    _check(p, key)
    return _dropped(x, *_noise(p), key) if p else x


@dropout.pullback
def _(x, p=0.5, *, key):
    _check(p, key)
    return _vjp(x, *_noise(p), key) if p else (x, lambda dy: (dy,))


def _vjp(x: Array, threshold: int, scale: float, key: Key) -> tuple[Array, Callable]:
    y = engines.offered("dropout", x, threshold, scale, key)
    if y is not NotImplemented:  # in one pass, in which another mask costs less than keeping one
        return y, lambda dy: (_dropped(dy, threshold, scale, key),)
    kept = _kept(x, threshold, key)
    return _scaled(x, kept, scale), lambda dy: (_scaled(dy, kept, scale),)


@offered("dropout")
def _dropped(x: Array, threshold: int, scale: float, key: Key) -> Array:
    return _scaled(x, _kept(x, threshold, key), scale)


def _kept(x: Array, threshold: int, key: Key) -> Array:
    """Where entries stay."""
    high = bits(key, tuple(x.shape), namespace(x), device_of(x)) >> (32 - RESOLUTION)
    return (high & (2**RESOLUTION - 1)) < threshold


def _scaled(x: Array, kept: Array, scale: float) -> Array:
    return namespace(x).where(kept, x * scale, namespace(x).zeros_like(x))


def _noise(p: float) -> tuple[int, float]:
    """Below which number of the key an entry stays, and what it is multiplied by."""
    return round((1.0 - p) * 2**RESOLUTION), 1.0 / (1.0 - p) if p < 1.0 else 1.0


def _check(p: float, key: Key) -> None:
    require_share("dropout", "p", p)
    require_key("dropout", key)
