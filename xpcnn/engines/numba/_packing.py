"""Weights as tiles read them: blocks of output channels, each a matrix of its lanes."""

from __future__ import annotations

import numpy as np
from numba import njit

from ._jit import kernel, read, write
from ._moves import gather, move, move_real, transpose
from ._threads import taken
from ._tile import BLOCK_BYTES
from ._vectors import VECTOR_BYTES


@kernel(read(6), write(4))
def pack(tasks, w, packed):
    """packed (G, blocks, P*C/G, lanes) of w (G, O/G, C/G, KD, KH, KW), of P places.

    Tasks are groups and blocks.
    """
    blocks = packed.shape[1]
    for task in taken(tasks):
        pack_block(w[task // blocks], task % blocks, packed[task // blocks, task % blocks])


@njit
def pack_block(w, block, packed):
    """packed (P*C, lanes) of a block of w (O, C, KD, KH, KW), with zeros in lanes beyond O."""
    out_channels, lanes, size = len(w), packed.shape[1], w.itemsize
    places, channels, apart = _places(w)
    step, zero = VECTOR_BYTES // size, w.dtype.type(0)
    for v in range(0, lanes, step):
        real = min(step, max(0, out_channels - block * lanes - v))
        start, to = w[block * lanes + v :].ctypes.data, packed.ctypes.data + v * size
        if real < step:
            packed[:, v : v + step] = 0
        for channel in range(channels):
            for place in range(0, places.size, step):
                here = start + channel * w.strides[1]
                there = to + (place * channels + channel) * BLOCK_BYTES
                count = min(step, places.size - place)
                if apart == size:
                    transpose(
                        here + places[place], w.strides[0], real, count, there,
                        channels * BLOCK_BYTES, zero,
                    )  # fmt: skip
                elif apart == -size:
                    transpose(
                        here + places[place + count - 1], w.strides[0], real, count,
                        there + (count - 1) * channels * BLOCK_BYTES, -channels * BLOCK_BYTES, zero,
                    )  # fmt: skip
                else:
                    for more in range(count):
                        from_ = here + places[place + more]
                        at = there + more * channels * BLOCK_BYTES
                        if w.strides[0] == size:
                            move(from_, at, size, real, zero)
                        else:
                            gather(from_, at, w.strides[0], real, zero)


@njit
def _places(w):
    """Bytes to each place of w (O, C, KD, KH, KW), its channels, and the bytes between places.

    Those are 0 where they differ. Of a single place, the channels are taken for places.
    """
    _, channels, depth, height, width = w.shape
    if depth * height * width == 1:
        return np.arange(channels) * w.strides[1], 1, w.strides[1]
    places = np.empty(depth * height * width, np.intp)
    for place in range(places.size):
        plane, row, column = place // (height * width), place // width % height, place % width
        places[place] = plane * w.strides[2] + row * w.strides[3] + column * w.strides[4]
    apart = places[1] - places[0]
    for place in range(1, places.size):
        if places[place] - places[place - 1] != apart:
            return places, channels, 0
    return places, channels, apart


@kernel(write(5), write(6))
def unpack(tasks, sums, dw):
    """dw (G, O/G, C/G, KD, KH, KW), in order or with O last, the sum of all chunks of `sums`.

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
    """Inverse of `pack_block`, into a block of dw (O, C, KD, KH, KW) in order, or with O last."""
    out_channels, lanes, size = len(dw), packed.shape[1], dw.itemsize
    places, channels, apart = _places(dw)
    step, zero = VECTOR_BYTES // size, dw.dtype.type(0)
    for v in range(0, min(lanes, out_channels - block * lanes), step):
        real = min(step, out_channels - block * lanes - v)
        for channel in range(channels):
            here = dw[block * lanes + v :].ctypes.data + channel * dw.strides[1]
            for place in range(0, places.size, step):
                start = packed[place * channels + channel, v:].ctypes.data
                count = min(step, places.size - place)
                if apart == size:
                    transpose(
                        start, channels * BLOCK_BYTES, count, real, here + places[place],
                        dw.strides[0], zero,
                    )  # fmt: skip
                else:
                    for more in range(count):
                        from_ = start + more * channels * BLOCK_BYTES
                        move_real(from_, here + places[place + more], size, real, zero)
