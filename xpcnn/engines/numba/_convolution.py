"""The three verbs of convolution: which algorithm each takes, and views that suit it."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..._xp import Array, product
from ...window import Window
from ..settings import current, note
from . import _direct, _winograd
from ._bands import Geometry
from ._jit import takes

WINOGRAD = {(3, 3): 4, (5, 5): 2}
"""Rows of a tile of outputs, by the kernel."""

CHANNELS, TILES = 16, 16
"""In and out, and of the whole batch, from which on Winograd's algorithm pays."""

ALL = (slice(None), slice(None))
"""The axes before space, whole."""


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    if not takes(x, w):
        return NotImplemented
    y = _channels_last((x.shape[0], w.shape[0], *window.out_size), x.dtype)
    if y.size:
        algorithm = _algorithm(w.shape, window, len(x), x.dtype)
        algorithm.forward(_spatial(x), _grouped(w, window), b, _geometry(window), _spatial(y))
    return y


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    if not takes(dy, w):
        return NotImplemented
    channels = w.shape[1] * window.groups
    classes = product(min(s, n) for s, n in zip(window.stride, window.in_size, strict=True))
    fill = None if len(window.adjoints) == classes else 0.0
    dx = _channels_last((dy.shape[0], channels, *window.in_size), dy.dtype, fill)
    last_first = (*ALL, *(slice(None, None, -1),) * window.rank)
    for inputs, places, part in window.adjoints if dx.size else ():
        turned = np.swapaxes(_grouped(w[(*ALL, *places)][last_first], window), 1, 2)
        algorithm = _algorithm(w.shape, part, len(dy), dy.dtype)
        to = _spatial(dx[(*ALL, *inputs)])
        algorithm.forward(_spatial(dy), turned, None, _geometry(part), to)
    return dx


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    if not takes(x, dy):
        return NotImplemented
    shape = (dy.shape[1], x.shape[1] // window.groups, *window.kernel)
    dw = np.zeros(shape, x.dtype)
    if dw.size and dy.size:
        algorithm = _algorithm(dw.shape, window, len(x), x.dtype)
        algorithm.weight_gradient(
            _spatial(x), _spatial(dy), _geometry(window), _grouped(dw, window)
        )
    return dw


def _algorithm(
    w_shape: tuple[int, ...], window: Window, images: int, dtype: np.dtype
) -> ModuleType:
    """What computes a convolution, or its weight gradient, of so many images."""
    against = _against_winograd(w_shape, window, images, dtype)
    if against:
        note("direct", against)
        return _direct
    note("winograd", "36 products a channel pair make a tile of outputs")
    return _winograd


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


def _channels_last(shape: tuple[int, ...], dtype: np.dtype, fill: float | None = None) -> Array:
    """A new (N, C, *space) array, channels last in memory."""
    n, channels, *space = shape
    make = np.empty if fill is None else np.zeros
    return np.moveaxis(make((n, *space, channels), dtype), -1, 1)


def _spatial(x: Array) -> Array:
    """x (N, C, *space) as a view (N, D, H, W, C)."""
    last = np.moveaxis(x, 1, -1)
    return last[(slice(None), *(None,) * (5 - x.ndim))]


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
