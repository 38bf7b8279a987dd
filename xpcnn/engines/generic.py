"""The definition of truth: every verb in Array API calls alone, on any library, also under jit.

It rests on `taps` (pad, then one strided slice for each kernel place) and its adjoint `untaps`.
Columns are stacked taps: a convolution is one matrix product with them, and its data gradient the
same product transposed, then `untaps`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add

from .._xp import Array, device_of, index_dtype, namespace, product
from ..window import Window
from . import Divisor


def taps(x: Array, window: Window, fill: float) -> Iterator[Array]:
    """For each kernel place, what every output reads there: arrays (..., *out)."""
    first = x.ndim - window.rank
    for axis, (before, after) in enumerate(margins(window)):
        x = _extend(x, first + axis, before, after, fill)
    for place in window.places:
        yield x[(..., *_reads(window, place))]


def untaps(parts: list[Array], window: Window) -> Array:
    """Adjoint of `taps`: add each place's (..., *out) where it was read, giving (..., *in)."""
    placed = zip(parts, window.places, strict=True)
    total = reduce(add, (_spread(part, window, place) for part, place in placed))
    first = total.ndim - window.rank
    for axis, (before, after) in enumerate(margins(window)):
        total = _extend(total, first + axis, -before, -after, 0)
    return total


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    xp, groups = namespace(x), window.groups
    cols = _grouped(im2col(x, window), groups)
    y = xp.matmul(xp.reshape(w, (groups, w.shape[0] // groups, -1)), cols)
    y = xp.reshape(y, (x.shape[0], w.shape[0], *window.out_size))
    return y if b is None else y + xp.reshape(b, (1, -1, *(1,) * window.rank))


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    xp, groups = namespace(dy), window.groups
    weights = xp.matrix_transpose(xp.reshape(w, (groups, w.shape[0] // groups, -1)))
    cols = xp.matmul(weights, _grouped(_flat(dy, window), groups))
    rows = groups * product(w.shape[1:])
    return col2im(xp.reshape(cols, (dy.shape[0], rows, product(window.out_size))), window)


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    xp, groups = namespace(x), window.groups
    cols = xp.matrix_transpose(_grouped(im2col(x, window), groups))
    dw = xp.sum(xp.matmul(_grouped(_flat(dy, window), groups), cols), axis=0, dtype=x.dtype)
    return xp.reshape(dw, (dy.shape[1], x.shape[1] // groups, *window.kernel))


def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    xp = namespace(x)
    least = -xp.inf if xp.isdtype(x.dtype, "real floating") else xp.iinfo(x.dtype).min
    values, places = taps(x, window, least), taps(_plane(x, window), window, -1)
    best, index = next(values), next(places)
    for value, place in zip(values, places, strict=True):
        is_nan, was_nan = value != value, best != best
        new = (value > best) | (is_nan & ~was_nan) | ((index < 0) & (place >= 0))
        best, index = xp.where(new, value, best), xp.where(new, place, index)
    return best, xp.broadcast_to(index, best.shape) if indices else None


def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    xp = namespace(dy)
    none = xp.zeros_like(dy)
    places = taps(_plane(dy, window), window, -1)
    return untaps([xp.where(indices == place, dy, none) for place in places], window)


def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    return reduce(add, taps(x, window, 0)) / as_divisor(x, divisor)


def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    return untaps([dy / as_divisor(dy, divisor)] * product(window.kernel), window)


def im2col(x: Array, window: Window) -> Array:
    xp = namespace(x)
    cols = xp.stack(list(taps(x, window, 0)), axis=2)
    length = product(window.out_size)
    return xp.reshape(cols, (x.shape[0], x.shape[1] * product(window.kernel), length))


def col2im(cols: Array, window: Window) -> Array:
    xp, k = namespace(cols), product(window.kernel)
    channels = cols.shape[1] // k
    cols = xp.reshape(cols, (cols.shape[0], channels, k, *window.out_size))
    return untaps([cols[:, :, place, ...] for place in range(k)], window)


def as_divisor(like: Array, divisor: Divisor) -> float | Array:
    """`divisor` as a float, or as an array that broadcasts over the outputs (N, C, *out)."""
    if isinstance(divisor, int):
        return float(divisor)
    xp, total = namespace(like), None
    for axis, counts in enumerate(divisor):
        shape = tuple(len(counts) if axis == other else 1 for other in range(len(divisor)))
        row = xp.asarray([float(n) for n in counts], dtype=like.dtype, device=device_of(like))
        row = xp.reshape(row, shape)
        total = row if total is None else total * row
    return total


def _grouped(cols: Array, groups: int) -> Array:
    """(N, G*A, L) as (N, G, A, L)."""
    n, rows, length = cols.shape
    return namespace(cols).reshape(cols, (n, groups, rows // groups, length))


def _flat(y: Array, window: Window) -> Array:
    return namespace(y).reshape(y, (y.shape[0], y.shape[1], product(window.out_size)))


def _plane(x: Array, window: Window) -> Array:
    """Every input place's flat number, as (1, 1, *in)."""
    xp = namespace(x)
    numbers = xp.arange(product(window.in_size), dtype=index_dtype(xp), device=device_of(x))
    return xp.reshape(numbers, (1, 1, *window.in_size))


def _padded_size(window: Window, axis: int) -> int:
    return (window.out_size[axis] - 1) * window.stride[axis] + window.span[axis]


def margins(window: Window) -> list[tuple[int, int]]:
    """Elements to pad before and after each axis, negative to crop: what the taps span, no more."""
    return [
        (before, _padded_size(window, axis) - before - window.in_size[axis])
        for axis, (before, _) in enumerate(window.padding)
    ]


def _reads(window: Window, place: tuple[int, ...]) -> tuple[slice, ...]:
    """Slices of the padded input that a kernel place reads."""
    return tuple(
        slice(k * d, k * d + (out - 1) * s + 1, s)
        for k, d, s, out in zip(place, window.dilation, window.stride, window.out_size, strict=True)
    )


def _spread(part: Array, window: Window, place: tuple[int, ...]) -> Array:
    """Adjoint of one strided slice: (..., *out) set into zeros of the padded input's size."""
    first = part.ndim - window.rank
    for axis, reads in enumerate(_reads(window, place)):
        part = _dilate(part, first + axis, reads.step)
        part = _extend(part, first + axis, reads.start, _padded_size(window, axis) - reads.stop, 0)
    return part


def _dilate(x: Array, axis: int, stride: int) -> Array:
    """Put stride - 1 zeros between neighbours along `axis`."""
    if stride == 1:
        return x
    xp, shape = namespace(x), x.shape
    x = xp.expand_dims(x, axis=axis + 1)
    x = _extend(x, axis + 1, 0, stride - 1, 0)
    x = xp.reshape(x, (*shape[:axis], shape[axis] * stride, *shape[axis + 1 :]))
    return _extend(x, axis, 0, 1 - stride, 0)


def _extend(x: Array, axis: int, before: int, after: int, fill: float) -> Array:
    """Pad along `axis` with `fill`; a negative amount crops, after what is padded."""
    parts = [_constant(x, axis, before, fill), x, _constant(x, axis, after, fill)]
    parts = [part for part in parts if part is not None]
    x = namespace(x).concat(parts, axis=axis) if len(parts) > 1 else x
    keep = slice(max(0, -before), x.shape[axis] - max(0, -after))
    return x[(*(slice(None),) * axis, keep, ...)] if min(before, after) < 0 else x


def _constant(x: Array, axis: int, size: int, fill: float) -> Array | None:
    if size <= 0:
        return None
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return namespace(x).full(shape, fill, dtype=x.dtype, device=device_of(x))
