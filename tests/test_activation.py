"""Activations and softmax: definitions, PyTorch, kinks, infinities, and numbers of any size."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

import naive
import numpy as np
import pytest
from checks import adopt, host, vjp_of
from elementwise import (
    Case,
    by_cases,
    check_half,
    check_jax,
    check_like_torch,
    check_slopes,
    check_torch_autograd,
)
from hypothesis import given
from strategies import arrays

import xpcnn
from xpcnn import ops
from xpcnn.ops._erf import erfc

X = np.linspace(-7.0, 7.1, 24).reshape(2, 3, 4)  # no kink among them
SLOPES = np.asarray([0.25, -0.5, 1.5])
SELU = 1.0507009873554805, 1.6732632423543772


def _case(name, torch=None, **options):
    def twin(functional, x):
        return getattr(functional, name)(x, **options)

    label = "-".join([name, *map(str, options.values())])
    return Case(label, getattr(ops, name), torch or twin, {"x": X}, options)


RELU, RELU6, LEAKY, STEEP = (
    _case("relu"), _case("relu6"), _case("leaky_relu"), _case("leaky_relu", negative_slope=2.0)
)  # fmt: skip
ELU, ELU2, SELU_, GELU = _case("elu"), _case("elu", alpha=2.0), _case("selu"), _case("gelu")
GELU_TANH, SILU, MISH = _case("gelu", approximate="tanh"), _case("silu"), _case("mish")
SOFTPLUS, SOFTPLUS3 = _case("softplus"), _case("softplus", beta=3.0, threshold=5.0)
HARDSWISH = _case("hardswish")
# torch.nn.functional.hardsigmoid has 1/6 in float32 even where all else is float64
HARDSIGMOID = _case("hardsigmoid", lambda f, x: f.relu6(x + 3.0) / 6.0)
SIGMOID, TANH = _case("sigmoid"), _case("tanh")
PRELU = Case("prelu", ops.prelu, lambda f, x, w: f.prelu(x, w), {"x": X, "weight": SLOPES})
PRELU1 = replace(PRELU, id="prelu-one", arrays={"x": X, "weight": SLOPES[:1]})

# op, definition, limits of value and slope at -inf and inf
ENTRYWISE = [
    (RELU, lambda v: max(v, 0.0), (0, math.inf), (0, 1)),
    (RELU6, lambda v: min(max(v, 0.0), 6.0), (0, 6), (0, 0)),
    (LEAKY, lambda v: v if v > 0 else 0.01 * v, (-math.inf, math.inf), (0.01, 1)),
    (STEEP, lambda v: v if v > 0 else 2.0 * v, (-math.inf, math.inf), (2, 1)),
    (ELU, lambda v: v if v > 0 else math.expm1(v), (-1, math.inf), (0, 1)),
    (ELU2, lambda v: v if v > 0 else 2 * math.expm1(v), (-2, math.inf), (0, 1)),
    (SELU_, lambda v: SELU[0] * (v if v > 0 else SELU[1] * math.expm1(v)),
     (-SELU[0] * SELU[1], math.inf), (0, SELU[0])),
    (GELU, lambda v: v * math.erfc(-v / math.sqrt(2)) / 2, (0, math.inf), (0, 1)),
    (GELU_TANH,
     lambda v: v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2,
     (0, math.inf), (0, 1)),
    (SILU, lambda v: v / (1 + math.exp(-v)), (0, math.inf), (0, 1)),
    (MISH, lambda v: v * math.tanh(math.log1p(math.exp(v))), (0, math.inf), (0, 1)),
    (SOFTPLUS, lambda v: math.log1p(math.exp(v)) if v <= 20 else v, (0, math.inf), (0, 1)),
    (SOFTPLUS3, lambda v: math.log1p(math.exp(3 * v)) / 3 if 3 * v <= 5 else v,
     (0, math.inf), (0, 1)),
    (HARDSWISH, lambda v: v * min(max(v + 3, 0.0), 6.0) / 6, (0, math.inf), (0, 1)),
    (HARDSIGMOID, lambda v: min(max(v + 3, 0.0), 6.0) / 6, (0, 1), (0, 0)),
    (SIGMOID, lambda v: 1 / (1 + math.exp(-v)), (0, 1), (0, 0)),
    (TANH, math.tanh, (-1, 1), (0, 0)),
]  # fmt: skip
ACTIVATIONS = [row[0] for row in ENTRYWISE]
AXIS = [
    Case(f"{name}-{dim}", getattr(ops, name),
         lambda f, x, name=name, dim=dim: getattr(f, name)(x, dim=dim), {"x": X}, {"dim": dim})
    for name in ("softmax", "log_softmax")
    for dim in (1, -1, 0)
]  # fmt: skip
ALL = [*ACTIVATIONS, PRELU, PRELU1, *AXIS]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@by_cases(ALL)
def test_like_torch(xp, torch, case, dtype):
    check_like_torch(xp, torch, case, dtype)


@by_cases(ALL)
def test_gradients_are_slopes(case):
    check_slopes(case)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("row", ENTRYWISE, ids=lambda row: row[0].id)
def test_definition(xp, row, dtype):
    case, definition, _, _ = row
    x = np.asarray([-30.0, -8.0, -3.5, -1.0, -1e-6, 0.0, 1e-6, 0.3, 1.0, 2.5, 8.0, 30.0], dtype)
    y = host(xp, case.on(xp, dtype)(adopt(xp, x)))
    assert y.dtype == dtype
    for actual, v in zip(y, x, strict=True):  # each to its own size: none drowns in a larger one
        naive.assert_close(actual, np.asarray(definition(float(v))), dtype=dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("row", ENTRYWISE, ids=lambda row: row[0].id)
def test_infinities_and_nan(xp, row, dtype):
    case, _, limits, slopes = row
    x = np.asarray([-np.inf, np.inf, np.nan], dtype)
    y, pull = case.on(xp, dtype).vjp(adopt(xp, x))
    dx = host(xp, pull(adopt(xp, np.ones(3, dtype)))[0])
    np.testing.assert_allclose(host(xp, y), [*limits, np.nan], rtol=1e-6)
    np.testing.assert_allclose(dx[:2], slopes, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("row", ENTRYWISE, ids=lambda row: row[0].id)
def test_nothing_overflows(xp, row, dtype):
    """No warning, and the limits' slopes; values stay finite unless the result is too large."""
    case, _, limits, slopes = row
    large = np.asarray([-0.4, 0.4], dtype) * np.finfo(dtype).max
    y, pull = case.on(xp, dtype).vjp(adopt(xp, large))
    y, dx = host(xp, y), host(xp, pull(adopt(xp, np.ones(2, dtype)))[0])
    assert np.all(np.isfinite(y))
    finite = np.isfinite(limits)
    np.testing.assert_allclose(y[finite], np.asarray(limits)[finite], rtol=1e-6)
    np.testing.assert_allclose(dx, slopes, rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "x", "slope"),
    [
        (RELU, 0.0, 0.0),
        (RELU6, 0.0, 0.0),
        (RELU6, 6.0, 0.0),
        (LEAKY, 0.0, 0.01),
        (ELU2, 0.0, 2.0),
        (SELU_, 0.0, SELU[0] * SELU[1]),
        (HARDSIGMOID, -3.0, 0.0),
        (HARDSIGMOID, 3.0, 0.0),
        (HARDSWISH, -3.0, 0.0),
        (HARDSWISH, 3.0, 1.0),
    ],
    ids=lambda v: getattr(v, "id", v),
)
def test_kinks(xp, case, x, slope):
    _, pull = case.on(xp).vjp(adopt(xp, np.asarray([x])))
    np.testing.assert_array_equal(host(xp, pull(adopt(xp, np.ones(1)))[0]), [slope])


