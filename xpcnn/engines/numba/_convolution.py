"""The three verbs of convolution: which algorithm each takes, and views that suit it."""

from __future__ import annotations

import numpy as np

from ..._xp import Array, product
from ...window import Window
from ..settings import current, note
from . import _correlation, _direct, _winograd
from ._arrays import logical, new, spatial
from ._bands import Geometry
from ._jit import takes

WINOGRAD = {(3, 3): 4, (5, 5): 2}
"""Rows of a tile of outputs, by the kernel."""

CHANNELS, TILES = 16, 16
"""In and out, and of the whole batch, from which on Winograd's algorithm pays."""

FORWARD = {"direct": _direct.forward, "winograd": _winograd.forward}
WEIGHT_GRADIENT = {
    "direct": _correlation.weight_gradient,
    "winograd": _winograd.weight_gradient,
}

ALL = (slice(None), slice(None))
"""The axes before space, whole."""


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    if not takes(x, w):
        return NotImplemented
    y = new(len(x), window.out_size, len(w), x.dtype)
    if y.size:
        forward = FORWARD[_algorithm(w.shape, window, len(x), x.dtype)]
        forward(spatial(x), _grouped(w, window), b, _geometry(window), y)
    return logical(y, window.rank)


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    if not takes(dy, w):
        return NotImplemented
    channels = w.shape[1] * window.groups
    classes = product(min(s, n) for s, n in zip(window.stride, window.in_size, strict=True))
    dx = logical(new(len(dy), window.in_size, channels, dy.dtype), window.rank)
    if len(window.adjoints) < classes:  # some inputs are read by no output
        dx[...] = 0
    last_first = (*ALL, *(slice(None, None, -1),) * window.rank)
    for inputs, places, part in window.adjoints if dx.size else ():
        turned = np.swapaxes(_grouped(w[(*ALL, *places)][last_first], window), 1, 2)
        forward = FORWARD[_algorithm(w.shape, part, len(dy), dy.dtype)]
        to = spatial(dx[(*ALL, *inputs)])
        forward(spatial(dy), turned, None, _geometry(part), to)
    return dx


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    if not takes(x, dy):
        return NotImplemented
    shape = (dy.shape[1], x.shape[1] // window.groups, *window.kernel)
    dw = np.zeros(shape, x.dtype)
    if dw.size and dy.size:
        gradient = WEIGHT_GRADIENT[_algorithm(dw.shape, window, len(x), x.dtype)]
        gradient(spatial(x), spatial(dy), _geometry(window), _grouped(dw, window))
    return dw


def _algorithm(w_shape: tuple[int, ...], window: Window, images: int, dtype: np.dtype) -> str:
    """What computes a convolution, or its weight gradient, of so many images."""
    against = _against_winograd(w_shape, window, images, dtype)
    algorithm = "direct" if against else "winograd"
    note(algorithm, against or "36 products a channel pair make a tile of outputs")
    return algorithm


def _against_winograd(
    w_shape: tuple[int, ...], window: Window, images: int, dtype: np.dtype
) -> str:
    """Why Winograd's algorithm does not apply or would not pay, if so."""
    if window.kernel not in WINOGRAD:
        return "Winograd's algorithm takes kernels of 3x3 and 5x5"
    if set(window.stride) != {1} or set(window.dilation) != {1} or window.groups > 1:
        return "Winograd's algorithm takes no stride, dilation or groups"
    if dtype != np.float32 or not current().winograd:
        return "Winograd's algorithm takes float32, and winograd=True"
    if min(w_shape[:2]) < CHANNELS:
        return f"Winograd's algorithm pays from {CHANNELS} channels on, in and out"
    side = WINOGRAD[window.kernel]
    tiles = images * product(-(-n // side) for n in window.out_size)
    return f"Winograd's algorithm pays from {TILES} tiles on" if tiles < TILES else ""


def _grouped(w: Array, window: Window) -> Array:
    """w (O, C/G, *kernel) as (G, O/G, C/G, KD, KH, KW)."""
    _, channels, *kernel = w.shape
    ones = (1,) * (3 - window.rank)
    return w.reshape(window.groups, -1, channels, *ones, *kernel)


def _geometry(window: Window) -> Geometry:
    before = tuple(pair[0] for pair in window.padding)
    lead = 3 - window.rank
    return (
        *(1,) * lead, *window.kernel, *(1,) * lead, *window.stride,
        *(1,) * lead, *window.dilation, *(0,) * lead, *before,
    )  # fmt: skip
