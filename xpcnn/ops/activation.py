"""Activations: a function of each entry, and its derivative.

Shapes are free and kept. None overflows, however large |x|: where a formula holds e**x, it is taken
as a fraction of two exponentials of at most 1. NaN passes. A pull holds x or y, whichever it needs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

from .. import engines
from .._xp import Array, namespace
from ._erf import erfc
from ._offered import offered
from ._op import op
from ._sums import sum_over

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

FAR = 1000.0  # beyond, every gate is 0 or 1 in every dtype; nearer, none of their powers overflows


def _in_one_pass(definition: Callable) -> Callable:
    """Let engines do the activation f(x, *options), which they know by name."""

    @wraps(definition)
    def ask(x: Array, *args: Any, **options: Any) -> Array:
        y = engines.offered("activation", x, *_name_and_options(definition, args, options))
        return definition(x, *args, **options) if y is NotImplemented else y

    return ask


def _derivative(f: Any, of: str = "x") -> Callable:
    """Give the op f(x, *options) the pullback dy * slope(x, *options), or of y instead of x."""

    def attach(slope: Callable) -> Callable:
        @f.pullback
        def _(x, *args, **options):
            y = f(x, *args, **options)
            held = {"x": x, "y": y}[of]

            def pull(dy: Array) -> tuple:
                call = _name_and_options(f, args, options)
                dx = engines.offered("activation_dx", dy, held, *call)
                return (dy * slope(held, *args, **options) if dx is NotImplemented else dx,)

            return y, pull

        return slope

    return attach


def _name_and_options(f: Callable, args: tuple, options: dict[str, Any]) -> tuple:
    """How engines are told of f(x, *args, **options): its name, and all options in their order."""
    return _bound(f, *args, **options) if args or options else _unless_given(f)


def _bound(f: Callable, *args: Any, **options: Any) -> tuple:
    given = _signature(f).bind(None, *args, **options)
    given.apply_defaults()
    return f.__name__, *given.args[1:]


_signature = cache(inspect.signature)
_unless_given = cache(_bound)  # to bind takes a third of a small call


def _one_where(condition: Array, x: Array) -> Array:
    """1.0 and 0.0 of x's dtype; products with it are several times faster than `where` on NumPy."""
    return namespace(x).astype(condition, x.dtype)


@offered("clip")
def _clip(x: Array, low: float, high: float | None) -> Array:
    """x within [low, high], NaN passing; no bound where high is None."""
    return namespace(x).clip(x, low, high)


@offered("clip_dx")
def _clip_dx(dy: Array, y: Array, low: float, high: float | None) -> Array:
    """Gradient of `_clip`, which gave y."""
    inside = y > low if high is None else (y > low) & (y < high)
    return dy * _one_where(inside, y)


def _clip_vjp(x: Array, low: float, high: float | None = None) -> tuple[Array, Callable]:
    y = _clip(x, low, high)
    return y, lambda dy: (_clip_dx(dy, y, low, high),)


def _positive(x: Array) -> Array:
    return namespace(x).clip(x, 0.0, None)


def _negative(x: Array) -> Array:
    return namespace(x).clip(x, None, 0.0)


def _fraction_of_exp(x: Array) -> tuple[Array, Array]:
    """Numbers p and q in [0, 1], one of them 1, with p / q = e**x."""
    xp = namespace(x)
    return xp.exp(_negative(x)), xp.exp(_negative(-x))


def _logistic(x: Array) -> Array:
    p, q = _fraction_of_exp(x)
    return p / (p + q)


@op(in_engines=True)
def relu(x: Array) -> Array:
    """max(x, 0), of x's shape and dtype. Its gradient at 0 is 0.

    >>> import numpy as np
    >>> relu(np.asarray([-1.0, 2.0, np.nan]))
    array([ 0.,  2., nan])

    Source: Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.
    """
    return _clip(x, 0.0, None)


relu.pullback(partial(_clip_vjp, low=0.0))


@op(in_engines=True)
def relu6(x: Array) -> Array:
    """min(max(x, 0), 6), of x's shape and dtype. Its gradient at 0 and at 6 is 0.

    >>> import numpy as np
    >>> relu6(np.asarray([-1.0, 2.0, 8.0]))
    array([0., 2., 6.])

    Source: Howard et al., "MobileNets", 2017.
    """
    return _clip(x, 0.0, 6.0)


relu6.pullback(partial(_clip_vjp, low=0.0, high=6.0))


