"""Depthwise convolutions: sums over kernel places of each channel by itself, in one einsum.

Its inner loop multiplies and adds along memory. Where the stride is 1, neighbouring outputs of a
row are one run of it, channels and columns together, with the weights repeated for each column.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..._xp import Array
from ...window import Window
from ._blocks import boxes_of_outputs, reads

RUN = 1024
"""Numbers of a run of outputs: more, and what several kernel places use again leaves the cache."""


def convolve(x: Array, w: Array, window: Window, y: Array) -> Iterator[Array]:
    """Set y (N, *out, O) to the convolution of x (N, *in, C) by w (O, 1, *kernel).

    Yields every piece once set.
    """
    channels, times, rank = x.shape[-1], w.shape[0] // x.shape[-1], window.rank
    by_place = np.moveaxis(w[:, 0], 0, -1)
    for box in boxes_of_outputs(x, window, 2 * y.shape[-1]):
        view = reads(x, window, box)
        together = _together(window, view.shape[rank], RUN // channels)
        seen = _rows(view, window, together)
        places, outputs = _labels(seen, rank)
        for i in range(times):
            to = y[box][..., i::times]
            weights = np.ascontiguousarray(np.tile(by_place[..., i::times], together))
            arguments = seen, range(seen.ndim), weights, places, outputs
            if to.flags.c_contiguous:
                np.einsum(*arguments, out=to.reshape(*seen.shape[:rank], *seen.shape[2 * rank :]))
            else:
                to[...] = np.einsum(*arguments).reshape(to.shape)
        yield y[box]


def weight_gradient(x: Array, dy: Array, window: Window) -> Array:
    """The gradient of w (O, 1, *kernel) from x (N, *in, C) and dy (N, *out, O)."""
    channels, out_channels, rank = x.shape[-1], dy.shape[-1], window.rank
    times = out_channels // channels
    dw = np.zeros((out_channels, 1, *window.kernel), x.dtype)
    for box in boxes_of_outputs(x, window, 2 * out_channels):
        view = reads(x, window, box)
        seen = _rows(view, window, _together(window, view.shape[rank], view.shape[rank]))
        places, outputs = _labels(seen, rank)
        for i in range(times):
            piece = dy[box][..., i::times].reshape(*seen.shape[:rank], *seen.shape[2 * rank :])
            sums = np.einsum(seen, range(seen.ndim), piece, outputs, places)
            sums = sums.reshape(*window.kernel, -1, channels).sum(-2)
            dw[i::times, 0] += np.moveaxis(sums, -1, 0)
    return dw


def _together(window: Window, columns: int, most: int) -> int:
    """How many neighbouring outputs to take as one run: a divisor of a row's, `most` at most."""
    if window.stride[-1] > 1:
        return 1
    return next(n for n in range(max(1, min(columns, most)), 0, -1) if columns % n == 0)


def _rows(view: Array, window: Window, together: int) -> Array:
    """What outputs read as (n, all axes of out but the last, *kernel, runs, a run of outputs)."""
    view = np.moveaxis(view, window.rank, -2)
    columns, channels = view.shape[-2:]
    return view.reshape(*view.shape[:-2], columns // together, together * channels)


def _labels(seen: Array, rank: int) -> tuple[list[int], list[int]]:
    """The axes of kernel places with a run, and those of outputs."""
    axes = list(range(seen.ndim))
    return [*axes[rank : 2 * rank], axes[-1]], axes[:rank] + axes[2 * rank :]
