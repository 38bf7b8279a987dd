"""Convolution and its transpose, in one to three dimensions.

All six are three verbs of the engines over one window: a transposed convolution is a convolution's
data gradient, and its own gradients are the other two verbs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .. import engines
from .._xp import Array, namespace
from ..window import Padding, Size, conv_transpose_window, conv_window
from ._layout import NAMES, channels_first, from_channels_first
from ._op import op
from ._sums import channel_sums


def _conv_vjp(
    rank, x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, exact=False, layout=None
) -> tuple[Array, Callable]:
    call, layout = f"conv{rank}d", layout or NAMES[rank][0]
    x = channels_first(call, x, layout, rank)
    b_shape = None if b is None else b.shape
    window = conv_window(
        call, rank, x.shape, w.shape, b_shape, stride, padding, dilation, groups, exact
    )

    def pull(dy: Array) -> tuple:
        dy = channels_first(call, dy, layout, rank)
        return (
            lambda: from_channels_first(engines.conv_dx(dy, w, window), layout),
            lambda: engines.conv_dw(x, dy, window),
            None if b is None else partial(channel_sums, dy),
        )

    return from_channels_first(engines.conv(x, w, window, b), layout), pull


@op(in_engines=True)
def conv1d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    exact: bool = False,
    layout: str = "NCW",
) -> Array:
    """Cross-correlate signals x (N, C, W) with kernels w (O, C/G, KW): (N, O, OW).

    Everything else is as in `conv2d`.

    >>> import numpy as np
    >>> conv1d(np.asarray([[[1.0, 2.0, 4.0]]]), np.asarray([[[-1.0, 1.0]]]))
    array([[[1., 2.]]])

    Source: torch.nn.functional.conv1d; padding="same" as ONNX SAME_UPPER.
    """
    y, _ = _conv_vjp(1, x, w, b, stride, padding, dilation, groups, exact=exact, layout=layout)
    return y


conv1d.pullback(partial(_conv_vjp, 1))


@op(in_engines=True)
def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    exact: bool = False,
    layout: str = "NCHW",
) -> Array:
    """Cross-correlate images x (N, C, H, W) with kernels w (O, C/G, KH, KW), and add b (O,).

    Returns (N, O, OH, OW) of x's dtype, with OH = floor((H + p - d*(KH - 1) - 1)/s) + 1 where p is
    the padding of both sides. `stride` and `dilation` are ints or one per axis. `padding` is an
    int, one per axis, (before, after) pairs, "valid", "same" (ceil(H/s) outputs, the odd element
    after) or "same_lower" (before). `groups` splits channels into G independent convolutions.
    `exact` refuses sizes that the stride does not divide; `layout="NHWC"` takes and returns
    channels last (w stays as it is).

    Raises ValueError where shapes or options do not fit, TypeError for mixed libraries, devices or
    dtypes and for integers.

    >>> import numpy as np
    >>> x = np.reshape(np.arange(9.0), (1, 1, 3, 3))
    >>> conv2d(x, np.asarray([[[[3.0, 2.0], [1.0, 0.0]]]]))
    array([[[[ 5., 11.],
             [23., 29.]]]])

    Source: torch.nn.functional.conv2d; padding="same" as ONNX SAME_UPPER and TensorFlow.
    """
    y, _ = _conv_vjp(2, x, w, b, stride, padding, dilation, groups, exact=exact, layout=layout)
    return y


conv2d.pullback(partial(_conv_vjp, 2))


@op(in_engines=True)
def conv3d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    exact: bool = False,
    layout: str = "NCDHW",
) -> Array:
    """Cross-correlate volumes x (N, C, D, H, W) with w (O, C/G, KD, KH, KW): (N, O, OD, OH, OW).

    Everything else is as in `conv2d`.

    >>> import numpy as np
    >>> conv3d(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)))
    array([[[[[8.]]]]])

    Source: torch.nn.functional.conv3d; padding="same" as ONNX SAME_UPPER.
    """
    y, _ = _conv_vjp(3, x, w, b, stride, padding, dilation, groups, exact=exact, layout=layout)
    return y


conv3d.pullback(partial(_conv_vjp, 3))


def _conv_transpose_vjp(
    rank, x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, layout=None
) -> tuple[Array, Callable]:
    call, layout = f"conv_transpose{rank}d", layout or NAMES[rank][0]
    x = channels_first(call, x, layout, rank)
    b_shape = None if b is None else b.shape
    window = conv_transpose_window(
        call, rank, x.shape, w.shape, b_shape, stride, padding, output_padding, groups, dilation
    )
    y = engines.conv_dx(x, w, window)
    if b is not None:
        y = y + namespace(b).reshape(b, (1, -1, *(1,) * rank))

    def pull(dy: Array) -> tuple:
        dy = channels_first(call, dy, layout, rank)
        return (
            lambda: from_channels_first(engines.conv(dy, w, window), layout),
            lambda: engines.conv_dw(dy, x, window),
            None if b is None else partial(channel_sums, dy),
        )

    return from_channels_first(y, layout), pull


@op
def conv_transpose1d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    layout: str = "NCW",
) -> Array:
    """Transposed convolution of x (N, C, W) by w (C, O/G, KW): (N, O, OW).

    Everything else is as in `conv_transpose2d`.

    >>> import numpy as np
    >>> conv_transpose1d(np.asarray([[[1.0, 2.0]]]), np.asarray([[[1.0, 1.0]]]), stride=2)
    array([[[1., 1., 2., 2.]]])

    Source: torch.nn.functional.conv_transpose1d.
    """
    y, _ = _conv_transpose_vjp(
        1, x, w, b, stride, padding, output_padding, groups, dilation, layout=layout
    )
    return y


conv_transpose1d.pullback(partial(_conv_transpose_vjp, 1))


@op
def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    layout: str = "NCHW",
) -> Array:
    """Transposed convolution of x (N, C, H, W) by w (C, O/G, KH, KW), plus b (O,).

    Each input element adds its multiple of the kernel to the output: (N, O, OH, OW) of x's dtype,
    OH = (H - 1)*s - p + d*(KH - 1) + output_padding + 1. It is the data gradient of a convolution
    with these options; `padding` crops what that convolution padded. Options otherwise as in
    `conv2d`, in PyTorch's order; there is no "same".

    Raises ValueError where shapes or options do not fit, an output_padding that reaches both stride
    and dilation among them, TypeError for mixed libraries, devices or dtypes and for integers.

    >>> import numpy as np
    >>> conv_transpose2d(np.asarray([[[[1.0, 2.0]]]]), np.ones((1, 1, 1, 2)))
    array([[[[1., 3., 2.]]]])

    Source: torch.nn.functional.conv_transpose2d; Dumoulin & Visin 2016, chapter 4.
    """
    y, _ = _conv_transpose_vjp(
        2, x, w, b, stride, padding, output_padding, groups, dilation, layout=layout
    )
    return y


conv_transpose2d.pullback(partial(_conv_transpose_vjp, 2))


@op
def conv_transpose3d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    layout: str = "NCDHW",
) -> Array:
    """Transposed convolution of x (N, C, D, H, W) by w (C, O/G, KD, KH, KW): (N, O, OD, OH, OW).

    Everything else is as in `conv_transpose2d`.

    >>> import numpy as np
    >>> conv_transpose3d(np.ones((1, 1, 1, 1, 2)), np.ones((1, 1, 1, 1, 2)))
    array([[[[[1., 2., 1.]]]]])

    Source: torch.nn.functional.conv_transpose3d.
    """
    y, _ = _conv_transpose_vjp(
        3, x, w, b, stride, padding, output_padding, groups, dilation, layout=layout
    )
    return y


conv_transpose3d.pullback(partial(_conv_transpose_vjp, 3))