def test_prelu_at_zero_has_the_slope_of_its_weight(xp):
    x, weight = np.zeros((1, 3)), SLOPES
    _, (dx, dweight) = vjp_of(ops.prelu, [x, weight], np.ones((1, 3)), xp=xp)
    np.testing.assert_array_equal(dx, [SLOPES])
    np.testing.assert_array_equal(dweight, np.zeros(3))


@by_cases([RELU, GELU, SOFTPLUS, PRELU, *AXIS[:1]])
def test_float16_is_rounded_once(xp, case):
    check_half(xp, case)


@by_cases(ALL)
def test_torch_autograd_through_our_forward(torch, case):
    check_torch_autograd(torch, case)


@by_cases(ALL)
def test_under_jit_and_jax_grad(jax, case):
    check_jax(jax, case)


SPECIAL = (np.nan, np.inf, -np.inf)


@given(x=arrays((2, 3, 4), special=SPECIAL), dy=arrays((2, 3, 4)))
def test_views_give_what_copies_give(x, dy):
    for case in ACTIVATIONS:
        y, (dx,) = vjp_of(case.on(), [x], dy)
        y_copy, (dx_copy,) = vjp_of(case.on(), [x.copy()], dy.copy())
        naive.assert_close(y, y_copy)
        naive.assert_close(dx, dx_copy)


