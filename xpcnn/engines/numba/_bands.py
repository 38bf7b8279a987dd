"""Bands: what a few rows of outputs read, padded and with channels last, so that a tile finds it.

Space has three axes here, D, H and W; a convolution of fewer has leading axes of size 1. A window
is twelve integers: kernel, stride, dilation and the padding before, three of each. A unit is a few
rows of one output plane, or where a row is long a part of it.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from ._moves import clear_bytes, copy_bytes

Geometry = tuple[int, ...]
"""A window as twelve integers."""


class Unit(NamedTuple):
    """The outputs from row `top` and column `left` on of an image's plane."""

    image: int
    plane: int
    top: int
    left: int
    rows: int
    columns: int


@njit
def band_shape(window, rows, columns, channels):
    """Planes, rows, columns and channels that a unit of so many rows and columns reads."""
    kd, kh, kw, _, sh, sw, _, dh, dw, _, _, _ = window
    read = (rows - 1) * sh + dh * (kh - 1) + 1
    return kd, read, (columns - 1) * sw + dw * (kw - 1) + 1, channels


@njit
def units_of(shape, rows, columns):
    """How many units of so many rows and columns outputs (N, D, H, W, C) have."""
    return shape[0] * shape[1] * -(-shape[2] // rows) * -(-shape[3] // columns)


@njit
def unit_at(number, shape, rows, columns):
    """The unit of that number, of outputs (N, D, H, W, C) in units of so many rows and columns."""
    _, planes, height, width, _ = shape
    across, down = -(-width // columns), -(-height // rows)
    plane, top, left = number // (across * down), number // across % down * rows, number % across
    left *= columns
    return Unit(
        plane // planes, plane % planes, top, left, min(rows, height - top),
        min(columns, width - left),
    )  # fmt: skip


@njit
def open_band(band, x, window, unit, first_channel, in_place):
    """Address of what the unit's first output reads first; bytes between planes, rows and columns.

    Either it is copied into `band` (planes, rows, columns, channels), or read where it is: then it
    must have no padding, and channels side by side.
    """
    _, kh, _, sd, sh, sw, dd, dh, _, bd, bh, bw = window
    depth, height, width = unit.plane * sd - bd, unit.top * sh - bh, unit.left * sw - bw
    if in_place:
        start = x.ctypes.data + unit.image * x.strides[0] + first_channel * x.strides[4]
        start += depth * x.strides[1] + height * x.strides[2] + width * x.strides[3]
        return start, dd * x.strides[1], x.strides[2], x.strides[3]
    for number in range(band.shape[0]):
        for row in range((unit.rows - 1) * sh + dh * (kh - 1) + 1):
            fill_row(
                band[number, row], x, unit.image, depth + number * dd, height + row, width,
                first_channel,
            )  # fmt: skip
    return band.ctypes.data, band.strides[0], band.strides[1], band.strides[2]


@njit
def fill_row(to, x, image, depth, height, width, first_channel):
    """One row of a band, from column `width` on; what lies outside x is zero."""
    columns, channels = to.shape
    size = channels * to.itemsize
    left = min(max(0, -width), columns)
    right = max(left, min(columns, x.shape[3] - width))
    if not (0 <= depth < x.shape[1] and 0 <= height < x.shape[2]):
        left = right = columns
    clear_bytes(to.ctypes.data, left * size)
    clear_bytes(to.ctypes.data + right * size, (columns - right) * size)
    if left == right:
        return
    if x.strides[4] == to.itemsize or channels == 1:
        start = x.ctypes.data + image * x.strides[0] + depth * x.strides[1] + height * x.strides[2]
        start += (width + left) * x.strides[3] + first_channel * x.strides[4]
        if x.strides[3] == size:
            copy_bytes(to.ctypes.data + left * size, start, (right - left) * size)
            return
        if channels > 1:
            for column in range(left, right):
                copy_bytes(to.ctypes.data + column * size, start, size)
                start += x.strides[3]
            return
    for channel in range(channels):
        for column in range(left, right):
            to[column, channel] = x[image, depth, height, width + column, first_channel + channel]
