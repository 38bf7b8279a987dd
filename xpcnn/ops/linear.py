"""Products with a weight matrix: one for all places, or one for each."""

from __future__ import annotations

from .. import engines
from .._check import require_axes
from .._xp import Array, namespace, product
from ..window import Padding, Size, Window, pool_window
from ._offered import offered
from ._op import op
from ._sums import channel_sums


@op(in_engines=True)
def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """Product of x (N, ..., in) with w (out, in), plus b (out,): (N, ..., out) of x's dtype.

    Raises ValueError where shapes do not fit, an x without a batch among them.

    >>> import numpy as np
    >>> linear(np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]]), np.asarray([0.5]))
    array([[11.5]])

    Source: torch.nn.functional.linear.
    """
    _check_linear(x, w, b)
    return _matmul(x, namespace(x).matrix_transpose(w), b)


@offered("matmul")
def _matmul(a: Array, b: Array, add: Array | None = None) -> Array:
    product = namespace(a).matmul(a, b)
    return product if add is None else product + add


@linear.pullback
def _(x, w, b=None):
    xp = namespace(x)

    def pull(dy: Array) -> tuple:
        rows = xp.reshape(dy, (product(dy.shape[:-1]), dy.shape[-1]))
        return (
            lambda: _matmul(dy, w),
            lambda: _matmul(xp.matrix_transpose(rows), xp.reshape(x, (-1, w.shape[1]))),
            None if b is None else lambda: channel_sums(rows),
        )

    return linear(x, w, b), pull


def _check_linear(x, w, b) -> None:
    require_axes("linear", "w", w.shape, ("out", "in"))
    outputs, inputs = w.shape
    if x.ndim < 2 or x.shape[-1] != inputs:
        hint = ": pass x[None, ...] for a batch of one" if tuple(x.shape) == (inputs,) else ""
        raise ValueError(
            f"linear: w (out, in) is {(outputs, inputs)} and needs x (N, in={inputs}); "
            f"x is {tuple(x.shape)}{hint}"
        )
    if b is not None and tuple(b.shape) != (outputs,):
        raise ValueError(f"linear: b must be (out={outputs},); b is {tuple(b.shape)}")


@op
def locally_connected2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
) -> Array:
    """A convolution that shares no weights: x (N, C, H, W) by w (OH, OW, O, C, KH, KW).

    Returns (N, O, OH, OW) of x's dtype; b is (O, OH, OW). Options as in `conv2d`.

    Raises ValueError where shapes do not fit.

    >>> import numpy as np
    >>> w = np.reshape(np.arange(4.0), (2, 2, 1, 1, 1, 1))
    >>> locally_connected2d(np.ones((1, 1, 2, 2)), w)
    array([[[[0., 1.],
             [2., 3.]]]])

    Source: LeCun, "Generalization and network design strategies", 1989; Keras' LocallyConnected2D.
    """
    window = _local_window(x, w, b, stride, padding, dilation)
    return _local_product(_local_columns(x, window), w, b)


@locally_connected2d.pullback
def _(x, w, b=None, stride=1, padding=0, dilation=1):
    xp, window = namespace(x), _local_window(x, w, b, stride, padding, dilation)
    rows, columns, outputs = w.shape[:3]
    length, flat = rows * columns, (rows * columns, outputs, product(w.shape[3:]))

    def pull(dy: Array) -> tuple:
        by_place = xp.permute_dims(xp.reshape(dy, (dy.shape[0], outputs, length)), (2, 1, 0))

        def dx() -> Array:
            weights = xp.matrix_transpose(xp.reshape(w, flat))
            cols = xp.permute_dims(xp.matmul(weights, by_place), (2, 1, 0))
            return engines.col2im(cols, window)

        def dw() -> Array:
            cols = xp.matrix_transpose(_local_columns(x, window))
            return xp.reshape(xp.matmul(by_place, cols), w.shape)

        return dx, dw, None if b is None else lambda: xp.sum(dy, axis=0)

    return _local_product(_local_columns(x, window), w, b), pull


def _local_columns(x: Array, window: Window) -> Array:
    """Columns by place: (L, C*K, N)."""
    return namespace(x).permute_dims(engines.im2col(x, window), (2, 1, 0))


def _local_product(cols: Array, w: Array, b: Array | None) -> Array:
    xp, (rows, columns, outputs) = namespace(w), w.shape[:3]
    weights = xp.reshape(w, (rows * columns, outputs, product(w.shape[3:])))
    y = xp.permute_dims(xp.matmul(weights, cols), (2, 1, 0))
    y = xp.reshape(y, (cols.shape[2], outputs, rows, columns))
    return y if b is None else y + b


def _local_window(x, w, b, stride, padding, dilation) -> Window:
    call = "locally_connected2d"
    require_axes(call, "w", w.shape, ("OH", "OW", "O", "C", "KH", "KW"))
    window = pool_window(call, 2, x.shape, w.shape[4:], stride, padding, dilation)
    needed = (*window.out_size, w.shape[2], x.shape[1], *w.shape[4:])
    if tuple(w.shape) != needed:
        raise ValueError(
            f"{call}: x {tuple(x.shape)} needs w (OH, OW, O, C, KH, KW) = {needed}; "
            f"w is {tuple(w.shape)}"
        )
    places = (w.shape[2], *window.out_size)
    if b is not None and tuple(b.shape) != places:
        raise ValueError(f"{call}: b must be (O, OH, OW) = {places}; b is {tuple(b.shape)}")
    return window
