"""Initial weights: drawn on the host in float64, so that every library starts from the same ones.

Weights are (out, in, *kernel): OIHW for a convolution, (out, in) for a linear layer. Fans are by
PyTorch's convention: fan_in = shape[1] * prod(kernel), where shape[1] is C/G, and fan_out =
shape[0] * prod(kernel). He's rules hold the gain of ReLU, a factor of 2 in the variance.

Sources: LeCun, Bottou, Orr and Mueller, "Efficient backprop", 1998 (lecun); Glorot and Bengio,
"Understanding the difficulty of training deep feedforward neural networks", 2010 (xavier); He,
Zhang, Ren and Sun, "Delving deep into rectifiers", 2015 (he); Saxe, McClelland and Ganguli, "Exact
solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014 (orthogonal).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from .. import random
from .._xp import product
from ..random import Key

Shape = tuple[int, ...]


def initialize(name: str, key: Key, shape: Shape) -> np.ndarray:
    """Draw a tensor of `shape` by the rule `name`, in float64 on the host.

    Rules: xavier_uniform, xavier_normal (or glorot_...), he_uniform, he_normal (or kaiming_...,
    msra_...), lecun_uniform, lecun_normal, orthogonal, zeros, ones. Raises ValueError for another
    name, and for a shape without fans (rank below 2, or a size below 1) where the rule needs them.

    >>> initialize("he_normal", random.key(0), (1, 2)).round(3)
    array([[ 0.029, -1.354]])
    """
    try:
        rule = RULES[name]
    except KeyError:
        raise ValueError(
            f"initialize: no rule {name!r}; choose one of {', '.join(RULES)}"
        ) from None
    if rule not in (_zeros, _ones) and (len(shape) < 2 or min(shape) < 1):
        raise ValueError(
            f"initialize: {name} needs weights (out, in, *kernel), all sizes >= 1; shape is {shape}"
        )
    return rule(key, shape)


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of weights (out, in, *kernel).

    >>> fans((8, 4, 3, 3))
    (36, 72)
    """
    out, into, *kernel = shape
    return into * product(kernel), out * product(kernel)


def _xavier(fan_in: int, fan_out: int) -> float:
    return 2.0 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    return 2.0 / fan_in


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1.0 / fan_in


def _uniform(variance: Callable[[int, int], float], key: Key, shape: Shape) -> np.ndarray:
    bound = math.sqrt(3.0 * variance(*fans(shape)))
    return bound * (2.0 * random.uniform(key, shape) - 1.0)


def _normal(variance: Callable[[int, int], float], key: Key, shape: Shape) -> np.ndarray:
    return math.sqrt(variance(*fans(shape))) * random.normal(key, shape)


def _orthogonal(key: Key, shape: Shape) -> np.ndarray:
    """Orthonormal rows of the (out, in * kernel) matrix, or columns where it has more rows."""
    rows, columns = shape[0], product(shape[1:])
    draw = random.normal(key, (max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draw)
    q *= np.copysign(1.0, np.diagonal(r))  # makes q unique, and so uniform over the group
    return (q if rows >= columns else q.T).reshape(shape)


def _zeros(key: Key, shape: Shape) -> np.ndarray:
    return np.zeros(shape, np.float64)


def _ones(key: Key, shape: Shape) -> np.ndarray:
    return np.ones(shape, np.float64)


_VARIANCES = {
    "xavier": _xavier,
    "glorot": _xavier,
    "he": _he,
    "kaiming": _he,
    "msra": _he,
    "lecun": _lecun,
}
RULES: dict[str, Callable[[Key, Shape], np.ndarray]] = {
    f"{name}_{draw.__name__[1:]}": partial(draw, variance)
    for name, variance in _VARIANCES.items()
    for draw in (_uniform, _normal)
} | {"orthogonal": _orthogonal, "zeros": _zeros, "ones": _ones}
