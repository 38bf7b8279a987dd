"""Resampling images by affine maps, one for each image of a batch.

A map (3, 3) tells where in the image a place of the result is read: in pixels from the image's
middle, x to the right, y down, as (x, y, 1). So of two changes, one after the other, the first's
map is the left factor of the product.
"""

from __future__ import annotations

import numpy as np

from ... import ops
from ..._xp import Array, device_of, index_dtype, library, namespace
from .step import EDGE

PIECE = 1 << 15  # pixels of a channel at a time on the host: what is computed stays in the cache
UNMOVED = np.eye(3)[:2]


def resample(x: Array, maps: np.ndarray, fill: float | str) -> Array:
    """Images x (N, C, H, W), float32 or float64, read where `maps` (N, 3, 3) tell, bilinearly.

    Outside an image lies `fill`, or with "edge" its nearest pixel. Maps by whole pixels move pixels
    as they are, and those that move none return x itself.

    >>> x = np.arange(6.0).reshape(1, 1, 2, 3)
    >>> resample(x, np.asarray([[[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]]]), 9.0)
    array([[[[0.5, 1.5, 5.5],
             [3.5, 4.5, 7. ]]]])

    Source: torch.nn.functional.grid_sample with padding_mode="zeros" or "border".
    """
    xp, images = namespace(x), x.shape[0]
    places = _in_pixels(maps, *x.shape[2:])
    if (places == UNMOVED).all():
        return x
    whole = bool((places == np.rint(places)).all())
    size = max(1, PIECE // (x.shape[2] * x.shape[3])) if library(x) == "numpy" else images
    starts = range(0, images, size)
    read = [_read(x[at : at + size, ...], places[at : at + size], fill, whole) for at in starts]
    return xp.reshape(read[0] if len(read) == 1 else xp.concat(read, axis=0), x.shape)


def _in_pixels(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """The maps (N, 2, 3) from column and row of the result to those of the image."""
    middle = np.asarray([(width - 1) / 2, (height - 1) / 2])
    turned = maps[:, :2, :2]
    moved = maps[:, :2, 2] + middle - turned @ middle
    return np.concatenate([turned, moved[:, :, None]], axis=2)


def _read(x: Array, maps: np.ndarray, fill: float | str, whole: bool) -> Array:
    """Some images resampled: (N, C*H*W).

    Around each channel a border is laid, of one pixel before and two after, so that the four pixels
    around any place in or on the border can be read without asking whether they are there.
    """
    xp, (images, channels, height, width) = namespace(x), x.shape
    border = 0.0 if fill == EDGE else fill
    wide = ops.pad(xp.permute_dims(x, (1, 0, 2, 3)), (1, 2, 1, 2), value=border)
    planes = xp.reshape(wide, (channels, -1))

    across, down = _places(x, maps, 1 if fill == EDGE else 0)
    column, row = xp.astype(across, xp.int32), xp.astype(down, xp.int32)
    first = xp.arange(images, dtype=index_dtype(xp), device=device_of(x))
    first = xp.reshape(first * ((height + 3) * (width + 3)), (-1, 1, 1))
    index = first + xp.astype(row * (width + 3) + column, first.dtype)

    def tap(offset: int) -> Array:
        flat = xp.reshape(index + offset, (-1,))
        return xp.reshape(xp.take(planes, flat, axis=1), (channels, images, height, width))

    if whole:
        y = tap(0)
    else:
        right, below = across - xp.astype(column, x.dtype), down - xp.astype(row, x.dtype)
        upper = _between(tap(0), tap(1), right)
        lower = _between(tap(width + 3), tap(width + 4), right)
        y = _between(upper, lower, below)
    return xp.reshape(xp.permute_dims(y, (1, 0, 2, 3)), (images, channels * height * width))


def _places(x: Array, maps: np.ndarray, inset: int) -> tuple[Array, Array]:
    """Where each pixel is read, in columns and rows of the image with its border: (N, H, W) each.

    What lies beyond the border is brought to it or, with an inset of 1, to the image's edge.
    """
    xp, (height, width) = namespace(x), x.shape[2:]
    device = device_of(x)
    right = xp.reshape(xp.arange(width, dtype=x.dtype, device=device), (1, 1, -1))
    down = xp.reshape(xp.arange(height, dtype=x.dtype, device=device), (1, -1, 1))
    numbers = xp.asarray(maps, dtype=x.dtype, device=device)

    def along(axis: int, size: int) -> Array:
        of_right, of_down, start = (xp.reshape(numbers[:, axis, i], (-1, 1, 1)) for i in range(3))
        place = (of_right * right + (start + 1.0)) + of_down * down
        return xp.clip(place, inset, size + 1 - inset)

    return along(0, width), along(1, height)


def _between(a: Array, b: Array, share: Array) -> Array:
    """a where the share is 0, to the bit."""
    return a + share * (b - a)
