"""Maximum and average pooling, and columns of windows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

from .. import engines
from .._check import is_int
from .._xp import Array, product
from ..window import Padding, Size, Window, fold_window, pool_window
from ._layout import NAMES, channels_first, from_channels_first
from ._op import op


def _max_window(rank, x, kernel_size, stride, padding, dilation, ceil_mode, exact, layout):
    call = f"max_pool{rank}d"
    x = channels_first(call, x, layout, rank)
    return x, pool_window(
        call, rank, x.shape, kernel_size, stride, padding, dilation,
        ceil_mode=ceil_mode, exact=exact, covered=True,
    )  # fmt: skip


def _max_result(y, indices, return_indices, layout):
    y = from_channels_first(y, layout)
    return (y, from_channels_first(indices, layout)) if return_indices else y


def _max_pool_vjp(
    rank, x, kernel_size, stride=None, padding=0, dilation=1, *, ceil_mode=False,
    return_indices=False, exact=False, layout=None,
):  # fmt: skip
    layout = layout or NAMES[rank][0]
    x, window = _max_window(
        rank, x, kernel_size, stride, padding, dilation, ceil_mode, exact, layout
    )
    y, indices = engines.max_pool(x, window, indices=True)

    def pull(dy: Array) -> tuple:
        dy = channels_first(f"max_pool{rank}d", dy, layout, rank)
        return (lambda: from_channels_first(engines.max_pool_dx(dy, indices, window), layout),)

    return _max_result(y, indices, return_indices, layout), pull


@op(integers=("x",), in_engines=True)
def max_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    exact: bool = False,
    layout: str = "NCW",
) -> Array | tuple[Array, Array]:
    """Maximum of each window of x (N, C, W): (N, C, OW).

    Everything else is as in `max_pool2d`.

    >>> import numpy as np
    >>> max_pool1d(np.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2, return_indices=True)
    (array([[[3., 2.]]]), array([[[1, 2]]]))

    Source: torch.nn.functional.max_pool1d.
    """
    x, window = _max_window(1, x, kernel_size, stride, padding, dilation, ceil_mode, exact, layout)
    return _max_result(*engines.max_pool(x, window, return_indices), return_indices, layout)


max_pool1d.pullback(partial(_max_pool_vjp, 1))


@op(integers=("x",), in_engines=True)
def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    exact: bool = False,
    layout: str = "NCHW",
) -> Array | tuple[Array, Array]:
    """Maximum of each window of x (N, C, H, W), floating or integer: (N, C, OH, OW) of its dtype.

    `stride` defaults to kernel_size. Padding (as in `conv2d`) never wins. Of equal maxima the first
    in row-major order wins; NaN propagates, the first one. The gradient goes to that one place.
    `ceil_mode` adds windows that hang over the right, unless they start in the right padding.
    `return_indices` adds each maximum's flat place in its unpadded (H, W) plane, integer; `exact`
    refuses sizes that the stride does not divide.

    Raises ValueError where sizes do not fit or a window would lie wholly in the padding.

    >>> import numpy as np
    >>> max_pool2d(np.reshape(np.arange(16), (1, 1, 4, 4)), 2)
    array([[[[ 5,  7],
             [13, 15]]]])

    Source: torch.nn.functional.max_pool2d, save that the first NaN wins, there the last.
    """
    x, window = _max_window(2, x, kernel_size, stride, padding, dilation, ceil_mode, exact, layout)
    return _max_result(*engines.max_pool(x, window, return_indices), return_indices, layout)


max_pool2d.pullback(partial(_max_pool_vjp, 2))


@op(integers=("x",), in_engines=True)
def max_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    exact: bool = False,
    layout: str = "NCDHW",
) -> Array | tuple[Array, Array]:
    """Maximum of each window of x (N, C, D, H, W): (N, C, OD, OH, OW).

    Everything else is as in `max_pool2d`.

    >>> import numpy as np
    >>> max_pool3d(np.reshape(np.arange(8), (1, 1, 2, 2, 2)), 2)
    array([[[[[7]]]]])

    Source: torch.nn.functional.max_pool3d.
    """
    x, window = _max_window(3, x, kernel_size, stride, padding, dilation, ceil_mode, exact, layout)
    return _max_result(*engines.max_pool(x, window, return_indices), return_indices, layout)


max_pool3d.pullback(partial(_max_pool_vjp, 3))


def _divisor(call, window: Window, count_include_pad, override) -> engines.Divisor:
    if override is not None:
        if not is_int(override) or override == 0:
            kind = ValueError if is_int(override) else TypeError
            raise kind(f"{call}: divisor_override={override!r}; give an int other than 0, or None")
        return int(override)
    return _counted(window, count_include_pad)


@lru_cache(maxsize=64)  # by Python's own counting, which is slow, and each step asks the same
def _counted(window: Window, count_include_pad: bool) -> engines.Divisor:
    counts = window.counts(count_include_pad)
    if all(len(set(axis)) == 1 for axis in counts):
        return product(axis[0] for axis in counts)
    return counts


def _avg_pool_vjp(
    rank, x, kernel_size, stride=None, padding=0, *, ceil_mode=False, count_include_pad=True,
    divisor_override=None, exact=False, layout=None,
) -> tuple[Array, Callable]:  # fmt: skip
    call, layout = f"avg_pool{rank}d", layout or NAMES[rank][0]
    x = channels_first(call, x, layout, rank)
    window = pool_window(
        call, rank, x.shape, kernel_size, stride, padding, 1,
        ceil_mode=ceil_mode, exact=exact, covered=not count_include_pad,
    )  # fmt: skip
    divisor = _divisor(call, window, count_include_pad, divisor_override)
    y = from_channels_first(engines.avg_pool(x, window, divisor), layout)

    def pull(dy: Array) -> tuple:
        dy = channels_first(call, dy, layout, rank)
        return (lambda: from_channels_first(engines.avg_pool_dx(dy, window, divisor), layout),)

    return y, pull


@op(in_engines=True)
def avg_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    exact: bool = False,
    layout: str = "NCW",
) -> Array:
    """Average of each window of x (N, C, W): (N, C, OW).

    Everything else is as in `avg_pool2d`.

    >>> import numpy as np
    >>> avg_pool1d(np.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2)
    array([[[2., 1.]]])

    Source: torch.nn.functional.avg_pool1d.
    """
    y, _ = _avg_pool_vjp(
        1, x, kernel_size, stride, padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override, exact=exact,
        layout=layout,
    )  # fmt: skip
    return y


avg_pool1d.pullback(partial(_avg_pool_vjp, 1))


@op(in_engines=True)
def avg_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    exact: bool = False,
    layout: str = "NCHW",
) -> Array:
    """Average of each window of x (N, C, H, W): (N, C, OH, OW) of x's dtype.

    `stride` defaults to kernel_size. Padding (as in `conv2d`) counts as zeros unless
    `count_include_pad` is False; what `ceil_mode` lets hang over it never counts.
    `divisor_override` divides every sum by this number instead. `exact` refuses sizes that the
    stride does not divide.

    Raises ValueError where sizes do not fit, or a window has nothing to count.

    >>> import numpy as np
    >>> avg_pool2d(np.reshape(np.arange(16.0), (1, 1, 4, 4)), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])

    Source: torch.nn.functional.avg_pool2d.
    """
    y, _ = _avg_pool_vjp(
        2, x, kernel_size, stride, padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override, exact=exact,
        layout=layout,
    )  # fmt: skip
    return y


avg_pool2d.pullback(partial(_avg_pool_vjp, 2))


@op(in_engines=True)
def avg_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    exact: bool = False,
    layout: str = "NCDHW",
) -> Array:
    """Average of each window of x (N, C, D, H, W): (N, C, OD, OH, OW).

    Everything else is as in `avg_pool2d`.

    >>> import numpy as np
    >>> avg_pool3d(np.ones((1, 1, 2, 2, 2)), 2)
    array([[[[[1.]]]]])

    Source: torch.nn.functional.avg_pool3d.
    """
    y, _ = _avg_pool_vjp(
        3, x, kernel_size, stride, padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override, exact=exact,
        layout=layout,
    )  # fmt: skip
    return y


avg_pool3d.pullback(partial(_avg_pool_vjp, 3))


@op(integers=("x",))
def unfold(
    x: Array, kernel_size: Size, stride: Size = 1, padding: Padding = 0, dilation: Size = 1
) -> Array:
    """Columns of the windows of x (N, C, H, W): (N, C*KH*KW, L), L the number of windows.

    Options as in `conv2d`: a convolution is a product with these columns. `fold` is the adjoint.

    Raises ValueError where sizes do not fit.

    >>> import numpy as np
    >>> unfold(np.reshape(np.arange(9), (1, 1, 3, 3)), 2)
    array([[[0, 1, 3, 4],
            [1, 2, 4, 5],
            [3, 4, 6, 7],
            [4, 5, 7, 8]]])

    Source: torch.nn.functional.unfold; im2col of Chellapilla, Puri & Simard, 2006.
    """
    return engines.im2col(
        x, pool_window("unfold", 2, x.shape, kernel_size, stride, padding, dilation)
    )


@unfold.pullback
def _(x, kernel_size, stride=1, padding=0, dilation=1):
    window = pool_window("unfold", 2, x.shape, kernel_size, stride, padding, dilation)

    def pull(dy: Array) -> tuple:
        return (lambda: engines.col2im(dy, window),)

    return engines.im2col(x, window), pull


@op(integers=("x",))
def fold(
    x: Array,
    output_size: Size,
    kernel_size: Size,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
) -> Array:
    """Add columns x (N, C*KH*KW, L) back into images (N, C, *output_size): the adjoint of `unfold`.

    Raises ValueError where the columns are not those of such windows.

    >>> import numpy as np
    >>> fold(np.ones((1, 4, 4)), 3, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])

    Source: torch.nn.functional.fold.
    """
    window = fold_window("fold", x.shape, output_size, kernel_size, stride, padding, dilation)
    return engines.col2im(x, window)


@fold.pullback
def _(x, output_size, kernel_size, stride=1, padding=0, dilation=1):
    window = fold_window("fold", x.shape, output_size, kernel_size, stride, padding, dilation)

    def pull(dy: Array) -> tuple:
        return (lambda: engines.im2col(dy, window),)

    return engines.col2im(x, window), pull
