"""Resampling to another size: along each axis a small matrix, of which a product is made.

A matrix has one row for each output, which weighs at most two inputs. Axes are taken one after the
other, so the gradient is made of the products with the transposed matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

from .._check import AXES, entries, require_axes, sizes
from .._xp import Array, device_of, index_dtype, namespace, product
from ..window import Size
from ._op import op

Scale = float | Sequence[float]

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
MODES = ("nearest", *LINEAR.values())


class _Axis(NamedTuple):
    """Along one axis, the two inputs of each output, and the share of the second."""

    size: int
    low: list[int]
    high: list[int]
    share: list[float]


@op
def interpolate(
    x: Array,
    size: Size | None = None,
    scale_factor: Scale | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Array:
    """Resample x (N, C, *space), of one to three spatial axes, to (N, C, *size) of x's dtype.

    Give either `size` or `scale_factor`, one for all axes or one for each. Output i of m reads the
    n inputs of an axis at i*n/m: "nearest" takes the one at the floor of that. "linear", "bilinear"
    and "trilinear" (by the number of axes) weigh the two around (i + 1/2)*n/m - 1/2, or around
    i*(n - 1)/(m - 1) with `align_corners`, and repeat the border; an infinity or NaN then spreads
    along its axes. A factor makes m = floor(factor * n), and n/m is 1/factor.

    Raises ValueError where x is not such images, for a mode of another number of axes, for sizes
    below 1, and for align_corners with "nearest"; TypeError for what is no number.

    >>> import numpy as np
    >>> interpolate(np.asarray([[[0.0, 4.0]]]), scale_factor=2, mode="linear")
    array([[[0., 1., 3., 4.]]])

    Source: torch.nn.functional.interpolate, which rounds i*n/m, so that for some sizes (2 to 82, in
    float32) its nearest is the neighbour.
    """
    xp = namespace(x)
    for axis, sampled in enumerate(_axes(x, size, scale_factor, mode, align_corners), 2):
        if mode == "nearest":
            places = xp.asarray(sampled.low, dtype=index_dtype(xp), device=device_of(x))
            x = xp.take(x, places, axis=axis)
        else:
            x = _along(x, axis, _matrix(x, sampled))
    return x


@interpolate.pullback
def _(x, size=None, scale_factor=None, mode="nearest", align_corners=False):
    axes = _axes(x, size, scale_factor, mode, align_corners)

    def pull(dy: Array) -> tuple:
        return (lambda: _adjoint(dy, axes),)

    return interpolate(x, size, scale_factor, mode, align_corners), pull


def require_scaling(
    call: str, size: Size | None, scale_factor: Scale | None, mode: str, align_corners: bool
) -> None:
    """Raise ValueError or TypeError for options of `interpolate` that fit no x.

    >>> require_scaling("interpolate", None, 2, "nearest", False)
    """
    _require_modes(call, size, scale_factor, mode, align_corners)
    each = scale_factor if size is None else size
    told = len(each) if isinstance(each, tuple) and len(each) in AXES else 2
    rank = {name: rank for rank, name in LINEAR.items()}.get(mode, told)
    _rates(call, size, scale_factor, rank)


def _require_modes(call: str, size, scale_factor, mode: str, align_corners: bool) -> None:
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"{call}: size={size!r} and scale_factor={scale_factor!r}; give one of the two"
        )
    if mode not in MODES:
        raise ValueError(f"{call}: mode={mode!r}; give one of {', '.join(MODES)}")
    if align_corners and mode == "nearest":
        raise ValueError(f"{call}: align_corners needs a linear mode; mode is 'nearest'")


def _axes(x: Array, size, scale_factor, mode: str, align_corners: bool) -> list[_Axis]:
    call, rank = "interpolate", x.ndim - 2
    _require_modes(call, size, scale_factor, mode, align_corners)
    if rank not in AXES:
        raise ValueError(
            f"{call}: x must be (N, C, *space), of one to three spatial axes; x is {tuple(x.shape)}"
        )
    require_axes(call, "x", x.shape, ("N", "C", *AXES[rank]))
    if mode not in ("nearest", LINEAR[rank]):
        raise ValueError(
            f"{call}: mode={mode!r} is not of x {tuple(x.shape)}; give 'nearest' or "
            f"{LINEAR[rank]!r}"
        )
    space = tuple(x.shape[2:])
    by_size = size is not None
    rates = _rates(call, size, scale_factor, rank)
    sample = _nearest if mode == "nearest" else _corners if align_corners else _linear
    axes = []
    for n, rate in zip(space, rates, strict=True):
        outputs, over = (rate, n) if by_size else (math.floor(n * rate), 1)
        if outputs < 1:
            raise ValueError(
                f"{call}: scale_factor={scale_factor!r} leaves nothing of x {tuple(x.shape)}"
            )
        axes.append(sample(n, outputs, over, rate))
    return axes


def _rates(call: str, size: Any, scale_factor: Any, rank: int) -> tuple[Any, ...]:
    """For each axis its new size or, where none is given, its factor."""
    if size is not None:
        return sizes(call, "size", size, rank)
    one = isinstance(scale_factor, Real)
    factors = (scale_factor,) * rank if one else entries(scale_factor, rank)
    numbers = all(isinstance(f, Real) and not isinstance(f, bool) for f in factors)
    if not numbers or len(factors) != rank or not all(0 < f < math.inf for f in factors):
        raise (ValueError if numbers else TypeError)(
            f"{call}: scale_factor={scale_factor!r}; give a number above 0, or one per axis "
            f"({', '.join(AXES[rank])})"
        )
    return tuple(map(float, factors))  # a NumPy scalar would make the points as coarse as it is


def _nearest(size: int, outputs: int, over: int, under: float) -> _Axis:
    """Output i reads the input at the floor of i * over / under."""
    low = [min(math.floor(i * over / under), size - 1) for i in range(outputs)]
    return _Axis(size, low, low, [0.0] * outputs)


def _linear(size: int, outputs: int, over: int, under: float) -> _Axis:
    """Pixels are squares, side by side: their middles are half a pixel from the edge."""
    return _between(size, [(i + 0.5) * over / under - 0.5 for i in range(outputs)])


def _corners(size: int, outputs: int, over: int, under: float) -> _Axis:
    """Pixels are points, the first and last of which stay where they are."""
    return _between(size, [i * (size - 1) / max(1, outputs - 1) for i in range(outputs)])


def _between(size: int, points: list[float]) -> _Axis:
    inside = [min(max(point, 0.0), size - 1.0) for point in points]
    low = [int(point) for point in inside]
    high = [min(place + 1, size - 1) for place in low]
    return _Axis(size, low, high, [point - place for point, place in zip(inside, low, strict=True)])


def _matrix(like: Array, axis: _Axis) -> Array:
    """The weights (outputs, inputs), as an array like `like`."""
    xp, device = namespace(like), device_of(like)
    places = xp.arange(axis.size, dtype=index_dtype(xp), device=device)

    def column(values: list, dtype) -> Array:
        return xp.reshape(xp.asarray(values, dtype=dtype, device=device), (-1, 1))

    low, high = (column(ends, places.dtype) for ends in (axis.low, axis.high))
    share = column(axis.share, like.dtype)
    none = xp.zeros_like(share)
    return xp.where(places == low, 1.0 - share, none) + xp.where(places == high, share, none)


def _along(x: Array, axis: int, matrix: Array) -> Array:
    """Product of the matrix with x along an axis."""
    xp, shape = namespace(x), tuple(x.shape)
    if axis == x.ndim - 1:
        return xp.matmul(x, xp.matrix_transpose(matrix))
    rows = xp.reshape(x, (*shape[: axis + 1], product(shape[axis + 1 :])))
    return xp.reshape(xp.matmul(matrix, rows), (*shape[:axis], matrix.shape[0], *shape[axis + 1 :]))


def _adjoint(dy: Array, axes: list[_Axis]) -> Array:
    for axis, sampled in reversed(list(enumerate(axes, 2))):
        dy = _along(dy, axis, namespace(dy).matrix_transpose(_matrix(dy, sampled)))
    return dy