@op(in_engines=True)
@_in_one_pass
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where positive, else negative_slope * x. Its gradient at 0 is negative_slope.

    >>> import numpy as np
    >>> leaky_relu(np.asarray([-1.0, 2.0]))
    array([-0.01,  2.  ])

    Source: Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models",
    2013.
    """
    return _positive(x) + negative_slope * _negative(x)


@_derivative(leaky_relu)
def _(x, negative_slope=0.01):
    return _one_where(x > 0.0, x) + negative_slope * _one_where(x <= 0.0, x)


@op
def prelu(x: Array, weight: Array) -> Array:
    """x where positive, else weight * x: x (N, C, *space), weight (C,) or, for all alike, (1,).

    Its gradient at x = 0 is weight. Raises ValueError where shapes do not fit.

    >>> import numpy as np
    >>> prelu(np.asarray([[-1.0, -2.0]]), np.asarray([0.5, 0.25]))
    array([[-0.5, -0.5]])

    Source: He et al., "Delving deep into rectifiers", 2015.
    """
    return _positive(x) + _slopes(x, weight) * _negative(x)


@prelu.pullback
def _(x, weight):
    xp, slopes = namespace(x), _slopes(x, weight)

    def pull(dy: Array) -> tuple:
        def dweight() -> Array:
            shared = tuple(i for i in range(x.ndim) if i != 1 or weight.shape[0] == 1)
            return xp.reshape(sum_over(dy * _negative(x), shared), weight.shape)

        return lambda: dy * (_one_where(x > 0.0, x) + slopes * _one_where(x <= 0.0, x)), dweight

    return prelu(x, weight), pull


def _slopes(x: Array, weight: Array) -> Array:
    """The weight of `prelu`, shaped to multiply x."""
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim != 1 or weight.shape[0] not in (1, channels):
        raise ValueError(
            f"prelu: weight must be (1,) or, for x (N, C, *space) = {tuple(x.shape)}, "
            f"(C={channels},); weight is {tuple(weight.shape)}"
        )
    shape = (1, -1, *[1] * (x.ndim - 2)) if x.ndim > 1 else (1,)
    return namespace(x).reshape(weight, shape)


@op(in_engines=True)
@_in_one_pass
def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where positive, else alpha * (e**x - 1). Its gradient at 0 is alpha.

    >>> import numpy as np
    >>> elu(np.asarray([-np.inf, 2.0]))
    array([-1.,  2.])

    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by
    exponential linear units", 2016.
    """
    return _positive(x) + alpha * namespace(x).expm1(_negative(x))


@_derivative(elu)
def _elu_slope(x, alpha=1.0):
    falling = alpha * namespace(x).exp(_negative(x))
    return _one_where(x > 0.0, x) + falling * _one_where(x <= 0.0, x)


