"""The complementary error function, which the Array API lacks; GELU needs it."""

from __future__ import annotations

from collections.abc import Sequence

from .._xp import Array, namespace

# Cody's numerators and denominators, highest power first: erf(x)/x in x*x near 0 ...
NEAR = 0.46875
P_NEAR = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
    3.77485237685302021e2, 3.20937758913846947e3,
)  # fmt: skip
Q_NEAR = (
    1.0, 2.36012909523441209e1, 2.44024637934444173e2,
    1.28261652607737228e3, 2.84423683343917062e3,
)  # fmt: skip
# ... and exp(x*x) erfc(x) in x for all larger x
P_FAR = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
    6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
    1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
Q_FAR = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2,
    5.37181101862009858e2, 1.62138957456669019e3, 3.29079923573345963e3,
    4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip

LARGEST = 28.0  # exp(-28**2) is 0 in every floating dtype; larger x would overflow the powers


def erfc(x: Array) -> Array:
    """1 - erf(x) of x's shape and dtype, without the cancellation of that difference.

    The relative error is below 6 + 2*x*x roundings (2**-53, 2**-24), since exp(-x*x)
    magnifies the rounding of x*x; past x = 4, where erfc is below 2e-8, add up to 1e-7 of it.

    >>> import numpy as np
    >>> erfc(np.asarray([-np.inf, 0.0, 1.0])).round(6)
    array([2.      , 1.      , 0.157299])

    Source: W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23
    (1969), with its second interval taken to infinity.
    """
    xp = namespace(x)
    a = xp.clip(xp.abs(x), None, LARGEST)
    square = a * a
    near = xp.clip(x, -NEAR, NEAR) * _polynomial(P_NEAR, square) / _polynomial(Q_NEAR, square)
    far = xp.exp(-square) * _polynomial(P_FAR, a) / _polynomial(Q_FAR, a)
    return xp.where(a <= NEAR, 1.0 - near, xp.where(x < 0.0, 2.0 - far, far))


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Horner's rule."""
    value = coefficients[0] * x + coefficients[1]
    for c in coefficients[2:]:
        value = value * x + c
    return value
