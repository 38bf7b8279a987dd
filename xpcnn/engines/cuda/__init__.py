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

from ..._xp import Array, product
from ...window import Window
from .. import Divisor
from ..settings import current, note
from . import _columns, _direct, _windows
from ._arrays import copies, new, takes, wider
from ._norm import batch_norm, batch_norm_train, batch_norm_train_dx, channel_sums
from ._passes import activation, activation_dx, adam, clip, clip_dx, dropout, sgd
from ._product import known, matrices, multiplication
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

    def attempt(room: int) -> Array:
        y = new(runner, x, shape)
        if y.size and not (
            _multiplies(w, window) and _columns.convolve(runner, x, w, window, b, y, room)
        ):
            _direct.convolve(runner, x, w, window, b, y, room)
        return y

    return _in_workspace(runner, f"conv to {shape}", attempt)


@verb
def conv_dx(runner: Runner, dy: Array, w: Array, window: Window) -> Array:
    if not takes(dy, w):
        return NotImplemented
    shape = (dy.shape[0], w.shape[1] * window.groups, *window.in_size)

    def attempt(room: int) -> Array:
        dx = new(runner, dy, shape)
        if dx.size and not (
            _multiplies(w, window) and _columns.input_gradient(runner, dy, w, window, dx, room)
        ):
            _direct.input_gradient(runner, dy, w, window, dx, room)
        return dx

    return _in_workspace(runner, f"conv_dx to {shape}", attempt)


@verb
def conv_dw(runner: Runner, x: Array, dy: Array, window: Window) -> Array:
    if not takes(x, dy):
        return NotImplemented
    shape = (dy.shape[1], x.shape[1] // window.groups, *window.kernel)

    def attempt(room: int) -> Array:
        dw = runner.empty(shape, x.dtype)
        if not x.size * dy.size:
            dw[...] = 0
        elif not (
            _multiplies(dw, window) and _columns.weight_gradient(runner, x, dy, window, dw, room)
        ):
            _direct.weight_gradient(runner, x, dy, window, dw, room)
        return dw

    return _in_workspace(runner, f"conv_dw to {shape}", attempt)


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
    return cols.reshape(n, -1 if n else cols.shape[1] * cols.shape[2], product(window.out_size))


@verb
def col2im(runner: Runner, cols: Array, window: Window) -> Array:
    if not takes(cols):
        return NotImplemented
    n, places = cols.shape[0], product(window.kernel)
    channels = cols.shape[1] // places
    x = runner.empty((n, channels, *window.in_size), cols.dtype)
    if x.size:
        wide = cols.astype(wider(cols.dtype), copy=False)
        columns = wide.reshape(n, channels, places, *window.out_size)
        runner.launch(_windows.col2im(columns, x, window))
    return x


@verb
def matmul(runner: Runner, a: Array, b: Array, add: Array | None = None) -> Array:
    if not takes(a, b) or b.ndim != 2:
        return NotImplemented
    *rows, column = range(a.ndim)
    left, right = matrices(a, (), tuple(rows), (column,)), matrices(b, (), (0,), (1,))
    if not (a.size and b.size and left and right):
        return NotImplemented
    y = runner.empty((*a.shape[:-1], b.shape[1]), a.dtype)
    if add is not None:
        y[...] = add
    out = known(matrices(y, (), tuple(rows), (column,)))
    runner.multiply(multiplication(left, right, out, add is not None))
    return y


def _multiplies(w: Array, window: Window) -> bool:
    """Whether products of matrices pay."""
    per_group = max(w.shape[0] // window.groups, w.shape[1])
    if window.groups > 1 and per_group <= SMALL:
        note("direct", f"groups of {per_group} channels leave no product of matrices")
        return False
    note("columns", f"a product of matrices for each of {window.groups} groups")
    return True


def _is_spread(window: Window, divisor: Divisor) -> bool:
    """Whether an average's places lie apart and are counted, which no op asks for."""
    return max(window.dilation) > 1 and not isinstance(divisor, int)


def _in_workspace(runner: Runner, call: str, attempt: Callable[[int], Array]) -> Array:
    """What `attempt` gives with the workspace; where memory runs out, with less, at last none."""
    workspace = current().workspace
    for room in (workspace, workspace // 8, 0):
        try:
            return attempt(room)
        except runner.out_of_memory as error:
            last = error
    raise MemoryError(
        f"{call}: {last}, without any workspace; {runner.free()} bytes are free: free some arrays "
        "or take smaller batches"
    ) from last
