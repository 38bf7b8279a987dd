"""Convolutions as products of matrices: columns of what outputs read, times the weights.

    y (O, P) = w (O, E) cols (E, P)      E entries of a column: channels and kernel places
    cols     = w^T y, then col2im        P pixels: outputs of an image, or of all
    dw       = dy cols^T

Columns are made in pieces that fit the workspace: of some images, and where one image's are too
many, of some of its outputs (for dx, of some channels). They lie as the images do, channels first
or last. A 1x1 kernel's columns are the images themselves. Each group is a convolution of its own.

Every function says whether the least piece fits `room` bytes; where it does not, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from ..._xp import Array, product
from ...window import Ints, Window
from ._arrays import empty, is_channels_last, wider
from ._product import Matrices, copied_unless, known, matrices, multiplication
from ._runner import Runner
from ._windows import col2im, im2col

Box = tuple[slice, ...]


class Order(NamedTuple):
    """How pixels (N, O, *out), columns (N, C, K, *out) and weights (O, C, K) lie for a product.

    `last`: with channels last. `joined`: the pixels of all images are one axis of a matrix.
    """

    rank: int
    last: bool
    joined: bool

    def pixels(self, y: Array) -> Matrices | None:
        """(batch, O, P)"""
        space = tuple(range(2, 2 + self.rank))
        return matrices(y, *(((), (1,), (0, *space)) if self.joined else ((0,), (1,), space)))

    def columns(self, cols: Array) -> Matrices | None:
        """(batch, E, P)"""
        space, entries = tuple(range(3, 3 + self.rank)), (2, 1) if self.last else (1, 2)
        return matrices(
            cols, *(((), entries, (0, *space)) if self.joined else ((0,), entries, space))
        )

    def weights(self, w: Array) -> Matrices | None:
        """(1, O, E)"""
        return matrices(w, (), (0,), (2, 1) if self.last else (1, 2))

    def new_pixels(self, runner: Runner, shape: Ints, dtype: Any) -> Array:
        space = range(2, 2 + self.rank)
        first = (1, 0, *space) if self.joined else (0, 1, *space)
        return empty(runner, shape, (0, *space, 1) if self.last else first, dtype)

    def new_columns(self, runner: Runner, shape: Ints, dtype: Any) -> Array:
        space = range(3, 3 + self.rank)
        first = (1, 2, 0, *space) if self.joined else (0, 1, 2, *space)
        return empty(runner, shape, (0, *space, 2, 1) if self.last else first, dtype)

    def new_weights(self, runner: Runner, shape: Ints, dtype: Any) -> Array:
        return empty(runner, shape, (0, 2, 1) if self.last else (0, 1, 2), dtype)


def convolve(
    runner: Runner, x: Array, w: Array, window: Window, b: Array | None, y: Array, room: int
) -> bool:
    """Set y (N, O, *out) to the convolution of x by w, plus b."""
    order = Order(window.rank, is_channels_last(x), is_channels_last(x))
    for inputs, outputs in _groups(window, x.shape[1], y.shape[1]):
        seen, kernels = x[:, inputs], _flat(w[outputs])
        lies = _is_columns(window) and order.columns(seen[:, :, None]) is not None
        each = 0 if lies else product(w.shape[1:]) * x.itemsize
        left = room - _packed_bytes(order, kernels)
        if each > left:
            return False
        weights = _weights(runner, order, kernels)
        if b is not None:  # the product is added to it, and the sum rounded once
            y[:, outputs] = b[outputs].reshape(-1, *(1,) * window.rank)
        for images, box in _pieces(len(x), window.out_size, each, left):
            cols = _entries(runner, order, seen[images], None if lies else window.part(box))
            to = known(order.pixels(y[(images, outputs, *box)]))
            runner.multiply(multiplication(weights, cols, to, b is not None))
            del cols  # before the next ones are made
        del weights
    return True


def input_gradient(
    runner: Runner, dy: Array, w: Array, window: Window, dx: Array, room: int
) -> bool:
    """Set dx (N, C, *in) to the gradient of x."""
    order, outs = Order(window.rank, *(is_channels_last(dy),) * 2), product(window.out_size)
    kind = wider(dy.dtype)  # of columns, whose sums alone are rounded
    for inputs, outputs in _groups(window, dx.shape[1], dy.shape[1]):
        grads, to, kernels = dy[:, outputs], dx[:, inputs], _flat(w[outputs])
        lies = _is_columns(window) and order.columns(to[:, :, None]) is not None
        copied = 0 if order.pixels(grads) else grads.shape[1] * outs * dy.itemsize
        each = 0 if lies else kernels.shape[2] * outs * kind.itemsize  # a channel of an image
        lying = order.weights(kernels) and order.weights(kernels[:, :1])  # some channels of it, too
        left = room - (0 if lying else kernels.nbytes)
        if copied + each > left:
            return False
        most = (left - copied) // each if each else to.shape[1]
        image = copied + each * min(most, to.shape[1])
        for channels in _slices(to.shape[1], most):
            weights = _weights(runner, order, kernels[:, channels]).transposed
            for images in _slices(len(dy), left // image if image else len(dy)):
                part = to[images, channels]
                cols = part[:, :, None]
                if not lies:
                    shape = (*part.shape[:2], kernels.shape[2], *window.out_size)
                    cols = order.new_columns(runner, shape, kind)
                pixels = _pixels(runner, order, grads[images])
                runner.multiply(multiplication(weights, pixels, known(order.columns(cols))))
                if not lies:
                    runner.launch(col2im(cols, part, window))
                del cols, pixels  # before the next ones are made
            del weights
    return True


def weight_gradient(
    runner: Runner, x: Array, dy: Array, window: Window, dw: Array, room: int
) -> bool:
    """Set dw (O, C/G, *kernel) to the gradient of w, summed in float32 at least."""
    order, kind = Order(window.rank, is_channels_last(x), True), wider(x.dtype)
    for inputs, outputs in _groups(window, x.shape[1], dy.shape[1]):
        seen, grads, to = x[:, inputs], dy[:, outputs], _flat(dw[outputs])
        lies = _is_columns(window) and order.columns(seen[:, :, None]) is not None
        copied = 0 if order.pixels(grads) else grads.shape[1] * x.itemsize
        each = copied + (0 if lies else product(to.shape[1:]) * x.itemsize)
        straight = order.weights(to) is not None and kind == x.dtype
        left = room - (0 if straight else to.size * kind.itemsize)
        if each > left:
            return False
        sums = to if straight else order.new_weights(runner, to.shape, kind)
        for number, (images, box) in enumerate(_pieces(len(x), window.out_size, each, left)):
            cols = _entries(runner, order, seen[images], None if lies else window.part(box))
            pixels = _pixels(runner, order, grads[(images, slice(None), *box)])
            out = known(order.weights(sums))
            runner.multiply(multiplication(pixels, cols.transposed, out, number > 0))
            del cols, pixels  # before the next ones are made
        if not straight:
            to[...] = sums
        del sums
    return True


def _groups(window: Window, ins: int, outs: int) -> Iterator[tuple[slice, slice]]:
    """The input and output channels of each group."""
    ins, outs = ins // window.groups, outs // window.groups
    for group in range(window.groups):
        yield slice(group * ins, group * ins + ins), slice(group * outs, group * outs + outs)


def _flat(w: Array) -> Array:
    """w (O, C, *kernel) as (O, C, K)."""
    return w.reshape(*w.shape[:2], product(w.shape[2:]))


def _is_columns(window: Window) -> bool:
    """Whether images are their own columns."""
    starts = all(before == 0 for before, _ in window.padding)
    alike = window.in_size == window.out_size
    return starts and alike and set(window.kernel) == set(window.stride) == {1}


def _entries(runner: Runner, order: Order, x: Array, window: Window | None) -> Matrices:
    """The columns of x, or where there is no window, x as its own columns."""
    if window is None:
        return known(order.columns(x[:, :, None]))
    shape = (*x.shape[:2], product(window.kernel), *window.out_size)
    cols = order.new_columns(runner, shape, x.dtype)
    runner.launch(im2col(x, cols, window))
    return known(order.columns(cols))


def _packed_bytes(order: Order, w: Array) -> int:
    return 0 if order.weights(w) else w.nbytes


def _pixels(runner: Runner, order: Order, y: Array) -> Matrices:
    return copied_unless(order.pixels, partial(order.new_pixels, runner), y)


def _weights(runner: Runner, order: Order, w: Array) -> Matrices:
    return copied_unless(order.weights, partial(order.new_weights, runner), w)


def _pieces(images: int, outs: Ints, each: int, room: int) -> Iterator[tuple[slice, Box]]:
    """Some images with all outputs or one with some, at `each` bytes an output."""
    whole = tuple(slice(0, n) for n in outs)
    image = each * product(outs)
    if image <= room:
        for some in _slices(images, room // image if image else images):
            yield some, whole
        return
    for number in range(images):
        for box in _boxes(outs, room // each):
            yield slice(number, number + 1), box


def _boxes(sizes: Ints, most: int) -> Iterator[Box]:
    """Tile by boxes of at most `most` neighbours, each one run of the flattened axes."""
    first, rest = sizes[0], sizes[1:]
    row = product(rest)
    if row <= most:
        for some in _slices(first, most // row):
            yield (some, *(slice(0, n) for n in rest))
        return
    for number in range(first):
        for box in _boxes(rest, most):
            yield (slice(number, number + 1), *box)


def _slices(count: int, most: int) -> Iterator[slice]:
    """Split into as few slices as can be, of `most` at most, alike in size."""
    size = -(-count // max(1, -(-count // max(1, most))))
    for start in range(0, count, max(1, size)):
        yield slice(start, min(start + size, count))
