"""What is asked of every op: call it once through `vjp_of` and all promises are checked."""

from __future__ import annotations

from typing import Any

import numpy as np

import xpcnn


def adopt(xp, array: np.ndarray | None) -> Any:
    """`array` as one of xp's; on NumPy (xp None) the very view it is."""
    return array if xp is None or array is None else xp.asarray(array)


def host(xp, array: Any) -> np.ndarray | None:
    """An array of xp's as NumPy's."""
    return array if xp is None or array is None else xp.to_numpy(array)


def vjp_of(op, arrays, dy, *args, xp=None, **options) -> tuple[np.ndarray, list[np.ndarray]]:
    """y and the gradients of op(*arrays, *args, **options), as NumPy arrays.

    On the way: forward alone gives the same y, results have the inputs' dtype and library, a pull
    gives the same twice, and nothing is written into the inputs or into dy.
    """
    before = [None if a is None else a.copy() for a in (*arrays, dy)]
    given = [adopt(xp, a) for a in arrays]
    cotangent = adopt(xp, dy)
    y, pull = xpcnn.vjp(op, *given, *args, **options)
    first, again, forward = pull(cotangent), pull(cotangent), op(*given, *args, **options)
    y, forward = (host(xp, r[0] if isinstance(r, tuple) else r) for r in (y, forward))
    np.testing.assert_array_equal(forward, y)
    assert y.dtype == arrays[0].dtype
    assert len(first) == len(arrays)
    for one, other, array in zip(first, again, given, strict=True):
        if array is None:
            assert one is None and other is None
            continue
        assert type(one) is type(array)
        assert (one.dtype, tuple(one.shape)) == (array.dtype, tuple(array.shape))
        np.testing.assert_array_equal(host(xp, one), host(xp, other))
    for array, copy in zip((*given, cotangent), before, strict=True):
        if copy is not None:
            np.testing.assert_array_equal(host(xp, array), copy)
    return y, [host(xp, g) for g in first]


def ops_of_rank(name: str, ndim: int):
    """ops.conv2d for ("conv", 2)."""
    return getattr(xpcnn.ops, f"{name}{ndim}d")
