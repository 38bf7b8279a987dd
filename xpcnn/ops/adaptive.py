"""Pooling to a given output size, and over the whole image.

Output i of m over n inputs covers floor(i*n/m) to ceil((i+1)*n/m): windows that differ in size by
one at most, and overlap where m does not divide n.
"""

from __future__ import annotations

from .. import engines
from .._xp import Array, device_of, namespace, product
from ..window import Size, pool_window, spatial_shape
from ._op import op
from .pooling import max_pool2d


@op
def adaptive_avg_pool2d(x: Array, output_size: Size) -> Array:
    """Average x (N, C, H, W) down (or up) to (N, C, *output_size), of x's dtype.

    Raises ValueError where x is not batched images or output_size is not one or two ints above 0.

    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.reshape(np.arange(9.0), (1, 1, 3, 3)), (1, 2))
    array([[[[3.5, 4.5]]]])

    Source: torch.nn.functional.adaptive_avg_pool2d.
    """
    rows, columns = _averages("adaptive_avg_pool2d", x, output_size)
    xp = namespace(x)
    return xp.matmul(rows, xp.matmul(x, xp.matrix_transpose(columns)))


@adaptive_avg_pool2d.pullback
def _(x, output_size):
    rows, columns = _averages("adaptive_avg_pool2d", x, output_size)
    xp = namespace(x)

    def pull(dy: Array) -> tuple:
        return (lambda: xp.matmul(xp.matrix_transpose(rows), xp.matmul(dy, columns)),)

    return adaptive_avg_pool2d(x, output_size), pull


@op(integers=("x",))
def adaptive_max_pool2d(x: Array, output_size: Size) -> Array:
    """Maxima of x (N, C, H, W), floating or integer, over output_size windows.

    Returns (N, C, *output_size). Ties and NaN as in `max_pool2d`.

    Raises ValueError where x is not batched images or output_size is not one or two ints above 0.

    >>> import numpy as np
    >>> adaptive_max_pool2d(np.reshape(np.arange(9.0), (1, 1, 3, 3)), (1, 2))
    array([[[[7., 8.]]]])

    Source: torch.nn.functional.adaptive_max_pool2d.
    """
    if kernel := _equal_windows(x, output_size):
        return max_pool2d(x, kernel)
    return _joined(x, output_size, [y for y, _ in _maxima(x, output_size)])


@adaptive_max_pool2d.pullback
def _(x, output_size):
    if kernel := _equal_windows(x, output_size):
        return max_pool2d.vjp(x, kernel)
    xp, maxima = namespace(x), _maxima(x, output_size)
    shape = tuple(x.shape)
    boxes = _boxes("adaptive_max_pool2d", x, output_size)

    def pull(dy: Array) -> tuple:
        return (lambda: _scattered(dy),)

    def _scattered(dy: Array) -> Array:
        dx = xp.zeros(shape, dtype=dy.dtype, device=device_of(dy))
        numbers = xp.arange(product(shape[2:]), dtype=maxima[0][1].dtype, device=device_of(dy))
        plane = xp.reshape(numbers, (1, 1, *shape[2:]))
        flat = xp.reshape(dy, (*dy.shape[:2], len(boxes), 1, 1))
        for number, (_, index) in enumerate(maxima):
            share = flat[:, :, number, ...]
            dx = dx + xp.where(index == plane, share, xp.zeros_like(share))
        return dx

    return _joined(x, output_size, [y for y, _ in maxima]), pull


@op
def global_avg_pool(x: Array) -> Array:
    """Average of x (N, C, *space) over all space: (N, C), of x's dtype.

    Raises ValueError where x has no spatial axis or an empty one.

    >>> import numpy as np
    >>> global_avg_pool(np.reshape(np.arange(8.0), (1, 2, 2, 2)))
    array([[1.5, 5.5]])

    Source: Lin, Chen & Yan, "Network in network", 2013, section 3.2.
    """
    return namespace(x).mean(x, axis=_space(x))


@global_avg_pool.pullback
def _(x):
    xp, shape, axes = namespace(x), tuple(x.shape), _space(x)

    def pull(dy: Array) -> tuple:
        share = xp.reshape(dy / float(product(shape[2:])), (*dy.shape, *(1,) * len(axes)))
        return (lambda: xp.broadcast_to(share, shape),)

    return global_avg_pool(x), pull


def _space(x: Array) -> tuple[int, ...]:
    if x.ndim < 3 or 0 in x.shape[1:]:
        raise ValueError(
            f"global_avg_pool: x must be (N, C, *space), of which only N may be 0; "
            f"x is {tuple(x.shape)}"
        )
    return tuple(range(2, x.ndim))


def _edges(size: int, outputs: int) -> list[tuple[int, int]]:
    """(start, stop) of each adaptive window along one axis."""
    return [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


def _averages(call: str, x: Array, output_size: Size) -> list[Array]:
    """Per axis, the (outputs, inputs) matrix whose product with x averages the windows."""
    xp = namespace(x)
    matrices = []
    for size, outputs in zip(*spatial_shape(call, x.shape, output_size), strict=True):
        rows = [
            [1.0 / (stop - start) if start <= i < stop else 0.0 for i in range(size)]
            for start, stop in _edges(size, outputs)
        ]
        matrices.append(xp.asarray(rows, dtype=x.dtype, device=device_of(x)))
    return matrices


def _equal_windows(x: Array, output_size: Size) -> tuple[int, ...] | None:
    """The kernel of a plain pooling to output_size, if that divides x's space."""
    space, outputs = spatial_shape("adaptive_max_pool2d", x.shape, output_size)
    if any(size % count for size, count in zip(space, outputs, strict=True)):
        return None
    return tuple(size // count for size, count in zip(space, outputs, strict=True))


def _boxes(call: str, x: Array, output_size: Size) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    (height, width), (rows, columns) = spatial_shape(call, x.shape, output_size)
    return [(h, w) for h in _edges(height, rows) for w in _edges(width, columns)]


def _maxima(x: Array, output_size: Size) -> list[tuple[Array, Array]]:
    """For each window, its maximum (N, C, 1, 1) and that one's flat place in the whole plane."""
    call, found = "adaptive_max_pool2d", []
    index: Array
    for (top, bottom), (left, right) in _boxes(call, x, output_size):
        piece = x[:, :, top:bottom, left:right]
        window = pool_window(call, 2, piece.shape, piece.shape[2:], None, 0, 1)
        y, index = engines.max_pool(piece, window, indices=True)
        row, column = index // (right - left), index % (right - left)
        found.append((y, (row + top) * x.shape[3] + column + left))
    return found


def _joined(x: Array, output_size: Size, pieces: list[Array]) -> Array:
    _, outputs = spatial_shape("adaptive_max_pool2d", x.shape, output_size)
    flat = namespace(x).concat(pieces, axis=2)
    return namespace(x).reshape(flat, (*x.shape[:2], *outputs))
