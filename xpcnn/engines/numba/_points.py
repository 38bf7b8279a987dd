"""The six points of Winograd's algorithm: matrices, and squares of vectors multiplied by them.

    tile = A' ((G w G') * (B' patch B)) A,     * being a product for each of the 36 points.

The matrices evaluate and interpolate polynomials at 0, 2/3, -2/3, 3/2, -3/2 and infinity, which
round half as much as the usual 0, 1, -1, 2, -2.

Sources: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; Barabasz et al.,
"Error analysis and improving the accuracy of Winograd convolution", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

from numba import types
from numba.extending import intrinsic

from ._vectors import Vectors

SIDE = 6
"""Rows of a patch, and points; a kernel of K rows makes tiles of SIDE + 1 - K rows."""

POINTS = tuple(Fraction(*pair) for pair in ((0, 1), (2, 3), (-2, 3), (3, 2), (-3, 2)))
"""The finite points; infinity is the sixth."""

Matrix = list[list[Fraction]]


def _powers(count: int, divisors: Sequence[Fraction]) -> Matrix:
    """Each point's powers from 0 to count - 1 over its divisor; for infinity, the last power."""
    rows = [[x**k / d for k in range(count)] for x, d in zip(POINTS, divisors, strict=True)]
    return [*rows, [Fraction(k == count - 1) for k in range(count)]]


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, the lowest first, of the product of all (x - root), SIDE of them."""
    terms = [Fraction(1)]
    for root in roots:
        pairs = zip([Fraction(0), *terms], [*terms, Fraction(0)], strict=True)
        terms = [a - root * b for a, b in pairs]
    return terms + [Fraction(0)] * (SIDE - len(terms))


OTHERS = [[other for other in POINTS if other != x] for x in POINTS]
DIVISORS = [
    prod((x - other for other in others), start=Fraction(1))
    for x, others in zip(POINTS, OTHERS, strict=True)
]

PATCH = [*map(_polynomial, OTHERS), _polynomial(POINTS)]
"""B': from a patch's six rows to six points."""

KERNELS = {size: _powers(size, DIVISORS) for size in (2, 3, 4, 5)}
"""G: from a kernel's rows to six points."""

TILES = {
    size: [list(row) for row in zip(*_powers(size, [Fraction(1)] * len(POINTS)), strict=True)]
    for size in (2, 3, 4, 5)
}
"""A': from six points to a tile's rows."""


def _transform(matrices: dict[int, Matrix]) -> Any:
    """An intrinsic that multiplies a square of vectors by a matrix on both sides: M s M'.

    The first argument chooses the matrix. Entry (i, j) of the square is the vector at address
    from_ + i * from_row + j * from_column, with `from_lanes` real lanes; results go likewise, plus
    the vector at `init`, at least `floor`.
    """

    @intrinsic
    def transform(
        context, size, from_, from_row, from_column, from_lanes, to, to_row, to_column, to_lanes,
        init, floor,
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            number, *rest = args
            on = Vectors(builder, floor.bitwidth)
            on.choose(number, {n: partial(_write, on, m, *rest) for n, m in matrices.items()})
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10, floor), generate

    return transform


def _write(
    on: Vectors, matrix: Matrix, from_, from_row, from_column, from_lanes, to, to_row, to_column,
    to_lanes, init, floor,
) -> None:  # fmt: skip
    read, written, count = on.mask(from_lanes), on.mask(to_lanes), len(matrix[0])
    init, floor = on.load(init, written), on.splat(floor)
    columns = []
    for j in range(count):
        places = [on.at(from_, (from_row, i), (from_column, j)) for i in range(count)]
        columns.append(_apply(on, matrix, [on.load(place, read) for place in places]))
    for i, row in enumerate(zip(*columns, strict=True)):
        for j, value in enumerate(_apply(on, matrix, row)):
            value = on.at_least(on.builder.fadd(value, init), floor)
            on.store(value, on.at(to, (to_row, i), (to_column, j)), written)


def _apply(on: Vectors, matrix: Matrix, entries: Sequence[Any]) -> list:
    """The product of the matrix with a column of vectors."""
    results = []
    for row in matrix:
        total = None
        for factor, entry in zip(row, entries, strict=True):
            if factor == 0:
                continue
            if total is None:
                total = entry if factor == 1 else on.builder.fmul(entry, on.constant(float(factor)))
            elif factor == 1:
                total = on.builder.fadd(total, entry)
            else:
                total = on.multiply_add(entry, on.constant(float(factor)), total)
        results.append(total)
    return results


patch_to_points = _transform({SIDE: PATCH})
kernel_to_points = _transform(KERNELS)
points_to_tile = _transform(TILES)
