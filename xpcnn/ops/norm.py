"""Normalisation: by given statistics, by those of a batch, a layer, a group or an instance.

x is (N, C, *space) of any rank from 2. A mean is taken first and the variance around it, for the
difference of two large squares would lose its digits; variances divide by n, not n - 1. A pull
holds x and the statistics, and standardises again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from numbers import Real

from .. import engines
from .._check import entries, require_channels, require_count
from .._xp import Array, device_of, namespace, product
from ._offered import offered
from ._op import op
from ._sums import channel_sums, sum_over
from .activation import _clip, _clip_dx


@op
def batch_norm(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    bounds: tuple[float, float | None] | None = None,
) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias, by given statistics of each channel.

    x is (N, C, *space); mean, var, weight and bias are (C,). Returns x's shape and dtype. mean and
    var get no gradient. This is what a trained network does: `batch_norm_train` trains it.
    `bounds` clip the result, which costs nothing here: (0.0, None) is relu, (0.0, 6.0) is relu6.

    Raises ValueError where shapes do not fit, and for bounds that are no (low, high).

    >>> import numpy as np
    >>> x = np.asarray([[1.0, 2.0], [3.0, 6.0]])
    >>> batch_norm(x, np.asarray([2.0, 4.0]), np.asarray([1.0, 4.0]), eps=0.0)
    array([[-1., -1.],
           [ 1.,  1.]])

    Source: Ioffe and Szegedy, "Batch normalization", 2015.
    """
    _check_channels("batch_norm", x, mean=mean, var=var, weight=weight, bias=bias)
    require_bounds("batch_norm", bounds)
    return _standardise(x, mean, var, weight, bias, eps, bounds)


@offered("batch_norm")
def _standardise(x, mean, var, weight, bias, eps, bounds) -> Array:
    scale = _inverse_root(var, eps) if weight is None else weight * _inverse_root(var, eps)
    y = (x - _spread(mean, x)) * _spread(scale, x)
    return _within(y if bias is None else y + _spread(bias, x), bounds)


@batch_norm.pullback
def _(x, mean, var, weight=None, bias=None, eps=1e-5, bounds=None):
    shared = _all_but_channels(x)
    y = batch_norm(x, mean, var, weight, bias, eps, bounds)
    within = _within_pull(y, bounds)

    def pull(dy: Array) -> tuple:
        dy = within(dy)
        inverse = _inverse_root(var, eps)

        def dx() -> Array:
            return dy * _spread(inverse if weight is None else weight * inverse, x)

        def dweight() -> Array:
            return inverse * sum_over(dy * (x - _spread(mean, x)), shared)

        return (
            dx,
            None,
            None,
            None if weight is None else dweight,
            None if bias is None else lambda: channel_sums(dy),
        )

    return y, pull


@op(in_engines=True)
def batch_norm_train(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    bounds: tuple[float, float | None] | None = None,
) -> tuple[Array, Array, Array]:
    """`batch_norm` by the batch's own statistics: (y, mean, var), with the pull of y alone.

    x is (N, C, *space); weight, bias, mean and var are (C,). var is biased, as it is used: it
    divides by n = N * space. Running statistics want the unbiased one, var * n / (n - 1).

    Raises ValueError where shapes do not fit, for bounds that are no (low, high), and for fewer
    than two values in a channel: their variance says nothing.

    >>> import numpy as np
    >>> y, mean, var = batch_norm_train(np.asarray([[1.0, 2.0], [3.0, 6.0]]), eps=0.0)
    >>> y, mean, var
    (array([[-1., -1.],
           [ 1.,  1.]]), array([2., 4.]), array([1., 4.]))

    Source: Ioffe and Szegedy, "Batch normalization", 2015.
    """
    return _by_batch(x, weight, bias, eps, bounds)


