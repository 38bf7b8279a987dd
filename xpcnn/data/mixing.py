"""Mixing the images of a batch with each other, and their labels alike.

What is drawn is drawn on the host, so that a key means the same mixture on every library; pixels
are mixed where they are. Call it before a compiled step, not in it: a traced key cannot be drawn
from.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import reduce
from numbers import Real

import numpy as np

from .. import random
from .._check import require_count
from .._xp import Array, device_of, index_dtype, namespace, require_same
from ..ops._op import in_float32

SHARE, PARTNERS, PLACE = range(3)  # what the key is folded with


@dataclass(frozen=True)
class Mixup:
    """Blend each image with another of its batch: share x + (1 - share) x[partner].

    The batch has one share, of the distribution Beta(alpha, alpha), and each image one partner, by
    a random permutation. Called with a key, floating images x (N, C, *space) and labels y (N, K) as
    probabilities (`one_hot`), it returns both mixed, in their shapes and dtypes; float16 is blended
    in float32.

    Raises ValueError for an alpha that is not finite and positive and for shapes that do not fit,
    TypeError for images or labels that are not floating.

    >>> from xpcnn import random
    >>> x, y = np.asarray([[0.0], [1.0]]), np.asarray([[1.0, 0.0], [0.0, 1.0]])
    >>> mixed, labels = Mixup(alpha=1.0)(random.key(1), x, y)
    >>> bool(np.all(mixed[:, 0] == labels[:, 1])), labels.sum(axis=1)
    (True, array([1., 1.]))

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", 2018.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        _check_alpha(self)

    def __call__(self, key: random.Key, x: Array, y: Array) -> tuple[Array, Array]:
        """The mixed images and labels."""
        _check_batch("Mixup", key, x, y)
        share, partners = _draw_share(key, self.alpha), _draw_partners(key, x)
        return _blend(x, partners, share), _blend(y, partners, share)


