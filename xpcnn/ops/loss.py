"""Losses: the mean over a batch as a 0-d array, whose gradient reaches predictions, not labels.

An empty batch has loss 0. Class scores are x (N, K) or (N, K, *space): the classes are axis 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .._check import require_channels, require_share
from .._xp import Array, device_of, namespace, product
from ._op import op
from .activation import sigmoid, softplus
from .softmax import log_softmax


@op(integers=("target",))
def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Array:
    """Mean of -log softmax(x) at the labels: x are logits (N, K, *space), of any size.

    target is integer labels (N, *space), or one-hot labels or probabilities of x's shape and dtype.
    weight (K,) counts classes differently: the mean divides by the labels' sum of weights.
    label_smoothing e mixes labels with equal parts of all classes, (1 - e) : e. Labels that equal
    ignore_index do not count; where none count the loss and its gradient are 0.

    One-hot labels give what their integers give, with weights too, where PyTorch divides by N.
    Labels are not searched for values outside [0, K), which would not count either: `fit` does that
    once. Raises ValueError where shapes do not fit, and for a smoothing outside [0, 1].

    >>> import numpy as np
    >>> x = np.asarray([[2.0, 0.0], [0.0, 0.0]])
    >>> round(float(cross_entropy(x, np.asarray([0, 1]))), 4)
    0.41

    Source: Szegedy et al., "Rethinking the Inception architecture", 2016, for label smoothing.
    """
    share = _shares("cross_entropy", x, target, weight, ignore_index, label_smoothing)
    return _expected(share, log_softmax(x))


@cross_entropy.pullback
def _(x, target, weight=None, *, ignore_index=-100, label_smoothing=0.0):
    xp = namespace(x)
    share = _shares("cross_entropy", x, target, weight, ignore_index, label_smoothing)
    logs = log_softmax(x)
    slope = xp.exp(logs) * xp.sum(share, axis=1, keepdims=True) - share
    return _expected(share, logs), lambda dy: (dy * slope, None, None)


@op(integers=("target",))
def nll_loss(
    x: Array, target: Array, weight: Array | None = None, *, ignore_index: int = -100
) -> Array:
    """Mean of -x at the labels: x are log-probabilities (N, K, *space), as of `log_softmax`.

    target is integer labels (N, *space); weight and ignore_index as in `cross_entropy`.

    Raises ValueError where shapes do not fit, TypeError for labels that are not integers.

    >>> import numpy as np
    >>> nll_loss(np.asarray([[-1.0, -2.0], [-3.0, -4.0]]), np.asarray([0, 1]))
    array(2.5)

    Source: torch.nn.functional.nll_loss.
    """
    return _expected(_label_shares("nll_loss", x, target, weight, ignore_index), x)


@nll_loss.pullback
def _(x, target, weight=None, *, ignore_index=-100):
    share = _label_shares("nll_loss", x, target, weight, ignore_index)
    return _expected(share, x), lambda dy: (dy * -share, None, None)


def _expected(share: Array, logs: Array) -> Array:
    """Sum of -share * logs, where a share of 0 counts as 0 also beside -inf."""
    xp = namespace(logs)
    return _sum(-share * xp.where(share == 0.0, xp.zeros_like(logs), logs))


def _sum(v: Array) -> Array:
    """A 0-d array of all entries' sum; NumPy alone would make a scalar of it."""
    xp = namespace(v)
    return xp.reshape(xp.sum(v, keepdims=True), ())


def _mean(v: Array) -> Array:
    return _sum(v / max(1, product(v.shape)))


def _label_shares(call, x, target, weight, ignore_index) -> Array:
    xp = namespace(x)
    if xp.isdtype(target.dtype, "real floating"):
        raise TypeError(f"{call}: target must be integer labels; probabilities go to cross_entropy")
    return _shares(call, x, target, weight, ignore_index, 0.0)


def _shares(call, x, target, weight, ignore_index, smoothing) -> Array:
    """What each -log(p) weighs in the mean, in x's shape and dtype."""
    _check_labels(call, x, target, weight)
    require_share(call, "label_smoothing", smoothing)
    xp = namespace(x)
    if xp.isdtype(target.dtype, "real floating"):
        labels, counts = target, 1.0
    else:
        labels, counts = _one_hot(target, ignore_index, x)
    per_class = 1.0 if weight is None else xp.reshape(weight, (1, -1, *[1] * (x.ndim - 2)))
    total = xp.sum(labels * per_class, keepdims=True)
    total = total + xp.astype(total == 0.0, x.dtype)  # nothing counts: 0 / 1
    if smoothing:
        labels = (1.0 - smoothing) * labels + (smoothing / x.shape[1]) * counts
    return labels * per_class / total


def _one_hot(target: Array, ignore_index: int, x: Array) -> tuple[Array, Array]:
    """Labels as 1.0 among 0.0, and 1.0 where they count, of shapes to multiply with x.

    By comparison, for a gather would depend on the data.
    """
    xp = namespace(x)
    target = xp.expand_dims(xp.astype(target, xp.int32), axis=1)
    classes = xp.arange(x.shape[1], dtype=xp.int32, device=device_of(x))
    counts = target != ignore_index
    hot = (target == xp.reshape(classes, (1, -1, *[1] * (x.ndim - 2)))) & counts
    return xp.astype(hot, x.dtype), xp.astype(counts, x.dtype)


def _check_labels(call: str, x: Array, target: Array, weight: Array | None) -> None:
    require_channels(call, x.shape, "K")
    shape, labels = tuple(x.shape), (x.shape[0], *x.shape[2:])
    floating = namespace(x).isdtype(target.dtype, "real floating")
    if tuple(target.shape) != (shape if floating else labels):
        kind = f"probabilities {shape}" if floating else f"integer labels {labels}"
        raise ValueError(
            f"{call}: x (N, K, *space) is {shape} and needs {kind} as target; "
            f"target is {tuple(target.shape)}"
        )
    if weight is not None and tuple(weight.shape) != shape[1:2]:
        raise ValueError(f"{call}: weight must be (K={shape[1]},); weight is {tuple(weight.shape)}")