@batch_norm_train.pullback
def _(x, weight=None, bias=None, eps=1e-5, bounds=None):
    y, mean, var = _by_batch(x, weight, bias, eps, bounds)  # not rounded yet
    define = _pull(x, _plan_batch(x), _spread(mean, x), _spread(var, x), weight, bias, eps)
    within = _within_pull(y, bounds)

    def pull(dy: Array) -> tuple:
        statistics = mean, var, weight, bias, eps
        grads = engines.offered("batch_norm_train_dx", dy, x, *statistics, bounds)
        if grads is NotImplemented:
            return define(within(dy))
        given = (x, weight, bias)
        return tuple(None if a is None else grad for a, grad in zip(given, grads, strict=True))

    return (y, mean, var), pull


def _by_batch(x, weight, bias, eps, bounds) -> tuple[Array, Array, Array]:
    _check_channels("batch_norm_train", x, weight=weight, bias=bias)
    axes = _all_but_channels(x)
    _check_values("batch_norm_train", x, axes, "use batch_norm, by running statistics")
    require_bounds("batch_norm_train", bounds)
    return _standardise_batch(x, weight, bias, eps, bounds)


@offered("batch_norm_train")
def _standardise_batch(x, weight, bias, eps, bounds) -> tuple[Array, Array, Array]:
    y, mean, var = _normalise(x, _plan_batch(x), weight, bias, eps)
    xp, channels = namespace(x), (x.shape[1],)
    return _within(y, bounds), xp.reshape(mean, channels), xp.reshape(var, channels)


@op
def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise each of x's (N, ..., *normalized_shape) last axes together, for each sample.

    weight and bias are of shape normalized_shape. Returns x's shape and dtype.

    Raises ValueError where shapes do not fit, an x without a batch among them.

    >>> import numpy as np
    >>> layer_norm(np.asarray([[1.0, 3.0], [4.0, 4.0]]), 2, eps=0.0001).round(3)
    array([[-1.,  1.],
           [ 0.,  0.]])

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016.
    """
    return _normalise(x, _plan_layer(x, normalized_shape, weight, bias), weight, bias, eps)[0]


@layer_norm.pullback
def _(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return _rule(x, _plan_layer(x, normalized_shape, weight, bias), weight, bias, eps)


@op
def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise each group of C / num_groups neighbouring channels of x (N, C, *space) together.

    weight and bias are (C,). Returns x's shape and dtype.

    Raises ValueError where num_groups does not divide C or shapes do not fit.

    >>> import numpy as np
    >>> group_norm(np.asarray([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0)
    array([[-1.,  1., -1.,  1.]])

    Source: Wu and He, "Group normalization", 2018.
    """
    return _normalise(x, _plan_group(x, num_groups, weight, bias), weight, bias, eps)[0]


@group_norm.pullback
def _(x, num_groups, weight=None, bias=None, eps=1e-5):
    return _rule(x, _plan_group(x, num_groups, weight, bias), weight, bias, eps)