@dataclass(frozen=True)
class CutMix:
    """Paste a box of another image of the batch into each, in the same place in all.

    The box's centre is uniform, and it covers the share 1 - s, s of Beta(alpha, alpha), of each
    image, less what lies beyond the edges; along an axis of size 1 it takes all. Labels are mixed
    by the share that it does cover. Called with a key, floating images x (N, C, *space) and labels
    y (N, K) as probabilities (`one_hot`), it returns both mixed, in their shapes and dtypes.

    Raises ValueError for an alpha that is not finite and positive and for shapes that do not fit,
    TypeError for images or labels that are not floating.

    >>> from xpcnn import random
    >>> x = np.zeros((2, 1, 4, 4)) + np.asarray([0.0, 1.0]).reshape(2, 1, 1, 1)
    >>> mixed, labels = CutMix()(random.key(3), x, np.eye(2))
    >>> mixed[0, 0]
    array([[0., 1., 1., 0.],
           [0., 1., 1., 0.],
           [0., 0., 0., 0.],
           [0., 0., 0., 0.]])
    >>> labels[0]
    array([0.75, 0.25])

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers with
    localizable features", 2019.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)

    def __call__(self, key: random.Key, x: Array, y: Array) -> tuple[Array, Array]:
        """The mixed images and labels."""
        _check_batch("CutMix", key, x, y)
        if x.ndim < 3 or 0 in x.shape[2:]:
            raise ValueError(f"CutMix: x must be (N, C, *space) with space; it is {tuple(x.shape)}")
        space, partners = x.shape[2:], _draw_partners(key, x)
        box = _draw_box(key, space, _draw_share(key, self.alpha))
        covered = math.prod(stop - start for start, stop in box) / math.prod(space)
        xp = namespace(x)
        mixed = xp.where(_inside(box, x), xp.take(x, partners, axis=0), x)
        return mixed, _blend(y, partners, 1.0 - covered)


def one_hot(labels: Array, classes: int, dtype: str = "float32") -> Array:
    """Labels (N,), integers from 0 to classes - 1, as probabilities (N, classes): 1.0 among 0.0.

    A label outside that range has a row of zeros. Raises ValueError for other shapes, TypeError for
    labels that are not integers.

    >>> one_hot(np.asarray([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)

    Source: torch.nn.functional.one_hot, with a dtype to compute in.
    """
    xp = namespace(labels)
    require_count("one_hot", "classes", classes)
    if not xp.isdtype(labels.dtype, "integral"):
        raise TypeError(f"one_hot: labels must be integers; they are {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"one_hot: labels must be (N,); they are {tuple(labels.shape)}")
    wide = index_dtype(xp)  # uint8 cannot count 300 classes
    every = xp.arange(classes, dtype=wide, device=device_of(labels))
    hits = xp.expand_dims(xp.astype(labels, wide), axis=1) == xp.expand_dims(every, axis=0)
    return xp.astype(hits, getattr(xp, dtype))


def _draw_share(key: random.Key, alpha: float) -> float:
    """A number of Beta(alpha, alpha), from two uniform ones.

    Of uniform u and v, t = sqrt(n (u**(-2 / n) - 1)) cos(2 pi v) is Student's with n degrees of
    freedom, and (1 + t / sqrt(n + t**2)) / 2 is of Beta(n / 2, n / 2).

    Source: Bailey, "Polar generation of random variates with the t-distribution", 1994; Devroye,
    "Random variate generation in one line of code", 1996.
    """
    u, v = (float(number) for number in random.uniform(random.fold_in(key, SHARE), (2,)))
    power = u ** (1.0 / alpha)
    cosine = math.sqrt(1.0 - power) * math.cos(2.0 * math.pi * v)
    return 0.5 + 0.5 * cosine / math.hypot(cosine, math.sqrt(power))


def _draw_partners(key: random.Key, x: Array) -> Array:
    order = random.permutation(random.fold_in(key, PARTNERS), x.shape[0])
    return namespace(x).asarray(order.astype(np.int32), device=device_of(x))


def _draw_box(key: random.Key, space: tuple[int, ...], share: float) -> list[tuple[int, int]]:
    """Along each axis where the box starts and stops, within the image."""
    centre = random.uniform(random.fold_in(key, PLACE), (len(space),))
    side = (1.0 - share) ** (1.0 / max(1, sum(size > 1 for size in space)))
    box = []
    for place, size in zip(centre, space, strict=True):
        middle, half = int(place * size), int(0.5 * side * size)
        cut = max(middle - half, 0), min(middle + half, size)
        box.append(cut if size > 1 else (0, 1))
    return box


def _inside(box: list[tuple[int, int]], x: Array) -> Array:
    """Which places of x (N, C, *space) lie in the box: (1, 1, *space)."""
    xp = namespace(x)

    def along(axis: int, start: int, stop: int) -> Array:
        places = xp.arange(x.shape[axis], dtype=xp.int32, device=device_of(x))
        shape = tuple(-1 if i == axis else 1 for i in range(x.ndim))
        return xp.reshape((places >= start) & (places < stop), shape)

    return reduce(operator.and_, (along(axis, *ends) for axis, ends in enumerate(box, 2)))


def _blend(a: Array, partners: Array, share: float) -> Array:
    def blended(a: Array) -> Array:
        return share * a + (1.0 - share) * namespace(a).take(a, partners, axis=0)

    return in_float32(blended, a)


def _check_alpha(mixing: Mixup | CutMix) -> None:
    call = f"{type(mixing).__name__}(alpha={mixing.alpha!r})"
    if not isinstance(mixing.alpha, Real):
        raise TypeError(f"{call}: alpha must be a number")
    if not 0.0 < mixing.alpha < math.inf:
        raise ValueError(f"{call}: alpha must be finite and positive")


def _check_batch(call: str, key: random.Key, x: Array, y: Array) -> None:
    random.require_key(call, key)
    require_same(call, {"x": x, "y": y})
    xp = namespace(x)
    for name, a in {"x": x, "y": y}.items():
        if not xp.isdtype(a.dtype, "real floating"):
            hint = "scale it to [0, 1]" if name == "x" else "make it probabilities by one_hot"
            raise TypeError(f"{call}: {name} must be floating; it is {a.dtype}; {hint}")
    if x.ndim < 2 or y.ndim != 2 or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"{call}: x must be (N, C, *space) and y (N, K); x is {tuple(x.shape)} and y "
            f"{tuple(y.shape)}"
        )
