"""Clipping of gradients."""

from __future__ import annotations

import math
import operator
from functools import reduce
from typing import Any

from .._xp import Array, namespace
from ..layers import tree
from ..layers.tree import Tree
from ..ops._op import widened
from ._options import REAL
from .optimizer import refuse_buffers


def clip_by_global_norm(grads: Tree, max_norm: float) -> tuple[dict[str, Any], Array]:
    """Scale all gradients to a joint 2-norm of at most `max_norm`; also the norm they had, 0-d.

    Gradients within the norm stay the same, bit for bit. The norm stays on its device. (PyTorch
    divides by norm + 1e-6.) Raises ValueError for an empty tree, for buffers, and unless
    max_norm > 0.

    >>> import numpy as np
    >>> grads, norm = clip_by_global_norm({"0": {"bias": np.array([3.0, 4.0])}}, 1.0)
    >>> grads["0"]["bias"], float(norm)
    (array([0.6, 0.8]), 5.0)

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent networks", 2013.
    """
    if not isinstance(max_norm, REAL) or not 0 < max_norm < math.inf:
        raise ValueError(
            f"clip_by_global_norm(max_norm={max_norm!r}): max_norm must be a finite number > 0"
        )
    refuse_buffers("clip_by_global_norm", "grads", tree.flatten(grads))
    leaves = tree.leaves(grads)
    if not leaves:
        raise ValueError("clip_by_global_norm: grads holds no array; pass at least one")
    xp, limit = namespace(leaves[0]), float(max_norm)
    norm = xp.sqrt(reduce(operator.add, map(_sum_of_squares, leaves)))
    scale = limit / xp.clip(norm, min=limit)
    return tree.map(lambda g: xp.astype(g * scale, g.dtype), grads), norm


def _sum_of_squares(g: Array) -> Array:
    """In float32 at least: in half precision it would not fit."""
    wide = widened(g)
    return namespace(g).sum(wide * wide)
