"""Depthwise convolutions: sums over kernel places of each channel by itself, in one einsum.

Its inner loop multiplies and adds along memory. Where the stride is 1, a whole row of outputs is
one run of it, channels and columns together, with the weights repeated for each column.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..._xp import Array
from ...window import Window
from ._blocks import Box, boxes_of_outputs, reads


def convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Box]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w (O, 1, *kernel).

    Yields every box once set.
    """
    times, rank = w.shape[0] // x.shape[-1], window.rank
    rows = [_repeated(w[i::times, 0], window) for i in range(times)]
    for box in boxes_of_outputs(x, y, window, 2 * y.shape[-1]):
        seen = _rows(reads(x, window, box), window)
        places, outputs = _labels(seen, rank)
        for i, row in enumerate(rows):
            to = y[box][..., i::times]
            arguments = seen, range(seen.ndim), row[..., : seen.shape[-1]], places, outputs
            if to.flags.c_contiguous:
                np.einsum(*arguments, out=to.reshape(*seen.shape[:rank], *seen.shape[2 * rank :]))
            else:
                to[...] = np.einsum(*arguments).reshape(to.shape)
        yield box


def weight_gradient(x: Array, dy: Array, window: Window) -> Array:
    """The gradient of w (O, 1, *kernel) from x (N, *in, C) and dy (N, *out, O)."""
    channels, out_channels, rank = x.shape[-1], dy.shape[-1], window.rank
    times = out_channels // channels
    dw = np.zeros((out_channels, 1, *window.kernel), x.dtype)
    for box in boxes_of_outputs(x, dy, window, 2 * out_channels):
        seen = _rows(reads(x, window, box), window)
        places, outputs = _labels(seen, rank)
        for i in range(times):
            piece = dy[box][..., i::times].reshape(*seen.shape[:rank], *seen.shape[2 * rank :])
            sums = np.einsum(seen, range(seen.ndim), piece, outputs, places)
            sums = sums.reshape(*window.kernel, -1, channels).sum(-2)
            dw[i::times, 0] += np.moveaxis(sums, -1, 0)
    return dw


def _repeated(w: Array, window: Window) -> Array:
    """Weights (C, *kernel) as (*kernel, row of outputs)."""
    w = np.moveaxis(w, 0, -1)[..., None, :]
    if window.stride[-1] == 1:
        return np.tile(w, (window.out_size[-1], 1)).reshape(*window.kernel, -1)
    return np.ascontiguousarray(w)


def _rows(view: Array, window: Window) -> Array:
    """What outputs read as (n, all axes of out but the last, *kernel, row of outputs).

    A row is (columns, C), or (columns * C,) where these are one run in memory.
    """
    view = np.moveaxis(view, window.rank, -2)
    if window.stride[-1] == 1:
        return view.reshape(*view.shape[:-2], -1)
    return view


def _labels(seen: Array, rank: int) -> tuple[list[int], list[int]]:
    """The axes of kernel places with a row, and those of outputs."""
    axes = list(range(seen.ndim))
    return axes[rank:], axes[:rank] + axes[2 * rank :]
