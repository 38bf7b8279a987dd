"""Dropout: noise that is a function of a key."""

from __future__ import annotations

from collections.abc import Callable

from .. import engines
from .._check import require_axes, require_share
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
    _check("dropout", p, key)
    return _dropped(x, *_noise(p), key) if p else x


@dropout.pullback
def _(x, p=0.5, *, key):
    _check("dropout", p, key)
    return _vjp(x, *_noise(p), key) if p else (x, lambda dy: (dy,))


@op
def dropout2d(x: Array, p: float = 0.5, *, key: Key) -> Array:
    """Set each channel of each image of x (N, C, H, W) to 0 with probability p, as a whole.

    Neighbours in a feature map are too alike for `dropout` to part them. Otherwise as there: the
    others are divided by 1 - p, and the same key drops the same channels everywhere.

    Raises ValueError for a p outside [0, 1] or an x that is no images, TypeError for a key that is
    none.

    >>> import numpy as np
    >>> import xpcnn.random
    >>> dropout2d(np.ones((1, 4, 1, 2)), 0.25, key=xpcnn.random.key(0)).round(2)[0, :, 0]
    array([[1.33, 1.33],
           [1.33, 1.33],
           [1.33, 1.33],
           [0.  , 0.  ]])

    Source: torch.nn.functional.dropout2d; Tompson et al., "Efficient object localization using
    convolutional networks", 2015.
    """
    y, _ = _channels_vjp(x, p, key)
    return y


@dropout2d.pullback
def _(x, p=0.5, *, key):
    return _channels_vjp(x, p, key)


def _channels_vjp(x: Array, p: float, key: Key) -> tuple[Array, Callable]:
    _check("dropout2d", p, key)
    require_axes("dropout2d", "x", x.shape, "NCHW")
    if not p:
        return x, lambda dy: (dy,)
    threshold, scale = _noise(p)
    kept = _kept(x, (*x.shape[:2], 1, 1), threshold, key)
    return _scaled(x, kept, scale), lambda dy: (_scaled(dy, kept, scale),)


def _vjp(x: Array, threshold: int, scale: float, key: Key) -> tuple[Array, Callable]:
    y = engines.offered("dropout", x, threshold, scale, key)
    if y is not NotImplemented:  # in one pass, in which another mask costs less than keeping one
        return y, lambda dy: (_dropped(dy, threshold, scale, key),)
    kept = _kept(x, tuple(x.shape), threshold, key)
    return _scaled(x, kept, scale), lambda dy: (_scaled(dy, kept, scale),)


@offered("dropout")
def _dropped(x: Array, threshold: int, scale: float, key: Key) -> Array:
    return _scaled(x, _kept(x, tuple(x.shape), threshold, key), scale)


def _kept(like: Array, shape: tuple[int, ...], threshold: int, key: Key) -> Array:
    """Where entries of `shape` stay, as an array like `like`."""
    high = bits(key, shape, namespace(like), device_of(like)) >> (32 - RESOLUTION)
    return (high & (2**RESOLUTION - 1)) < threshold


def _scaled(x: Array, kept: Array, scale: float) -> Array:
    return namespace(x).where(kept, x * scale, namespace(x).zeros_like(x))


def _noise(p: float) -> tuple[int, float]:
    """Below which number of the key an entry stays, and what it is multiplied by."""
    return round((1.0 - p) * 2**RESOLUTION), 1.0 / (1.0 - p) if p < 1.0 else 1.0


def _check(call: str, p: float, key: Key) -> None:
    require_share(call, "p", p)
    require_key(call, key)
