"""NumPy, in blocks: columns of a few outputs at a time, straight into a matrix product.

Convolutions keep channels last in memory under an NCHW shape, so that every copy and every product
runs along contiguous channels, and the next layer finds them so. Beyond inputs, outputs and one
repacked copy of the weights, no call takes more memory than the workspace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._xp import Array, product
from ..window import Window
from . import Divisor, generic
from .settings import current

BLOCK = 4 * 2**20
"""Bytes of columns at a time: few enough for the cache, enough to keep a product's threads busy."""

FEW_CHANNELS = 8
"""Below this, columns are stored with outputs contiguous: runs of channels would be too short."""

ALL: Any = (slice(None), slice(None))
"""The two axes before space or before columns, whole."""

BYTES_OF_INDEXING = 16
"""What pooling's temporaries take for each output: a place in int64, and masks."""

Box = tuple[slice, ...]


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    out_channels, per_group = w.shape[:2]
    y = np.empty((x.shape[0], *window.out_size, out_channels), x.dtype)
    if y.size == 0:
        return np.moveaxis(y, -1, 1)
    images, weights = _grouped(x, window.groups), _pack(w, window.groups)
    product_of = _depthwise if per_group == 1 and window.groups > 1 else _columns_product
    for box, part in _blocks(y.shape[:-1], window, _bytes_of_columns(w, window)):
        product_of(images[:, box[0]], weights, part, y[box])
        if b is not None:
            y[box] += b
    return np.moveaxis(y, -1, 1)


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    if set(window.stride) == {1}:
        return conv(dy, _rotated(w, window.groups), window.adjoint)
    groups, channels = window.groups, w.shape[1] * window.groups
    dx = np.zeros((dy.shape[0], *window.in_size, channels), dy.dtype)
    if dx.size == 0:
        return np.moveaxis(dx, -1, 1)
    images = _grouped(np.moveaxis(dx, -1, 1), groups)
    grads, weights = _grouped(dy, groups), np.swapaxes(_pack(w, groups), 1, 2)
    for box, part in _blocks((dy.shape[0], *window.out_size), window, _bytes_of_columns(w, window)):
        piece = grads[(slice(None), *box)]
        cols = np.matmul(piece.reshape(groups, -1, piece.shape[-1]), weights)
        cols = cols.reshape(*piece.shape[:-1], *window.kernel, w.shape[1])
        for place, outputs, inputs in part.taps:
            images[(slice(None), box[0], *inputs)] += cols[(*ALL, *outputs, *place)]
    return np.moveaxis(dx, -1, 1)


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    groups, per_group = window.groups, x.shape[1] // window.groups
    w_shape = (dy.shape[1], per_group, *window.kernel)
    rows = product(w_shape[1:])
    dw = np.zeros((groups, rows, dy.shape[1] // groups), x.dtype)
    images, grads = _grouped(x, groups), _grouped(dy, groups)
    each = (rows * groups + dy.shape[1]) * x.itemsize
    for box, part in _blocks((x.shape[0], *window.out_size), window, each):
        piece = grads[(slice(None), *box)].reshape(groups, -1, dw.shape[2])
        dw += np.matmul(np.swapaxes(_columns(images[:, box[0]], part), 1, 2), piece)
    return _unpack(dw, w_shape, groups)


def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    y = _like(x, window.out_size, least, x.dtype)
    index = _like(x, window.out_size, -1, np.int64) if indices else None
    for part, around, best, read, found in _planes(window, y, x, index):
        for _, outputs, inputs in part.taps:
            held, value = best[(*around, *outputs)], read[(*around, *inputs)]
            if found is None:
                np.maximum(held, value, out=held)
                continue
            held_at = found[(*around, *outputs)]
            new = (value > held) | ((value != value) & (held == held)) | (held_at < 0)
            np.copyto(held, value, where=new)
            np.copyto(held_at, _places(part, around, inputs), where=new)
    return y, index


def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    dx = _like(dy, window.in_size, 0, dy.dtype)
    for part, around, grads, to, found in _planes(window, dy, dx, indices):
        for _, outputs, inputs in part.taps:
            here = found[(*around, *outputs)] == _places(part, around, inputs)
            total = to[(*around, *inputs)]
            np.add(total, grads[(*around, *outputs)], out=total, where=here)
    return dx


def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    y = _like(x, window.out_size, 0, x.dtype)
    for part, around, total, read, _ in _planes(window, y, x):
        for _, outputs, inputs in part.taps:
            total[(*around, *outputs)] += read[(*around, *inputs)]
    y /= generic.as_divisor(x, divisor)
    return y


def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    dx = _like(dy, window.in_size, 0, dy.dtype)
    scale = np.broadcast_to(np.asarray(generic.as_divisor(dy, divisor), dy.dtype), dy.shape)
    for part, around, grads, to, divide_by in _planes(window, dy, dx, scale):
        share = grads / divide_by
        for _, outputs, inputs in part.taps:
            to[(*around, *inputs)] += share[(*around, *outputs)]
    return dx


def im2col(x: Array, window: Window) -> Array:
    n, channels = x.shape[:2]
    cols = np.zeros((n, channels, *window.kernel, *window.out_size), x.dtype)
    for place, outputs, inputs in window.taps:
        cols[(*ALL, *place, *outputs)] = x[(*ALL, *inputs)]
    return cols.reshape(n, channels * product(window.kernel), product(window.out_size))


def col2im(cols: Array, window: Window) -> Array:
    n, channels = cols.shape[0], cols.shape[1] // product(window.kernel)
    cols = cols.reshape(n, channels, *window.kernel, *window.out_size)
    x = np.zeros((n, channels, *window.in_size), cols.dtype)
    for place, outputs, inputs in window.taps:
        x[(*ALL, *inputs)] += cols[(*ALL, *place, *outputs)]
    return x


def _columns_product(images: Array, weights: Array, part: Window, y: Array) -> None:
    """Set y (n, *out, O) to the columns of images (G, n, *in, C/G) times weights.

    The weights are packed: (G, K*C/G, O/G).
    """
    cols = _columns(images, part)
    if part.groups == 1:
        np.matmul(cols[0], weights[0], out=y.reshape(-1, y.shape[-1]))
    else:
        by_group = y.reshape(-1, part.groups, weights.shape[2])
        by_group[...] = np.swapaxes(np.matmul(cols, weights), 0, 1)


def _depthwise(images: Array, weights: Array, part: Window, y: Array) -> None:
    """The same where each group has one channel: a multiply and add for each kernel place."""
    groups, _, multiplier = weights.shape
    weights = weights.reshape(groups, *part.kernel, multiplier)
    y[...] = 0
    y = y.reshape(*y.shape[:-1], groups, multiplier)
    for place, outputs, inputs in part.taps:
        read = np.moveaxis(images[(*ALL, *inputs)], 0, -2)
        y[(slice(None), *outputs)] += read * weights[(slice(None), *place)]


def _columns(images: Array, part: Window) -> Array:
    """What the outputs of `part` read in images (G, n, *in, C/G), as (G, outputs, K*C/G)."""
    groups, n, channels = images.shape[0], images.shape[1], images.shape[-1]
    if product(part.kernel) == 1 and not part.reads_padding:
        ((_, _, inputs),) = part.taps
        return images[(*ALL, *inputs)].reshape(groups, -1, channels)
    allocate = np.zeros if part.reads_padding else np.empty
    if channels < FEW_CHANNELS:
        shape = (groups, *part.kernel, channels, n, *part.out_size)
        last = range(part.rank + 2, len(shape))
        cols = np.moveaxis(allocate(shape, images.dtype), last, range(1, part.rank + 2))
    else:
        cols = allocate((groups, n, *part.out_size, *part.kernel, channels), images.dtype)
    for place, outputs, inputs in part.taps:
        cols[(*ALL, *outputs, *place)] = images[(*ALL, *inputs)]
    return cols.reshape(groups, -1, product(part.kernel) * channels)


def _blocks(
    shape: tuple[int, ...], window: Window, each: int
) -> Iterator[tuple[tuple[slice, ...], Window]]:
    """Boxes of outputs (N, *out), `each` bytes an output, that fit a block; and their windows."""
    for box in _boxes(shape, each):
        yield box, window.part(box[1:])


def _planes(
    window: Window, y: Array, x: Array, beside: Array | None = None
) -> Iterator[tuple[Window, Box, Array, Array, Any]]:
    """Pieces of a pooling that fit a block: window, whole axes before space, and views of each.

    The views are of outputs y, of all that may be read or written in x, and of what lies beside y
    (indices, divisors). Channels stay the last axis where they are so in memory, so that pieces are
    contiguous there.
    """
    if last := _channels_last(y):
        y, x = np.moveaxis(y, 1, -1), np.moveaxis(x, 1, -1)
        beside = None if beside is None else np.moveaxis(beside, 1, -1)
    lead, after = (1, 1 + window.rank) if last else (2, 2 + window.rank)
    for box in _boxes(y.shape, BYTES_OF_INDEXING):
        part, around = window.part(box[lead:after]), ALL[:lead]
        planes = (*box[:lead], *(slice(None),) * window.rank, *box[after:])
        yield part, around, y[box], x[planes], None if beside is None else beside[box]


def _places(window: Window, around: Box, inputs: Box) -> Array:
    """Flat numbers of the inputs that a tap reads, to broadcast against its view."""
    total = np.zeros((), np.int64)
    for size, reads in zip(window.in_size, inputs, strict=True):
        total = total[..., None] * size + np.arange(reads.start, reads.stop, reads.step)
    return total if len(around) == 2 else total[..., None]


def _boxes(shape: tuple[int, ...], each: int) -> Iterator[Box]:
    """Tile `shape` in row-major order by contiguous boxes that fit a block at `each` bytes an item.

    A block is BLOCK bytes, or the workspace where that is less; a box holds at least one item.
    """
    if 0 in shape:
        return
    items = max(1, min(BLOCK, current().workspace) // each)
    axis = next(a for a in range(len(shape)) if product(shape[a + 1 :]) <= items)
    step = items // product(shape[axis + 1 :])
    whole = tuple(slice(0, n) for n in shape[axis + 1 :])
    for lead in np.ndindex(*shape[:axis]):
        ones = tuple(slice(i, i + 1) for i in lead)
        for start in range(0, shape[axis], step):
            yield (*ones, slice(start, min(start + step, shape[axis])), *whole)


def _grouped(x: Array, groups: int) -> Array:
    """x (N, C, *space) as a view (G, N, *space, C/G)."""
    n, channels, *space = x.shape
    return np.moveaxis(x.reshape(n, groups, channels // groups, *space), (1, 2), (0, -1))


def _pack(w: Array, groups: int) -> Array:
    """Weights (O, C/G, *kernel) in the order of columns: (G, K*C/G, O/G)."""
    by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    packed = np.moveaxis(by_group, (1, 2), (-1, -2))
    return np.ascontiguousarray(packed).reshape(groups, -1, by_group.shape[1])


def _unpack(packed: Array, w_shape: tuple[int, ...], groups: int) -> Array:
    """Inverse of `_pack`."""
    out_channels, per_group, *kernel = w_shape
    by_place = packed.reshape(groups, *kernel, per_group, out_channels // groups)
    return np.ascontiguousarray(np.moveaxis(by_place, (-1, -2), (1, 2))).reshape(w_shape)


def _rotated(w: Array, groups: int) -> Array:
    """Weights turned by 180 degrees, with input and output channels exchanged in each group."""
    out_channels, per_group, *kernel = w.shape
    by_group = w.reshape(groups, out_channels // groups, per_group, *kernel)
    turned = np.flip(by_group, axis=tuple(range(3, by_group.ndim)))
    return np.swapaxes(turned, 1, 2).reshape(groups * per_group, -1, *kernel)


def _bytes_of_columns(w: Array, window: Window) -> int:
    """What one output needs: its columns, and its values or gradients where they are copied."""
    return w.itemsize * (window.groups * product(w.shape[1:]) + w.shape[0])


def _like(x: Array, space: tuple[int, ...], fill: float, dtype: Any) -> Array:
    """A new (N, C, *space) array that keeps channels last in memory where x does."""
    n, channels = x.shape[:2]
    if _channels_last(x):
        return np.moveaxis(np.full((n, *space, channels), fill, dtype), -1, 1)
    return np.full((n, channels, *space), fill, dtype)


def _channels_last(x: Array) -> bool:
    return x.shape[1] > 1 and x.strides[1] == x.itemsize