@op(in_engines=True)
@_in_one_pass
def selu(x: Array) -> Array:
    """1.0507 * elu(x, alpha=1.6733): it keeps mean 0 and variance 1 through deep dense networks.

    >>> import numpy as np
    >>> selu(np.asarray([-np.inf, 1.0])).round(4)
    array([-1.7581,  1.0507])

    Source: Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    return SELU_SCALE * elu(x, SELU_ALPHA)


@_derivative(selu)
def _(x):
    return SELU_SCALE * _elu_slope(x, SELU_ALPHA)


@op
@_in_one_pass
def sigmoid(x: Array) -> Array:
    """1 / (1 + e**-x), of x's shape and dtype.

    >>> import numpy as np
    >>> sigmoid(np.asarray([-np.inf, 0.0, 1e9]))
    array([0. , 0.5, 1. ])

    Source: the logistic function of Verhulst, 1838.
    """
    return _logistic(x)


@_derivative(sigmoid, of="y")
def _(y):
    return y * (1.0 - y)


@op
@_in_one_pass
def tanh(x: Array) -> Array:
    """The hyperbolic tangent, of x's shape and dtype.

    >>> import numpy as np
    >>> tanh(np.asarray([-np.inf, 0.0, 1e9]))
    array([-1.,  0.,  1.])

    Source: LeCun et al., "Efficient BackProp", 1998, for its use in networks.
    """
    return namespace(x).tanh(x)


@_derivative(tanh, of="y")
def _(y):
    return 1.0 - y * y


@op(in_engines=True)
@_in_one_pass
def hardsigmoid(x: Array) -> Array:
    """min(max(x + 3, 0), 6) / 6. Its gradient at -3 and at 3 is 0.

    >>> import numpy as np
    >>> hardsigmoid(np.asarray([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])

    Source: Howard et al., "Searching for MobileNetV3", 2019.
    """
    return namespace(x).clip(x + 3.0, 0.0, 6.0) / 6.0


@_derivative(hardsigmoid)
def _hardsigmoid_slope(x):
    return _one_where((x > -3.0) & (x < 3.0), x) / 6.0


@op(in_engines=True)
@_in_one_pass
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """log(1 + e**(beta * x)) / beta, and x itself where beta * x > threshold.

    Raises ValueError for a beta that is not positive.

    >>> import numpy as np
    >>> softplus(np.asarray([-np.inf, 0.0, 1e9])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+09])

    Source: Dugas et al., "Incorporating second-order functional knowledge", 2001.
    """
    xp, z = namespace(x), _scaled(x, beta)
    return xp.where(z > threshold, x, _positive(x) + xp.log1p(xp.exp(-xp.abs(z))) / beta)


@_derivative(softplus)
def _(x, beta=1.0, threshold=20.0):
    z = _scaled(x, beta)
    return namespace(x).where(z > threshold, _one_where(z > threshold, x), _logistic(z))


def _scaled(x: Array, beta: float) -> Array:
    """beta * x, kept from overflowing."""
    if not beta > 0:
        raise ValueError(f"softplus: beta must be positive; it is {beta}")
    return beta * namespace(x).clip(x, -FAR / beta, FAR / beta)


def _gated(x: Array, gate: Callable) -> Array:
    """x * gate(x), and its limit 0 where x is so far below 0 that the gate is shut."""
    xp = namespace(x)
    return xp.clip(x, -FAR, None) * gate(xp.clip(x, -FAR, FAR))


def _gated_slope(x: Array, gate: Callable, slope: Callable) -> Array:
    """gate(x) + x * gate'(x), where gate' is slope(x, gate(x))."""
    x = namespace(x).clip(x, -FAR, FAR)
    g = gate(x)
    return g + x * slope(x, g)


@op(in_engines=True)
@_in_one_pass
def silu(x: Array) -> Array:
    """x * sigmoid(x), also known as swish; its limit 0 at -inf.

    >>> import numpy as np
    >>> silu(np.asarray([0.0, 1.0])).round(4)
    array([0.    , 0.7311])

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016; Ramachandran et al.,
    "Searching for activation functions", 2017.
    """
    return _gated(x, _logistic)


@_derivative(silu)
def _(x):
    return _gated_slope(x, _logistic, lambda x, g: g * (1.0 - g))


@op(in_engines=True)
@_in_one_pass
def mish(x: Array) -> Array:
    """x * tanh(softplus(x)); its limit 0 at -inf.

    >>> import numpy as np
    >>> mish(np.asarray([0.0, 1.0])).round(4)
    array([0.    , 0.8651])

    Source: Misra, "Mish: a self regularized non-monotonic activation function", 2019.
    """
    return _gated(x, _tanh_of_softplus)


@_derivative(mish)
def _(x):
    return _gated_slope(x, _tanh_of_softplus, lambda x, g: (1.0 - g * g) * _logistic(x))


def _tanh_of_softplus(x: Array) -> Array:
    """(u*u + 2u) / (u*u + 2u + 2) with u = e**x."""
    p, q = _fraction_of_exp(x)
    rise = p * (p + 2.0 * q)
    return rise / (rise + 2.0 * q * q)


@op(in_engines=True)
@_in_one_pass
def hardswish(x: Array) -> Array:
    """x * hardsigmoid(x). Its gradient is 0 at -3 and 1 at 3.

    >>> import numpy as np
    >>> hardswish(np.asarray([-4.0, 1.5, 4.0]))
    array([-0.   ,  1.125,  4.   ])

    Source: Howard et al., "Searching for MobileNetV3", 2019.
    """
    return _gated(x, hardsigmoid)


@_derivative(hardswish)
def _(x):
    return _gated_slope(x, hardsigmoid, lambda x, g: _hardsigmoid_slope(x))


@op(in_engines=True)
@_in_one_pass
def gelu(x: Array, approximate: str = "none") -> Array:
    """x * P(X < x) for a standard normal X; approximate="tanh" takes the usual formula by tanh.

    Its limit 0 at -inf. Raises ValueError for another `approximate`.

    >>> import numpy as np
    >>> gelu(np.asarray([-1.0, 1.0])).round(4)
    array([-0.1587,  0.8413])
    >>> gelu(np.asarray([-1.0, 1.0]), approximate="tanh").round(4)
    array([-0.1588,  0.8412])

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """
    return _gated(x, _gelu_gate(approximate)[0])


@_derivative(gelu)
def _(x, approximate="none"):
    return _gated_slope(x, *_gelu_gate(approximate))


def _gelu_gate(approximate: str) -> tuple[Callable, Callable]:
    if approximate not in _GELU_GATES:
        raise ValueError(f"gelu: approximate={approximate!r}; give 'none' or 'tanh'")
    return _GELU_GATES[approximate]


def _normal_cdf(x: Array) -> Array:
    return 0.5 * erfc(x * -math.sqrt(0.5))


def _normal_density(x: Array, g: Array) -> Array:
    return namespace(x).exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def _tanh_gate(x: Array) -> Array:
    """(1 + tanh(u)) / 2 = sigmoid(2u), which keeps its digits where tanh is near -1."""
    return _logistic(math.sqrt(8.0 / math.pi) * (x + 0.044715 * x * x * x))


def _tanh_gate_slope(x: Array, g: Array) -> Array:
    return g * (1.0 - g) * (math.sqrt(8.0 / math.pi) * (1.0 + 0.134145 * x * x))


_GELU_GATES = {"none": (_normal_cdf, _normal_density), "tanh": (_tanh_gate, _tanh_gate_slope)}
