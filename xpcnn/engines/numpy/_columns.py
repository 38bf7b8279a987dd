"""Convolutions as products of matrices: columns of what outputs read, times the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..._xp import Array, product
from ...window import Window
from ._blocks import boxes_of_outputs, has_short_rows, reads


def convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Array]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w; yields every piece once set."""
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
    groups, per_group, out_channels = window.groups, x.shape[-1] // window.groups, dy.shape[-1]
    rows = product(window.kernel) * per_group
    dw = np.zeros((groups, out_channels // groups, rows), x.dtype)
    for box in boxes_of_outputs(x, window, _copied(x, window), dw.nbytes):
        grads = _grouped(dy[box], groups).reshape(groups, -1, dw.shape[1])
        dw += np.matmul(np.swapaxes(grads, 1, 2), _columns_of(reads(x, window, box), window))
    by_place = dw.reshape(out_channels, *window.kernel, per_group)
    return np.ascontiguousarray(np.moveaxis(by_place, -1, 1))


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