@given(x=arrays((3, 4), special=(np.inf, -np.inf)))
def test_softmax_is_a_distribution_that_ignores_a_shift(x):
    y = ops.softmax(x)
    assert np.all(y >= 0)
    naive.assert_close(y.sum(axis=1), np.ones(3), terms=4)
    np.testing.assert_array_equal(ops.softmax(x + 64.0), y)
    naive.assert_close(np.exp(ops.log_softmax(x)), y)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([-np.inf, 0.0, 0.0], [0.0, 0.5, 0.5]),
        ([np.inf, 0.0, -np.inf], [1.0, 0.0, 0.0]),
        ([np.inf, np.inf, 0.0], [0.5, 0.5, 0.0]),
        ([-np.inf, -np.inf], [0.5, 0.5]),
        ([1e300, -1e300], [1.0, 0.0]),
        ([np.nan, 0.0], [np.nan, np.nan]),
    ],
)
def test_softmax_takes_infinities_by_their_limits(xp, row, expected):
    x = adopt(xp, np.asarray([row]))
    np.testing.assert_array_equal(host(xp, ops.softmax(x)), [expected])
    logs = [math.log(p) if p else -math.inf for p in expected]
    if 1e300 not in row:
        naive.assert_close(host(xp, ops.log_softmax(x)), np.asarray([logs]))


def test_log_softmax_keeps_what_softmax_loses(xp):
    x = adopt(xp, np.asarray([[0.0, -800.0]]))
    np.testing.assert_array_equal(host(xp, ops.softmax(x)), [[1.0, 0.0]])
    np.testing.assert_array_equal(host(xp, ops.log_softmax(x)), [[0.0, -800.0]])


@by_cases([case for case in ALL if case.fixed.get("dim") != 0])  # an empty axis has no maximum
def test_an_empty_batch_gives_an_empty_result(xp, case):
    x, *rest = case.inputs()
    y, (dx, *_) = vjp_of(case.on(xp), [x[:0], *rest], x[:0], xp=xp)
    assert y.shape == dx.shape == (0, 3, 4)


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float64, 2.0**-53), (np.float32, 2.0**-24)])
def test_erfc(xp, dtype, rounding):
    x = np.linspace(-9.0, 9.0, 3001).astype(dtype)
    exact = np.asarray([math.erfc(v) for v in x.astype(np.float64)])
    error = np.abs(host(xp, erfc(adopt(xp, x))) - exact)
    bound = (6 + 2 * x.astype(np.float64) ** 2) * rounding + 1e-7 * (x > 4)
    assert np.all(error <= bound * exact)
    special = host(xp, erfc(adopt(xp, np.asarray([-np.inf, np.inf, np.nan, 1e300]))))
    np.testing.assert_array_equal(special, [2.0, 0.0, np.nan, 0.0])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: ops.relu(np.arange(3)), TypeError,
         "relu: x must be floating, not int64; convert it, for example to float32"),
        (lambda x: ops.gelu(x, "erf"), ValueError,
         "gelu: approximate='erf'; give 'none' or 'tanh'"),
        (lambda x: ops.softplus(x, beta=0.0), ValueError,
         "softplus: beta must be positive; it is 0.0"),
        (lambda x: ops.prelu(x, np.ones(2)), ValueError,
         "prelu: weight must be (1,) or, for x (N, C, *space) = (2, 3, 4), (C=3,); "
         "weight is (2,)"),
        (lambda x: ops.softmax(x, 3), ValueError,
         "softmax: dim=3, but x (2, 3, 4) has axes 0 to 2; name another axis"),
        (lambda x: ops.log_softmax(x[:, :0]), ValueError,
         "log_softmax: dim=1, but x (2, 0, 4) is empty along it; name another axis"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind) as error:
        call(X)
    assert str(error.value) == message


@pytest.mark.parametrize(("case", "held"), [(RELU, "y"), (SIGMOID, "y"), (SILU, "x"), (GELU, "x")])
def test_a_pull_holds_either_its_input_or_its_result(case, held):
    x = X.copy()
    y, pull = xpcnn.vjp(case.op, x)
    alive = {"x": weakref.ref(x), "y": weakref.ref(y)}
    del x, y
    assert [name for name, array in alive.items() if array() is not None] == [held]
    pull(X)
