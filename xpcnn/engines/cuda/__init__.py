"""CuPy arrays, by CUDA kernels of our own and cuBLAS: what CuPy's users had cuDNN for.

The sources are in kernels/; `_table` lists what they are instantiated with and `_windows`,
`_direct`, `_norm` and `_passes` say how each is launched. Nothing is compiled before it is first
launched. Kernels take arrays as they lie, results lie as their inputs do, and the same call gives
the same bits. Convolutions are products with columns, in pieces that fit the workspace; those of
many small groups, and what does not fit at all, sum directly. Where memory runs out, a call is
tried again with less workspace, and at last with none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._xp import Array, product
from ...window import Ints, Window
from .. import Divisor
from ..settings import current, note
from . import _columns, _direct, _windows
from ._arrays import copies, new, takes, wider
from ._norm import batch_norm, batch_norm_train, batch_norm_train_dx, channel_sums
from ._passes import activation, activation_dx, adam, clip, clip_dx, dropout, sgd
from ._product import Matrices, copied_unless, matrices, multiplication
from ._runner import Runner, verb

__all__ = [
    "activation", "activation_dx", "adam", "avg_pool", "avg_pool_dx", "batch_norm",
    "batch_norm_train", "batch_norm_train_dx", "channel_sums", "clip", "clip_dx", "col2im", "conv",
    "conv_dw", "conv_dx", "dropout", "im2col", "matmul", "max_pool", "max_pool_dx", "sgd",
]  # fmt: skip

HALF = True
"""Half precision is computed in float32 and rounded once."""

SMALL = 32
"""Channels of a group up to which each output is summed directly: too few for a product."""


@verb
def conv(runner: Runner, x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    if not takes(x, w):
        return NotImplemented
    shape = (x.shape[0], w.shape[0], *window.out_size)
    ways, arguments = (_columns.convolve, _direct.convolve), (x, w, window, b)
    return _convolved(runner, "conv", ways, arguments, lambda: new(runner, x, shape), w.shape)


@verb
def conv_dx(runner: Runner, dy: Array, w: Array, window: Window) -> Array:
    if not takes(dy, w):
        return NotImplemented
    shape = (dy.shape[0], w.shape[1] * window.groups, *window.in_size)
    ways, arguments = (_columns.input_gradient, _direct.input_gradient), (dy, w, window)
    return _convolved(runner, "conv_dx", ways, arguments, lambda: new(runner, dy, shape), w.shape)


@verb
def conv_dw(runner: Runner, x: Array, dy: Array, window: Window) -> Array:
    if not takes(x, dy):
        return NotImplemented
    shape = (dy.shape[1], x.shape[1] // window.groups, *window.kernel)
    if not x.size * dy.size:
        dw = runner.empty(shape, x.dtype)
        dw[...] = 0
        return dw
    ways, arguments = (_columns.weight_gradient, _direct.weight_gradient), (x, dy, window)
    return _convolved(
        runner, "conv_dw", ways, arguments, lambda: runner.empty(shape, x.dtype), shape
    )


@verb
def max_pool(
    runner: Runner, x: Array, window: Window, indices: bool = False
) -> tuple[Array, Array | None]:
    if not takes(x):
        return NotImplemented
    shape = (*x.shape[:2], *window.out_size)
    y, places = new(runner, x, shape), new(runner, x, shape, "int64") if indices else None
    if y.size and places is None:
        runner.launch(_windows.max_pool(x, y, window))
    elif y.size:
        runner.launch(_windows.max_pool_places(x, y, places, window))
    return y, places


@verb
def max_pool_dx(runner: Runner, dy: Array, indices: Array, window: Window) -> Array:
    if not takes(dy) or str(indices.dtype) != "int64":
        return NotImplemented
    dx = new(runner, dy, (*dy.shape[:2], *window.in_size))
    if dx.size:
        runner.launch(_windows.max_pool_gradient(dy, indices, dx, window))
    return dx


@verb
def avg_pool(runner: Runner, x: Array, window: Window, divisor: Divisor) -> Array:
    if not takes(x) or _is_spread(window, divisor):
        return NotImplemented
    y = new(runner, x, (*x.shape[:2], *window.out_size))
    if y.size:
        runner.launch(_windows.avg_pool(x, y, window, divisor))
    return y


@verb
def avg_pool_dx(runner: Runner, dy: Array, window: Window, divisor: Divisor) -> Array:
    if not takes(dy) or _is_spread(window, divisor):
        return NotImplemented
    dx = new(runner, dy, (*dy.shape[:2], *window.in_size))
    if dx.size:
        runner.launch(_windows.avg_pool_gradient(dy, dx, window, divisor))
    return dx


@verb
def im2col(runner: Runner, x: Array, window: Window) -> Array:
    if not copies(x):
        return NotImplemented
    n, channels = x.shape[:2]
    cols = runner.empty((n, channels, product(window.kernel), *window.out_size), x.dtype)
    if cols.size:
        runner.launch(_windows.im2col(x, cols, window))
    return cols.reshape(n, cols.shape[1] * cols.shape[2], product(window.out_size))


@verb
def col2im(runner: Runner, cols: Array, window: Window) -> Array:
    if not takes(cols) or wider(cols.dtype) != cols.dtype:
        return NotImplemented
    n, places = cols.shape[0], product(window.kernel)
    channels = cols.shape[1] // places
    x = runner.empty((n, channels, *window.in_size), cols.dtype)
    if x.size:
        columns = cols.reshape(n, channels, places, *window.out_size)
        runner.launch(_windows.col2im(columns, x, window))
    return x


@verb
def matmul(runner: Runner, a: Array, b: Array, add: Array | None = None) -> Array:
    if not takes(a, b) or b.ndim != 2 or not a.size or not b.size:
        return NotImplemented
    *rows, column = range(a.ndim)
    y = runner.empty((*a.shape[:-1], b.shape[1]), a.dtype)
    if add is not None:  # the product is added to it, and the sum rounded once
        y[...] = add
    left, out = (_matrix(runner, x, tuple(rows), (column,)) for x in (a, y))
    runner.multiply(multiplication(left, _matrix(runner, b, (0,), (1,)), out, add is not None))
    return y


def _matrix(runner: Runner, x: Array, rows: Ints, columns: Ints) -> Matrices:
    return copied_unless(lambda x: matrices(x, (), rows, columns), runner.empty, x)


def _convolved(
    runner: Runner, verb: str, ways: tuple[Callable, Callable], arguments: tuple[Any, ...],
    make: Callable[[], Array], w_shape: Ints,
) -> Array:  # fmt: skip
    """A result by products with columns where these pay and fit the workspace, else directly.

    Where memory runs out, it is tried again with less workspace, and at last with none.
    """
    by_columns, directly = ways
    window, workspace = arguments[2], current().workspace
    per_group = max(w_shape[0] // window.groups, w_shape[1])
    for room in (workspace, workspace // 8, 0):
        try:
            result = make()
            if not result.size:
                return result
            if window.groups > 1 and per_group <= SMALL:
                note("direct", f"groups of {per_group} channels leave no product of matrices")
            elif by_columns(runner, *arguments, result, room):
                note("columns", "a product of matrices with what the outputs read")
                return result
            else:
                note("direct", "not one output's columns fit the workspace")
            directly(runner, *arguments, result, room)
            return result
        except runner.out_of_memory as error:
            why, result = str(error).rstrip("."), None  # nothing stays alive beside the next
    raise MemoryError(
        f"{verb}: {why}, without any workspace; {runner.free()} bytes are free: free some arrays "
        "or take smaller batches"
    )


def _is_spread(window: Window, divisor: Divisor) -> bool:
    """Whether an average's places lie apart and are counted, which no op asks for."""
    return max(window.dilation) > 1 and not isinstance(divisor, int)
