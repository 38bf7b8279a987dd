"""The way back from a maximum to its place."""

from __future__ import annotations

from .. import engines
from .._check import require_axes, sizes
from .._xp import Array, device_of, index_dtype, namespace, product
from ..window import Padding, Size, Window, conv_transpose_window, pool_window
from ._layout import channels_first, from_channels_first
from ._op import op

CALL = "max_unpool2d"


@op(integers=("indices",), in_engines=True)
def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    output_size: Size | None = None,
    *,
    dilation: Size = 1,
    layout: str = "NCHW",
) -> Array:
    """Set x (N, C, H, W) to the places that maxima had, all else to 0: (N, C, *output_size).

    `indices` are those that `max_pool2d(..., return_indices=True)` gave with the same window; of
    others the result is not defined. Where windows overlap and share a maximum, their values are
    added, so that this is the adjoint of taking the maxima. By default `output_size` is the least
    that the window has this many places over; give the pooled image's where the stride left a rest.

    Raises ValueError where shapes do not fit, TypeError for indices that are no integers.

    >>> import numpy as np
    >>> from xpcnn.ops import max_pool2d
    >>> y, indices = max_pool2d(np.reshape(np.arange(4.0), (1, 1, 2, 2)), 2, return_indices=True)
    >>> max_unpool2d(y, indices, 2)
    array([[[[0., 0.],
             [0., 3.]]]])

    Source: torch.nn.functional.max_unpool2d, which keeps one of values that overlap; Zeiler, Taylor
    & Fergus, "Adaptive deconvolutional networks for mid and high level feature learning", 2011.
    """
    x, places, window = _placed(
        x, indices, kernel_size, stride, padding, output_size, dilation, layout
    )
    return from_channels_first(engines.max_pool_dx(x, places, window), layout)


@max_unpool2d.pullback
def _(
    x, indices, kernel_size, stride=None, padding=0, output_size=None, *, dilation=1, layout="NCHW"
):
    x, places, window = _placed(
        x, indices, kernel_size, stride, padding, output_size, dilation, layout
    )

    def pull(dy: Array) -> tuple:
        dy = channels_first(CALL, dy, layout, 2)
        return lambda: from_channels_first(_taken(dy, places), layout), None

    return from_channels_first(engines.max_pool_dx(x, places, window), layout), pull


def _taken(x: Array, indices: Array) -> Array:
    """Of each plane of x (N, C, H, W), the entries at flat indices (N, C, OH, OW)."""
    xp, planes = namespace(x), product(x.shape[:2])
    starts = xp.arange(planes, dtype=indices.dtype, device=device_of(x)) * product(x.shape[2:])
    flat = indices + xp.reshape(starts, (*x.shape[:2], 1, 1))
    taken = xp.take(xp.reshape(x, (-1,)), xp.reshape(flat, (-1,)), axis=0)
    return xp.reshape(taken, tuple(indices.shape))


def _placed(
    x, indices, kernel_size, stride, padding, output_size, dilation, layout
) -> tuple[Array, Array, Window]:
    """x and indices as (N, C, H, W), and the window."""
    if not namespace(x).isdtype(indices.dtype, "integral"):
        raise TypeError(f"{CALL}: indices must be integers, not {indices.dtype}")
    if tuple(x.shape) != tuple(indices.shape):
        raise ValueError(
            f"{CALL}: x {tuple(x.shape)} needs one index for each entry; indices are "
            f"{tuple(indices.shape)}"
        )
    x, indices = (channels_first(CALL, a, layout, 2) for a in (x, indices))
    xp = namespace(x)
    indices = xp.astype(indices, index_dtype(xp))  # of less bits they could not count all planes
    return x, indices, _window(tuple(x.shape), kernel_size, stride, padding, output_size, dilation)


def _window(x_shape, kernel_size, stride, padding, output_size, dilation) -> Window:
    """The window of the pool that made x out of images of `output_size`."""
    require_axes(CALL, "x", x_shape, "NCHW")
    kernel = sizes(CALL, "kernel_size", kernel_size, 2)
    stride = kernel if stride is None else stride
    if output_size is None:
        filters = (x_shape[1], 1, *kernel)
        return conv_transpose_window(
            CALL, 2, x_shape, filters, None, stride, padding, 0, 1, dilation
        )
    space = sizes(CALL, "output_size", output_size, 2)
    pooled = (*x_shape[:2], *space)
    windows = [
        pool_window(CALL, 2, pooled, kernel, stride, padding, dilation, ceil_mode=ceil_mode)
        for ceil_mode in (False, True)
    ]
    for window in windows:
        if window.out_size == x_shape[2:]:
            return window
    raise ValueError(
        f"{CALL}: over output_size={space} the window has {windows[0].out_size} places, or "
        f"{windows[1].out_size} by ceil_mode; x is {x_shape}"
    )
