"""Launches of the windowed kernels: columns and pooling. Nothing here runs one.

A function for each kernel takes its arrays and gives the Launch.
"""

from __future__ import annotations

from ..._xp import Array
from ...window import Window
from .. import Divisor
from ._arrays import COPIED, is_channels_last, kind, lanes, strides
from ._geometry import Call, geometry, readers
from ._launch import BLOCK, Launch
from ._table import FILES


def max_pool(x: Array, y: Array, window: Window) -> Launch:
    """Set y (N, C, *out) to the maxima of x's windows."""
    return _windowed("max_pool", kind(x.dtype), window, x, y, (x, y))


def max_pool_places(x: Array, y: Array, places: Array, window: Window) -> Launch:
    """The same, and set places (N, C, *out) to where in their planes they are."""
    arrays = x, y, places
    return _windowed("max_pool_places", kind(x.dtype), window, x, y, arrays, places)


def max_pool_gradient(dy: Array, places: Array, dx: Array, window: Window) -> Launch:
    """Set dx (N, C, *in) to the sums of dy (N, C, *out) whose place it is."""
    arrays = dy, places, dx
    return _windowed(
        "max_pool_gradient", kind(dy.dtype), window, dx, dy, arrays, places, gathers=True
    )


def avg_pool(x: Array, y: Array, window: Window, divisor: Divisor) -> Launch:
    """Set y (N, C, *out) to the sums over x's windows, divided."""
    return _windowed("avg_pool", kind(x.dtype), window, x, y, (x, y), divisor=divisor)


def avg_pool_gradient(dy: Array, dx: Array, window: Window, divisor: Divisor) -> Launch:
    """Set dx (N, C, *in) to what reaches it of dy (N, C, *out), divided."""
    arrays = dy, dx
    return _windowed(
        "avg_pool_gradient", kind(dy.dtype), window, dx, dy, arrays, gathers=True, divisor=divisor
    )


def im2col(x: Array, cols: Array, window: Window) -> Launch:
    """Set cols (N, C, K, *out) to what outputs read of x, zeros in the padding."""
    return _windowed("im2col", COPIED[x.itemsize], window, x, cols[:, :, 0], (x, cols), k=cols)


def col2im(cols: Array, x: Array, window: Window) -> Launch:
    """Set x (N, C, *in) to the sums of the entries of cols (N, C, K, *out) that come from it.

    The columns are float32, or float64 where x is.
    """
    number, y = kind(x.dtype), cols[:, :, 0]
    return _windowed("col2im", number, window, x, y, (cols, x), k=cols, gathers=True)


def _windowed(
    kernel: str, number: str | None, window: Window, x: Array, y: Array, arrays: tuple[Array, ...],
    places: Array | None = None, *, k: Array | None = None, gathers: bool = False,
    divisor: Divisor = 1,
) -> Launch:  # fmt: skip
    """A launch of a windowed kernel, of which each thread owns a y, or an x where it gathers."""
    packed = (x, y) if places is None else (x, y, places)

    def call(lanes: int) -> Call:
        return Call(
            window, x.shape[0], x.shape[1] // lanes, gathers, is_channels_last(x if gathers else y),
            strides(x, lanes), strides(y, lanes),
            (0,) * 5 if places is None else strides(places, lanes),
            0 if k is None else k.strides[2] // (lanes * k.itemsize), divisor,
        )  # fmt: skip

    pack = lanes(*packed)
    if k is not None and k.strides[2] % (pack * k.itemsize):
        pack = 1
    index, value = geometry(call(pack))
    if index != "int" and pack > 1:
        pack = 1
        index, value = geometry(call(pack))
    unrolled = readers_of(window) if gathers else extent_of(window)
    name = f"{kernel}<{index}, {number}, {pack}, {unrolled}>"
    if name not in FILES:
        name = f"{kernel}<{index}, {number}, {pack}, 0>"
    blocks = -(-int(value["count"][0]) // BLOCK)
    return Launch(name, (blocks, 1, 1), (BLOCK, 1, 1), 0, (*arrays, value))


def extent_of(window: Window) -> int:
    """The kernel's size in the last two axes, where it is as large in both and 1 in all others."""
    *others, height, width = (0, *window.kernel)
    return width if height == width and set(others) <= {0, 1} else 0


def readers_of(window: Window) -> int:
    """How many outputs read an input at most along each of the last two axes of such a kernel.

    0 where they are not alike, or places are no neighbours.
    """
    if not extent_of(window) or set(window.dilation[-2:]) != {1}:
        return 0
    high, wide = (readers(window, axis) for axis in (window.rank - 2, window.rank - 1))
    return high if high == wide else 0