def _by_difference(f: Any) -> Callable:
    """Give the loss f(x, target) the pullback of a mean error with slope(x - target, *options)."""

    def attach(slope: Callable) -> Callable:
        @f.pullback
        def _(x, target, *args, **options):
            def pull(dy: Array) -> tuple:
                dx = slope(x - target, *args, **options) * (dy / max(1, product(x.shape)))
                return dx, lambda: -dx

            return f(x, target, *args, **options), pull

        return slope

    return attach


def _difference(call: str, x: Array, target: Array) -> Array:
    _check_same_shape(call, x, target)
    return x - target


def _check_same_shape(call: str, x: Array, target: Array) -> None:
    if tuple(x.shape) != tuple(target.shape):
        raise ValueError(
            f"{call}: x {tuple(x.shape)} needs a target of its shape; "
            f"target is {tuple(target.shape)}"
        )


@op
def mse_loss(x: Array, target: Array) -> Array:
    """Mean of (x - target)**2; both of one shape, and both get a gradient.

    Raises ValueError where the shapes differ.

    >>> import numpy as np
    >>> mse_loss(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0]))
    array(2.)

    Source: Gauss's least squares, 1809.
    """
    d = _difference("mse_loss", x, target)
    return _mean(d * d)


@_by_difference(mse_loss)
def _(d):
    return 2.0 * d


@op
def l1_loss(x: Array, target: Array) -> Array:
    """Mean of |x - target|; both of one shape, and both get a gradient, 0 where they are equal.

    Raises ValueError where the shapes differ.

    >>> import numpy as np
    >>> l1_loss(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0]))
    array(1.)

    Source: Laplace's least absolute deviations, 1793.
    """
    d = _difference("l1_loss", x, target)
    return _mean(namespace(d).abs(d))


@_by_difference(l1_loss)
def _(d):
    return namespace(d).sign(d)


@op
def huber_loss(x: Array, target: Array, delta: float = 1.0) -> Array:
    """Mean of d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), of d = x - target.

    Both are of one shape, and both get a gradient. Raises ValueError where the shapes differ, and
    for a delta that is not positive.

    >>> import numpy as np
    >>> huber_loss(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0]))
    array(0.75)

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive; it is {delta}")
    return _mean(_huber(_difference("huber_loss", x, target), delta))


@_by_difference(huber_loss)
def _(d, delta=1.0):
    return namespace(d).clip(d, -delta, delta)


def _huber(d: Array, delta: float) -> Array:
    near = namespace(d).clip(d, -delta, delta)
    return near * (d - 0.5 * near)


@op
def smooth_l1_loss(x: Array, target: Array, beta: float = 1.0) -> Array:
    """`huber_loss` with delta = beta, over beta: slope 1 far away; at beta = 0 it is `l1_loss`.

    Both are of one shape, and both get a gradient. Raises ValueError where the shapes differ, and
    for a negative beta.

    >>> import numpy as np
    >>> smooth_l1_loss(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0]), beta=0.5)
    array(0.875)

    Source: Girshick, "Fast R-CNN", 2015.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative; it is {beta}")
    d = _difference("smooth_l1_loss", x, target)
    return _mean(_huber(d, beta) / beta if beta else namespace(d).abs(d))


@_by_difference(smooth_l1_loss)
def _(d, beta=1.0):
    xp = namespace(d)
    return xp.clip(d, -beta, beta) / beta if beta else xp.sign(d)


@op
def binary_cross_entropy_with_logits(
    x: Array, target: Array, weight: Array | None = None, pos_weight: Array | None = None
) -> Array:
    """Mean of -target * log(p) - (1 - target) * log(1 - p), of p = sigmoid(x) for logits x.

    target, of x's shape and dtype, holds numbers from 0 to 1. weight multiplies the terms and
    pos_weight the first half of each; both broadcast to x. Only x, which is finite, has a gradient.

    Raises ValueError where shapes do not fit.

    >>> import numpy as np
    >>> round(float(binary_cross_entropy_with_logits(np.zeros(2), np.asarray([0.0, 1.0]))), 4)
    0.6931

    Source: torch.nn.functional.binary_cross_entropy_with_logits.
    """
    _check_binary(x, target, weight=weight, pos_weight=pos_weight)
    present = target if pos_weight is None else pos_weight * target
    terms = present * softplus(-x, threshold=math.inf)
    terms = terms + (1.0 - target) * softplus(x, threshold=math.inf)
    return _mean(terms if weight is None else weight * terms)


@binary_cross_entropy_with_logits.pullback
def _(x, target, weight=None, pos_weight=None):
    def pull(dy: Array) -> tuple:
        present = target if pos_weight is None else pos_weight * target
        slope = (1.0 - target) * sigmoid(x) - present * sigmoid(-x)
        slope = slope if weight is None else weight * slope
        return slope * (dy / max(1, product(x.shape))), None, None, None

    return binary_cross_entropy_with_logits(x, target, weight, pos_weight), pull


def _check_binary(x: Array, target: Array, **factors: Array | None) -> None:
    call, shape = "binary_cross_entropy_with_logits", tuple(x.shape)
    _check_same_shape(call, x, target)
    for name, v in factors.items():
        if v is not None and not _broadcasts(tuple(v.shape), shape):
            raise ValueError(
                f"{call}: {name} must broadcast to x {shape}; {name} is {tuple(v.shape)}"
            )


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)
