"""Convolutions as products of matrices: columns of what outputs read, times the weights.

Few output channels make slow products, and neighbouring outputs read almost the same. There some of
them share a column, as the channels of one output of a wider kernel, with zeros in its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..._xp import Array, product
from ...window import Window
from ._blocks import boxes_of_outputs, has_short_rows, reads

ENOUGH_CHANNELS = 32
"""Outputs share columns up to these channels together."""

MOST_WIDENED = 1.6
"""How many times as wide as the kernel shared columns may be, zeros being multiplied too."""


def convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Array]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w; yields every piece once set."""
    share = _sharing(window, y)
    window, w = _widened(window, share), _repeated(w, window, share)
    y = y.reshape(len(y), *window.out_size, len(w))
    groups, by_place = window.groups, np.ascontiguousarray(np.moveaxis(w, 1, -1))
    weights = np.swapaxes(by_place.reshape(groups, w.shape[0] // groups, -1), 1, 2)
    each = _copied(x, window) + y.shape[-1]
    for box in boxes_of_outputs(x, window, each, weights.nbytes):
        cols, to = _columns_of(reads(x, window, box), window), y[box]
        if groups == 1 and to.flags.c_contiguous:
            np.matmul(cols[0], weights[0], out=to.reshape(-1, to.shape[-1]))
        else:
            to[...] = np.swapaxes(np.matmul(cols, weights), 0, 1).reshape(to.shape)
        yield to


def weight_gradient(x: Array, dy: Array, window: Window) -> Array:
    """The gradient of w (O, C/G, *kernel) from x (N, *in, C) and dy (N, *out, O)."""
    groups, per_group, share = window.groups, x.shape[-1] // window.groups, _sharing(window, dy)
    wide = _widened(window, share)
    dy = dy.reshape(len(dy), *wide.out_size, share * dy.shape[-1])
    rows = product(wide.kernel) * per_group
    wide_dw = np.zeros((groups, dy.shape[-1] // groups, rows), x.dtype)
    for box in boxes_of_outputs(x, wide, _copied(x, wide), wide_dw.nbytes):
        grads = _grouped(dy[box], groups).reshape(groups, -1, wide_dw.shape[1])
        wide_dw += np.matmul(np.swapaxes(grads, 1, 2), _columns_of(reads(x, wide, box), wide))
    by_place = np.moveaxis(wide_dw.reshape(share, -1, *wide.kernel, per_group), -1, 2)
    dw = np.zeros((by_place.shape[1], per_group, *window.kernel), x.dtype)
    for i, places in _places(window, share):
        dw += by_place[i, ..., places]
    return dw


def _sharing(window: Window, y: Array) -> int:
    """How many neighbouring outputs are to share columns: a divisor of a row's."""
    if window.groups > 1 or window.dilation[-1] > 1 or not y.flags.c_contiguous:
        return 1
    by_kernel = 1 + (MOST_WIDENED - 1) * window.kernel[-1] / window.stride[-1]
    most = max(1, min(ENOUGH_CHANNELS // y.shape[-1], int(by_kernel)))
    return next(n for n in range(most, 0, -1) if window.out_size[-1] % n == 0)


def _widened(window: Window, share: int) -> Window:
    """The window whose outputs are `share` neighbours each."""
    if share == 1:
        return window
    *kernel, last = window.kernel
    *stride, step = window.stride
    *out_size, columns = window.out_size
    return replace(
        window,
        kernel=(*kernel, last + (share - 1) * step),
        stride=(*stride, share * step),
        out_size=(*out_size, columns // share),
    )


def _repeated(w: Array, window: Window, share: int) -> Array:
    """Weights (O, C/G, *kernel) for each of `share` neighbours, in a wider kernel's places."""
    if share == 1:
        return w
    wide = np.zeros((share, *w.shape[:2], *_widened(window, share).kernel), w.dtype)
    for i, places in _places(window, share):
        wide[i, ..., places] = w
    return wide.reshape(-1, *wide.shape[2:])


def _places(window: Window, share: int) -> Iterator[tuple[int, slice]]:
    """Each neighbour's number, and its places in the wider kernel's last axis."""
    for i in range(share):
        start = i * window.stride[-1]
        yield i, slice(start, start + window.kernel[-1])


def needs_none(window: Window) -> bool:
    """Whether the columns are the input itself."""
    return set(window.kernel) == set(window.stride) == {1}


def _copied(x: Array, window: Window) -> int:
    """Numbers an output needs for its columns: none where they are x itself."""
    if needs_none(window):
        return 0
    return product(window.kernel) * x.shape[-1]


def _columns_of(view: Array, window: Window) -> Array:
    """Columns (G, outputs, K*C/G) of what a box of outputs reads: no copy of a 1x1 kernel's."""
    view = _grouped(view, window.groups)
    channels, inner = view.shape[-1], range(-window.rank - 1, 0)
    rows = product(window.kernel) * channels
    if has_short_rows(window, channels):
        view = np.moveaxis(view, inner, range(1, window.rank + 2))
        return np.swapaxes(view.reshape(window.groups, rows, -1), 1, 2)
    return view.reshape(window.groups, -1, rows)


def _grouped(x: Array, groups: int) -> Array:
    """x (..., C) as a view (G, ..., C/G)."""
    return np.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)
