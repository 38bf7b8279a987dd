"""Several arrays made one, and the gradient of the one made theirs again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate, pairwise
from operator import add

from .. import ops
from .._xp import Array, namespace

MERGES = {
    "concat": "all but channels to concat",
    "sum": "shape to sum",
    "product": "every size that is not 1 to multiply",
}
"""The ways to merge, and what the arrays must agree in."""

Spread = Callable[[Array], list[Array]]
"""From the gradient of the one to those of the several, None where it is not needed."""


def merge(call: str, how: str, parts: Sequence[Array]) -> Array:
    """Join arrays (N, ...) along their channels, or add or multiply them.

    Raises ValueError where shapes do not fit; `call` tells whose parts they are.

    >>> import numpy as np
    >>> merge("Branches: branches", "sum", [np.ones((1, 2)), np.ones((1, 2))])
    array([[2., 2.]])
    """
    _require_alike(call, how, parts)
    if how == "concat":
        return namespace(parts[0]).concat(list(parts), axis=1)
    return reduce(add if how == "sum" else ops.multiply, parts)


def merge_vjp(
    call: str, how: str, parts: Sequence[Array], needed: Sequence[bool]
) -> tuple[Array, Spread]:
    """The same with its pullback; `needed` tells which parts a gradient is wanted of."""
    if how == "product":
        _require_alike(call, how, parts)
        return _product_vjp(parts, needed)
    ends = accumulate((part.shape[1] for part in parts), initial=0)
    places = [
        (slice(None), slice(*ends), ...) if how == "concat" else ... for ends in pairwise(ends)
    ]

    def spread(dy: Array) -> list[Array]:
        return [dy[at] if need else None for at, need in zip(places, needed, strict=True)]

    return merge(call, how, parts), spread


def _product_vjp(parts: Sequence[Array], needed: Sequence[bool]) -> tuple[Array, Spread]:
    y, pulls = parts[0], []
    for number, part in enumerate(parts[1:], 1):
        wrt = ("x",) * any(needed[:number]) + ("y",) * needed[number]
        y, pull = ops.multiply.vjp(y, part, wrt=wrt)
        pulls.append(pull if wrt else None)

    def spread(dy: Array) -> list[Array]:
        shares = []
        for pull in reversed(pulls):
            dy, share = pull(dy) if pull else (None, None)
            shares.append(share)
        return [dy, *reversed(shares)]

    return y, spread


def _require_alike(call: str, how: str, parts: Sequence[Array]) -> None:
    shapes = [tuple(part.shape) for part in parts]
    if how == "product":
        alike = all(len(set(sizes) - {1}) < 2 for sizes in zip(*shapes, strict=False))
    else:
        start = 0 if how == "sum" else 2
        alike = len({shape[start:] for shape in shapes}) == 1
    if not alike or len({len(shape) for shape in shapes}) > 1:
        raise ValueError(
            f"{call} must agree in {MERGES[how]}; they give {[shape[1:] for shape in shapes]}"
        )