@op
def instance_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalise each channel of each sample of x (N, C, *space) over space.

    weight and bias are (C,). Returns x's shape and dtype.

    Raises ValueError where shapes do not fit, and for fewer than two values in space.

    >>> import numpy as np
    >>> instance_norm(np.asarray([[[1.0, 3.0], [5.0, 9.0]]]), eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance normalization", 2016.
    """
    return _normalise(x, _plan_instance(x, weight, bias), weight, bias, eps)[0]


@instance_norm.pullback
def _(x, weight=None, bias=None, eps=1e-5):
    return _rule(x, _plan_instance(x, weight, bias), weight, bias, eps)


@dataclass(frozen=True)
class _Plan:
    """What is normalised together, and which entries share a weight.

    `view` is the shape under which the values of one mean lie along `together`; `shared` are the
    axes of x, under its own shape, along which weight and bias are the same.
    """

    view: tuple[int, ...]
    together: tuple[int, ...]
    shared: tuple[int, ...]


def _normalise(x, plan, weight, bias, eps) -> tuple[Array, Array, Array]:
    """The normalised x, and the statistics, of size 1 along plan.together of the view."""
    xp = namespace(x)
    viewed = xp.reshape(x, plan.view)
    mean = _mean(viewed, plan)
    away = viewed - mean
    var = _mean(away * away, plan)
    y = xp.reshape(away * _inverse_root(var, eps), x.shape)
    y = y if weight is None else y * _aligned(weight, x, plan)
    return (y if bias is None else y + _aligned(bias, x, plan)), mean, var


def _rule(x, plan, weight, bias, eps) -> tuple[Array, Callable]:
    y, mean, var = _normalise(x, plan, weight, bias, eps)
    return y, _pull(x, plan, mean, var, weight, bias, eps)


def _pull(x, plan, mean, var, weight, bias, eps) -> Callable:
    """dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps), of g = dy * weight and normalised z."""
    xp = namespace(x)

    def pull(dy: Array) -> tuple:
        inverse = _inverse_root(var, eps)
        z = (xp.reshape(x, plan.view) - mean) * inverse

        def dx() -> Array:
            g = dy if weight is None else dy * _aligned(weight, x, plan)
            g = xp.reshape(g, plan.view)
            dz = g - _mean(g, plan) - z * _mean(g * z, plan)
            return xp.reshape(dz * inverse, x.shape)

        def dweight() -> Array:
            return sum_over(dy * xp.reshape(z, x.shape), plan.shared)

        return (
            dx,
            None if weight is None else dweight,
            None if bias is None else lambda: sum_over(dy, plan.shared),
        )

    return pull


def _mean(viewed: Array, plan: _Plan) -> Array:
    count = product(viewed.shape[axis] for axis in plan.together)
    return sum_over(viewed, plan.together, keepdims=True) / max(1, count)


def _within(y: Array, bounds: engines.Bounds | None) -> Array:
    return y if bounds is None else _clip(y, *bounds)


def _within_pull(y: Array, bounds: engines.Bounds | None) -> Callable:
    """The pull of `_within`, which gave y."""
    return (lambda dy: dy) if bounds is None else lambda dy: _clip_dx(dy, y, *bounds)


def _inverse_root(var: Array, eps: float) -> Array:
    return 1.0 / namespace(var).sqrt(var + eps)


def _aligned(weight: Array, x: Array, plan: _Plan) -> Array:
    """View the weight so that it broadcasts against x."""
    shape = tuple(1 if i in plan.shared else size for i, size in enumerate(x.shape))
    return namespace(weight).reshape(weight, shape)


def _spread(v: Array, x: Array) -> Array:
    """View v (C,) so that it broadcasts against x (N, C, *space)."""
    return namespace(v).reshape(v, (1, x.shape[1], *[1] * (x.ndim - 2)))


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _plan_batch(x) -> _Plan:
    axes = _all_but_channels(x)
    return _Plan(tuple(x.shape), axes, axes)


def _plan_instance(x, weight, bias) -> _Plan:
    _check_channels("instance_norm", x, weight=weight, bias=bias)
    space = tuple(range(2, x.ndim))
    _check_values("instance_norm", x, space, "give it more space, or use batch_norm")
    return _Plan(tuple(x.shape), space, _all_but_channels(x))


def _plan_group(x, num_groups, weight, bias) -> _Plan:
    _check_channels("group_norm", x, weight=weight, bias=bias)
    require_count("group_norm", "num_groups", num_groups)
    channels = x.shape[1]
    if channels % num_groups:
        raise ValueError(
            f"group_norm: num_groups={num_groups} does not divide C={channels} of x "
            f"{tuple(x.shape)}; give a divisor of {channels}"
        )
    size = channels // num_groups * product(x.shape[2:])
    return _Plan((x.shape[0], num_groups, size), (2,), _all_but_channels(x))


def _plan_layer(x, normalized_shape, weight, bias) -> _Plan:
    shape = entries(normalized_shape, 1)
    lead = x.ndim - len(shape)
    if not shape or lead < 1 or tuple(x.shape)[lead:] != shape:
        hint = ": pass x[None, ...] for a batch of one" if lead == 0 else ""
        raise ValueError(
            f"layer_norm: normalized_shape={shape} needs x (N, ..., *normalized_shape); "
            f"x is {tuple(x.shape)}{hint}"
        )
    for name, v in (("weight", weight), ("bias", bias)):
        if v is not None and tuple(v.shape) != shape:
            raise ValueError(f"layer_norm: {name} must be {shape}; {name} is {tuple(v.shape)}")
    return _Plan(tuple(x.shape), tuple(range(lead, x.ndim)), tuple(range(lead)))


def _check_channels(call: str, x: Array, **vectors: Array | None) -> None:
    require_channels(call, x.shape)
    for name, v in vectors.items():
        if v is not None and tuple(v.shape) != (x.shape[1],):
            raise ValueError(
                f"{call}: {name} must be (C={x.shape[1]},) for x {tuple(x.shape)}; "
                f"{name} is {tuple(v.shape)}"
            )


def _check_values(call: str, x: Array, axes: tuple[int, ...], advice: str) -> None:
    count = product(x.shape[i] for i in axes)
    if count < 2:
        raise ValueError(
            f"{call}: a variance needs two values or more; x {tuple(x.shape)} has {count} for each "
            f"mean: {advice}"
        )


def require_bounds(call: str, bounds: engines.Bounds | None) -> None:
    """Raise TypeError for what is neither None nor (low, high), ValueError for an empty range."""
    if bounds is None:
        return
    low, high = bounds if isinstance(bounds, tuple) and len(bounds) == 2 else ("", "")
    high = inf if high is None else high
    numbers = isinstance(low, Real) and isinstance(high, Real)
    if not numbers or not low < high:
        raise (ValueError if numbers else TypeError)(
            f"{call}: bounds={bounds!r}; give None or (low, high) with low < high, "
            "where a high of None is no bound"
        )


@op
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """x / (k + alpha / size * s)**beta, with s the sum of squares over `size` channels around.

    x is (N, C, *space); the window of channel c runs from c - size // 2 and holds zeros beyond the
    edges. Returns x's shape and dtype. The division by `size` is PyTorch's and ONNX's; the paper
    has none.

    Raises ValueError for a size below 1 or an x without channels.

    >>> import numpy as np
    >>> local_response_norm(np.asarray([[1.0, 2.0, 0.0]]), 2, alpha=2.0, beta=1.0)
    array([[0.5       , 0.33333333, 0.        ]])

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks", 2012.
    """
    return x * _response(x, size, alpha, k) ** -beta


@local_response_norm.pullback
def _(x, size, alpha=1e-4, beta=0.75, k=1.0):
    def pull(dy: Array) -> tuple:
        response = _response(x, size, alpha, k)
        shrunk = dy * response**-beta
        back = _channel_sums(shrunk * x / response, size, before=(size - 1) // 2)
        return (shrunk - (2.0 * alpha * beta / size) * x * back,)

    return local_response_norm(x, size, alpha, beta, k), pull


def _response(x: Array, size: int, alpha: float, k: float) -> Array:
    _check_channels("local_response_norm", x)
    require_count("local_response_norm", "size", size)
    return k + (alpha / size) * _channel_sums(x * x, size, before=size // 2)


def _channel_sums(v: Array, size: int, before: int) -> Array:
    """Sums of `size` neighbouring channels, the first of them `before` channels ahead."""
    xp, (batch, channels, *space) = namespace(v), v.shape

    def zeros(count: int) -> Array:
        shape = (batch, count, *space)
        return xp.zeros(shape, dtype=v.dtype, device=device_of(v))

    padded = xp.concat([zeros(before), v, zeros(size - 1 - before)], axis=1)
    total = padded[:, :channels, ...]
    for i in range(1, size):
        total = total + padded[:, i : i + channels, ...]
    return total
