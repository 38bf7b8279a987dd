"""The matrices of Winograd's algorithm, exact: a convolution as products of values at six points.

    tile = A' (G kernel * B' patch)

Coefficients of a product of polynomials are sums of a few products of their values (Cook and Toom).
A convolution is the transpose of such a product: G evaluates the kernel, A' and B' are transposes
of evaluation and of interpolation, * multiplies point by point. The points are 0, 2/3, -2/3, 3/2,
-3/2 and infinity, which round half as much as the usual 0, 1, -1, 2, -2.

Sources: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; Barabasz et al.,
"Error analysis and improving the accuracy of Winograd convolution", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

SIDE = 6
"""Rows of a patch, and points; a kernel of K rows makes tiles of SIDE + 1 - K rows."""

POINTS = tuple(Fraction(*pair) for pair in ((0, 1), (2, 3), (-2, 3), (3, 2), (-3, 2)))
"""The finite points; infinity is the sixth."""

Matrix = list[list[Fraction]]


def patch_to_points() -> Matrix:
    """B', of six rows: from a patch's six rows to six points."""
    return [*map(_polynomial, _OTHERS), _polynomial(POINTS)]


def kernel_to_points(size: int) -> Matrix:
    """G, of six rows: from a kernel's rows to six points."""
    pairs = zip(POINTS, _OTHERS, strict=True)
    return _powers(size, [prod((x - o for o in others), start=Fraction(1)) for x, others in pairs])


def points_to_tile(size: int) -> Matrix:
    """A', of six columns: from six points to a tile's rows."""
    return [list(row) for row in zip(*_powers(size, [Fraction(1)] * len(POINTS)), strict=True)]


_OTHERS = [[other for other in POINTS if other != x] for x in POINTS]


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
