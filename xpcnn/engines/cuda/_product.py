"""Products of matrices as cuBLAS takes them: addresses, leading dimensions, column by column.

Matrices are described, not copied: whatever lies with one stride of 1 can be multiplied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from ..._xp import Array, product
from ...window import Ints


class Matrices(NamedTuple):
    """A batch of matrices (batch, rows, columns) in `array`'s memory; strides are in elements."""

    array: Array
    shape: Ints
    strides: Ints

    @property
    def transposed(self) -> Matrices:
        """The same memory, read as (batch, columns, rows)."""
        (batch, rows, columns), (each, row, column) = self.shape, self.strides
        return Matrices(self.array, (batch, columns, rows), (each, column, row))

    @property
    def has_rows(self) -> bool:
        """Whether the columns of a row are neighbours, and rows do not meet."""
        (_, rows, columns), (_, row, column) = self.shape, self.strides
        return (column == 1 or columns == 1) and (row >= columns or rows == 1)

    @property
    def leading(self) -> int:
        """From one row to the next, where rows lie whole."""
        return max(self.strides[1] if self.shape[1] > 1 else 0, self.shape[2])


class Product(NamedTuple):
    """What cublasGemmStridedBatchedEx is told: c = op(a) op(b), or c += it, in column-major terms.

    c is (m, n), op(a) (m, k) and op(b) (k, n); `turned` says which of a and b are transposed.
    """

    a: Matrices
    b: Matrices
    c: Matrices
    turned: tuple[bool, bool]
    m: int
    n: int
    k: int
    add: bool


def multiplication(a: Matrices, b: Matrices, out: Matrices, add: bool = False) -> Product:
    """out (batch, M, N) = a (batch, M, K) b (batch, K, N), or added to it."""
    assert is_matrix(a) and is_matrix(b) and is_matrix(out)
    if not out.has_rows:
        return multiplication(b.transposed, a.transposed, out.transposed, add)
    _, m, n = out.shape
    # rows read as columns are a transposed matrix, so that out^T = b^T a^T needs no turning
    turned = not b.has_rows, not a.has_rows
    first, second = (x if x.has_rows else x.transposed for x in (b, a))
    return Product(first, second, out, turned, n, m, a.shape[2], add)


def known(found: Matrices | None) -> Matrices:
    """What was made to lie so that a product can take it."""
    assert found is not None
    return found


def copied_unless(
    lies: Callable[[Array], Matrices | None], new: Callable[[Ints, Any], Array], x: Array
) -> Matrices:
    """x as matrices, copied into a new array where it does not lie so."""
    if found := lies(x):
        return found
    copy = new(x.shape, x.dtype)
    copy[...] = x
    return known(lies(copy))


def is_matrix(x: Matrices) -> bool:
    """Whether x lies as cuBLAS can read it: whole rows or whole columns, counted by ints."""
    lies = x if x.has_rows else x.transposed
    return lies.has_rows and max(*x.shape, lies.leading) < 2**31 and x.strides[0] >= 0


def merged(shape: Ints, strides: Ints) -> int | None:
    """The one stride of axes that follow each other in memory without gaps; None if they do not.

    >>> merged((2, 3), (3, 1)), merged((2, 3), (4, 1))
    (1, None)
    """
    stride, reach = 1, None
    for size, step in reversed(list(zip(shape, strides, strict=True))):
        if size == 1:
            continue
        if reach is None:
            stride = step
        elif step != reach:
            return None
        reach = step * size
    return stride


def matrices(x: Array, *groups: Ints) -> Matrices | None:
    """x with its axes merged into (batch, rows, columns), each of the axes named.

    None where they do not follow each other in memory, or not as a product can take them.

    >>> import numpy as np
    >>> matrices(np.zeros((2, 3, 4, 5)), (0,), (1,), (2, 3)).strides
    (60, 20, 1)
    """
    found = _merged(x.shape, x.strides, x.itemsize, groups)
    return found and Matrices(x, *found)


@lru_cache(maxsize=1024)
def _merged(
    shape: Ints, strides: Ints, itemsize: int, groups: tuple[Ints, ...]
) -> tuple[Ints, Ints] | None:
    """Sizes and strides of the matrices."""
    sizes, steps = [], []
    for axes in groups:
        sizes.append(product(shape[axis] for axis in axes))
        step = merged(
            tuple(shape[axis] for axis in axes), tuple(strides[axis] // itemsize for axis in axes)
        )
        if step is None:
            return None
        steps.append(step)
    if sizes[0] == 1:
        steps[0] = 0  # one matrix serves a whole batch of others
    found = tuple(sizes), tuple(steps)
    return found if is_matrix(Matrices(None, *found)) else None
