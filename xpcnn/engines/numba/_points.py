"""The six points of Winograd's algorithm: matrices, and squares of vectors multiplied by them.

tile = A' ((G w G') * (B' patch B)) A,     * being a product for each of the 36 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numba import types
from numba.extending import intrinsic

from .. import _toom
from .._toom import SIDE, Matrix
from ._vectors import Vectors

KERNELS = {size: _toom.kernel_to_points(size) for size in (2, 3, 4, 5)}
"""G, for kernels and, in their gradients, for tiles."""

TILES = {size: _toom.points_to_tile(size) for size in (2, 3, 4, 5)}
"""A', for tiles and, in their gradients, for kernels."""


def _transform(matrices: dict[int, Matrix]) -> Any:
    """An intrinsic that multiplies a square of vectors by a matrix on both sides: M s M'.

    The first argument chooses the matrix. Entry (i, j) of the square is the vector at address
    from_ + i * from_row + j * from_column, with `from_lanes` real lanes; results go likewise, plus
    the vector at `init`. `zero` tells the entries' type.
    """

    @intrinsic
    def transform(
        context, size, from_, from_row, from_column, from_lanes, to, to_row, to_column, to_lanes,
        init, zero,
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            number, *rest, _ = args
            on = Vectors(builder, zero.bitwidth)
            on.choose(number, {n: partial(_write, on, m, *rest) for n, m in matrices.items()})
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10, zero), generate

    return transform


def _write(
    on: Vectors, matrix: Matrix, from_, from_row, from_column, from_lanes, to, to_row, to_column,
    to_lanes, init,
) -> None:  # fmt: skip
    read, written, count = on.mask(from_lanes), on.mask(to_lanes), len(matrix[0])
    init = on.load(init, written)
    columns = []
    for j in range(count):
        places = [on.at(from_, (from_row, i), (from_column, j)) for i in range(count)]
        columns.append(_apply(on, matrix, [on.load(place, read) for place in places]))
    for i, row in enumerate(zip(*columns, strict=True)):
        for j, value in enumerate(_apply(on, matrix, row)):
            on.store(on.builder.fadd(value, init), on.at(to, (to_row, i), (to_column, j)), written)


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


patch_to_points = _transform({SIDE: _toom.patch_to_points()})
kernel_to_points = _transform(KERNELS)
points_to_tile = _transform(TILES)
