"""Weights as tiles read them: blocks of output channels, each a matrix of its lanes."""

from __future__ import annotations

import numpy as np
from numba import njit

from ..._xp import Array
from ._jit import kernel, read, taken, write
from ._moves import gather, move, move_real, transpose
from ._tile import BLOCK_BYTES
from ._vectors import VECTOR_BYTES


def by_place(w: Array) -> Array:
    """w (G, O/G, C/G, KD, KH, KW) as (G, O/G, C/G, P); where P is 1, C/G stands in its stead."""
    groups, out_channels, channels = w.shape[:3]
    places = w.reshape(groups, out_channels, channels, -1)
    return np.swapaxes(places, 2, 3) if places.shape[3] == 1 else places


@kernel(read(4), write(4))
def pack(tasks, w, packed):
    """packed (G, blocks, P*C/G, lanes) of w (G, O/G, C/G, P), P being places.

    Tasks are groups and blocks.
    """
    blocks = packed.shape[1]
    for task in taken(tasks):
        pack_block(w[task // blocks], task % blocks, packed[task // blocks, task % blocks])


@njit
def pack_block(w, block, packed):
    """packed (P*C, lanes) of a block of w (O, C, P), with zeros in lanes beyond O."""
    (out_channels, channels, places), lanes, size = w.shape, packed.shape[1], w.itemsize
    step, zero = VECTOR_BYTES // size, w.dtype.type(0)
    for v in range(0, lanes, step):
        real = min(step, max(0, out_channels - block * lanes - v))
        start, to = w[block * lanes + v :].ctypes.data, packed.ctypes.data + v * size
        if real < step:
            packed[:, v : v + step] = 0
        for channel in range(channels):
            for place in range(0, places, step):
                here = start + channel * w.strides[1] + place * w.strides[2]
                there = to + (place * channels + channel) * BLOCK_BYTES
                count = min(step, places - place)
                if w.strides[2] == size:
                    transpose(here, w.strides[0], real, count, there, channels * BLOCK_BYTES, zero)
                elif w.strides[2] == -size:
                    transpose(
                        here - (count - 1) * size, w.strides[0], real, count,
                        there + (count - 1) * channels * BLOCK_BYTES, -channels * BLOCK_BYTES, zero,
                    )  # fmt: skip
                else:
                    for more in range(count):
                        from_, at = (
                            here + more * w.strides[2],
                            there + more * channels * BLOCK_BYTES,
                        )
                        if w.strides[0] == size:
                            move(from_, at, size, real, zero)
                        else:
                            gather(from_, at, w.strides[0], real, zero)


@kernel(write(5), write(4))
def unpack(tasks, sums, dw):
    """dw (G, O/G, C/G, P), O/G or P side by side, the sum of all chunks of `sums`.

    Their first becomes it. Tasks are groups and blocks.
    """
    blocks = sums.shape[2]
    for task in taken(tasks):
        group, block = task // blocks, task % blocks
        total = sums[0, group, block]
        for chunk in range(1, len(sums)):
            total += sums[chunk, group, block]
        unpack_block(total, block, dw[group])


@njit
def unpack_block(packed, block, dw):
    """Inverse of `pack_block`, into the block's part of dw (O, C, P), O or P side by side."""
    (out_channels, channels, places), lanes, size = dw.shape, packed.shape[1], dw.itemsize
    step, zero = VECTOR_BYTES // size, dw.dtype.type(0)
    for v in range(0, min(lanes, out_channels - block * lanes), step):
        real = min(step, out_channels - block * lanes - v)
        for channel in range(channels):
            for place in range(0, places, step):
                start = packed[place * channels + channel, v:].ctypes.data
                to = dw[block * lanes + v, channel, place:].ctypes.data
                count = min(step, places - place)
                if dw.strides[2] == size:
                    transpose(start, channels * BLOCK_BYTES, count, real, to, dw.strides[0], zero)
                else:
                    for more in range(count):
                        move_real(
                            start + more * channels * BLOCK_BYTES, to + more * dw.strides[2],
                            size, real, zero,
                        )  # fmt: skip
