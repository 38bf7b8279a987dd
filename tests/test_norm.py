"""Normalisation: definitions, PyTorch, what the gradients must leave alone, and digits kept."""

from __future__ import annotations

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
from hypothesis import strategies as st
from strategies import LAYOUTS, view

from xpcnn import ops

_RNG = np.random.default_rng(5)
X = _RNG.standard_normal((3, 4, 5, 2)) + 1.0
WEIGHT, BIAS, MEAN = _RNG.standard_normal((3, 4))
VAR = 1.0 + MEAN**2
LAYER_WEIGHT, LAYER_BIAS = _RNG.standard_normal((2, 5, 2))
AFFINE = {"x": X, "weight": WEIGHT, "bias": BIAS}
LAYER = {"x": X, "weight": LAYER_WEIGHT, "bias": LAYER_BIAS}

BATCH = Case(
    "batch_norm", ops.batch_norm,
    lambda f, x, w, b, mean, var: f.batch_norm(x, mean, var, w, b, eps=0.1),
    AFFINE, {"mean": MEAN, "var": VAR, "eps": 0.1},
)  # fmt: skip
TRAIN = Case(
    "batch_norm_train", ops.batch_norm_train,
    lambda f, x, w, b: f.batch_norm(x, None, None, w, b, training=True, eps=1e-3),
    AFFINE, {"eps": 1e-3},
)  # fmt: skip
LAYERED = Case(
    "layer_norm", ops.layer_norm, lambda f, x, w, b: f.layer_norm(x, (5, 2), w, b),
    LAYER, {"normalized_shape": (5, 2)},
)  # fmt: skip
GROUP = Case(
    "group_norm", ops.group_norm, lambda f, x, w, b: f.group_norm(x, 2, w, b),
    AFFINE, {"num_groups": 2},
)  # fmt: skip
INSTANCE = Case(
    "instance_norm", ops.instance_norm,
    lambda f, x, w, b: f.instance_norm(x, weight=w, bias=b), AFFINE,
)  # fmt: skip


def _bare(case: Case, torch) -> Case:
    return replace(case, id=f"{case.id}-bare", torch=torch, arrays={"x": case.arrays["x"]})


BARE = [
    _bare(BATCH, lambda f, x, mean, var: f.batch_norm(x, mean, var, eps=0.1)),
    _bare(TRAIN, lambda f, x: f.batch_norm(x, None, None, training=True, eps=1e-3)),
    _bare(LAYERED, lambda f, x: f.layer_norm(x, (5, 2))),
    _bare(GROUP, lambda f, x: f.group_norm(x, 2)),
    _bare(INSTANCE, lambda f, x: f.instance_norm(x)),
]
RANKS = [
    replace(TRAIN, id="batch_norm_train-rank-2", arrays=AFFINE | {"x": X[:, :, 0, 0]}),
    replace(BATCH, id="batch_norm-rank-3", arrays=AFFINE | {"x": X[:, :, 0]}),
    replace(GROUP, id="group_norm-rank-5", arrays=AFFINE | {"x": X[..., None]}),
    Case("layer_norm-int", ops.layer_norm, lambda f, x: f.layer_norm(x, (2,), eps=0.5),
         {"x": X}, {"normalized_shape": 2, "eps": 0.5}),
]  # fmt: skip
CLIPPED = [
    replace(BATCH, id="batch_norm-relu", fixed=BATCH.fixed | {"bounds": (0.0, None)},
            torch=lambda f, *args: f.relu(BATCH.torch(f, *args))),
    replace(TRAIN, id="batch_norm_train-relu", fixed=TRAIN.fixed | {"bounds": (0.0, None)},
            torch=lambda f, *args: f.relu(TRAIN.torch(f, *args))),
    replace(BATCH, id="batch_norm-hardtanh", fixed=BATCH.fixed | {"bounds": (-0.5, 0.25)},
            torch=lambda f, *args: f.hardtanh(BATCH.torch(f, *args), -0.5, 0.25)),
    replace(TRAIN, id="batch_norm_train-hardtanh", fixed=TRAIN.fixed | {"bounds": (-0.5, 0.25)},
            torch=lambda f, *args: f.hardtanh(TRAIN.torch(f, *args), -0.5, 0.25)),
]  # fmt: skip
RESPONSE = [
    Case(f"local_response_norm-{size}", ops.local_response_norm,
         lambda f, x, size=size: f.local_response_norm(x, size, alpha=0.3, beta=0.6, k=2.0),
         {"x": X}, {"size": size, "alpha": 0.3, "beta": 0.6, "k": 2.0})
    for size in (1, 2, 3, 5, 9)
]  # fmt: skip
STANDARDISE = [TRAIN, LAYERED, GROUP, INSTANCE]
ALL = [BATCH, *STANDARDISE, *BARE, *RANKS, *CLIPPED, *RESPONSE]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@by_cases(ALL)
def test_like_torch(xp, torch, case, dtype):
    check_like_torch(xp, torch, case, dtype)


@by_cases(ALL)
def test_gradients_are_slopes(case):
    check_slopes(case)


@by_cases(ALL)
def test_torch_autograd_through_our_forward(torch, case):
    check_torch_autograd(torch, case)


@by_cases(ALL)
def test_under_jit_and_jax_grad(jax, case):
    check_jax(jax, case)


@by_cases([BATCH, TRAIN, GROUP, *CLIPPED, *RESPONSE[:1]])
def test_float16_is_rounded_once(xp, case):
    check_half(xp, case)


# ---- definitions ------------------------------------------------------------------------------


def _standardised(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def _channels(v):
    return v[:, None, None]


def test_batch_norm_is_its_definition(xp):
    y = BATCH.on(xp)(*(adopt(xp, a) for a in BATCH.inputs()))
    expected = (X - _channels(MEAN)) / np.sqrt(_channels(VAR) + 0.1)
    naive.assert_close(host(xp, y), expected * _channels(WEIGHT) + _channels(BIAS), terms=4)


def test_batch_norm_train_is_its_definition_and_returns_the_biased_variance(xp):
    y, mean, var = TRAIN.on(xp)(*(adopt(xp, a) for a in TRAIN.inputs()))
    expected = _standardised(X, (0, 2, 3), 1e-3) * _channels(WEIGHT) + _channels(BIAS)
    naive.assert_close(host(xp, y), expected, terms=X.size)
    naive.assert_close(host(xp, mean), X.mean((0, 2, 3)), terms=X.size)
    naive.assert_close(host(xp, var), X.var((0, 2, 3)), terms=X.size)


def test_the_others_are_their_definitions(xp):
    by_group = _standardised(X.reshape(3, 2, 2, 5, 2), (2, 3, 4), 1e-5).reshape(X.shape)
    by_instance = _standardised(X, (2, 3), 1e-5)
    for case, z, weight, bias in (
        (LAYERED, by_instance, LAYER_WEIGHT, LAYER_BIAS),
        (GROUP, by_group, _channels(WEIGHT), _channels(BIAS)),
        (INSTANCE, by_instance, _channels(WEIGHT), _channels(BIAS)),
    ):
        y = case.on(xp)(*(adopt(xp, a) for a in case.inputs()))
        naive.assert_close(host(xp, y), z * weight + bias, terms=X.size)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_local_response_norm_is_its_definition(xp, size):
    expected = np.empty_like(X)
    for c in range(4):
        first = c - size // 2
        around = X[:, max(0, first) : first + size]
        expected[:, c] = X[:, c] / (2.0 + 0.3 / size * (around**2).sum(axis=1)) ** 0.6
    y = ops.local_response_norm(adopt(xp, X), size, alpha=0.3, beta=0.6, k=2.0)
    naive.assert_close(host(xp, y), expected, terms=size)


# ---- properties -------------------------------------------------------------------------------

seeds, layouts = st.integers(0, 2**16), st.sampled_from(LAYOUTS[:-1])


@given(seed=seeds, layout=layouts, shift=st.floats(-100, 100), scale=st.floats(0.1, 10))
def test_scale_and_shift_of_the_input_do_not_matter(seed, layout, shift, scale):
    x = view(np.random.default_rng(seed).standard_normal((3, 4, 5, 2)), layout)
    for case in STANDARDISE:
        op = replace(case, fixed=case.fixed | {"eps": 0.0}).on()
        first, moved = (op(a, *case.inputs()[1:]) for a in (x, scale * x + shift))
        first, moved = (y[0] if isinstance(y, tuple) else y for y in (first, moved))
        # a shift of 100 rounds x by 1e-14, which counts in parts of its spread, scale >= 0.1
        np.testing.assert_allclose(moved, first, rtol=0, atol=1e-10)


@given(seed=seeds, layout=layouts)
def test_gradients_neither_shift_nor_scale(seed, layout):
    """Since y does not depend on them, <dx, 1> and <dx, x> are zero in what shares a mean."""
    rng = np.random.default_rng(seed)
    x, dy = (view(rng.standard_normal((3, 4, 5, 2)), layout) for _ in range(2))
    together = {"batch_norm_train": (0, 2, 3), "layer_norm": (2, 3), "instance_norm": (2, 3)}
    for case in (TRAIN, LAYERED, INSTANCE):
        op = replace(case, arrays={"x": x}, fixed=case.fixed | {"eps": 0.0}).on()
        _, (dx,) = vjp_of(op, [x], dy)
        for product in (dx, dx * x):
            total = product.sum(together[case.id])
            naive.assert_close(total, np.zeros_like(total), 120 * np.abs(dx).max() ** 2)


@by_cases(STANDARDISE)
def test_a_large_mean_costs_no_digits_of_the_variance(xp, case):
    """In float32, the difference of squares near 1e8 would be off by more than the variance 1."""
    signs = np.where(np.indices(X.shape).sum(0) % 2, 1.0, -1.0).astype(np.float32)
    op = replace(case, arrays={"x": X}, fixed=case.fixed | {"eps": 0.0}).on(xp)
    y = op(adopt(xp, signs + np.float32(8192.0)))
    y = host(xp, y[0] if isinstance(y, tuple) else y)
    np.testing.assert_allclose(y, signs, atol=0.01)


def test_no_gradient_for_given_statistics():
    _, pull = ops.batch_norm.vjp(X, MEAN, VAR, WEIGHT, BIAS)
    assert [g is None for g in pull(X)] == [False, True, True, False, False]


@by_cases([BATCH, LAYERED, GROUP, INSTANCE, *RESPONSE[:2]])
def test_an_empty_batch_gives_an_empty_result(xp, case):
    x, *rest = case.inputs()
    y, (dx, *others) = vjp_of(case.on(xp), [x[:0], *rest], x[:0], xp=xp)
    assert y.shape == dx.shape == (0, 4, 5, 2)
    assert all(not np.any(g) for g in others)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.batch_norm(X[0, :, 0, 0], MEAN, VAR),
         "batch_norm: x must be (N, C, *space); x is (4,): pass x[None, ...] for a batch of one"),
        (lambda: ops.batch_norm(X, MEAN[:3], VAR),
         "batch_norm: mean must be (C=4,) for x (3, 4, 5, 2); mean is (3,)"),
        (lambda: ops.batch_norm(X, MEAN, VAR, bounds=(6.0, 0.0)),
         "batch_norm: bounds=(6.0, 0.0); give None or (low, high) with low < high, where a high of "
         "None is no bound"),
        (lambda: ops.batch_norm_train(X, WEIGHT, BIAS[:, None]),
         "batch_norm_train: bias must be (C=4,) for x (3, 4, 5, 2); bias is (4, 1)"),
        (lambda: ops.batch_norm_train(X[:1, :, 0, 0]),
         "batch_norm_train: a variance needs two values or more; x (1, 4) has 1 for each mean: "
         "use batch_norm, by running statistics"),
        (lambda: ops.batch_norm_train(X[:0]),
         "batch_norm_train: a variance needs two values or more; x (0, 4, 5, 2) has 0 for each "
         "mean: use batch_norm, by running statistics"),
        (lambda: ops.instance_norm(X[:, :, :1, :1]),
         "instance_norm: a variance needs two values or more; x (3, 4, 1, 1) has 1 for each "
         "mean: give it more space, or use batch_norm"),
        (lambda: ops.group_norm(X, 3),
         "group_norm: num_groups=3 does not divide C=4 of x (3, 4, 5, 2); give a divisor of 4"),
        (lambda: ops.group_norm(X, 0), "group_norm: num_groups=0; give an int of at least 1"),
        (lambda: ops.group_norm(X[:, :0], 1),
         "group_norm: x must be (N, C, *space); x is (3, 0, 5, 2)"),
        (lambda: ops.layer_norm(X, (4, 5)),
         "layer_norm: normalized_shape=(4, 5) needs x (N, ..., *normalized_shape); "
         "x is (3, 4, 5, 2)"),
        (lambda: ops.layer_norm(X[0, 0], (5, 2)),
         "layer_norm: normalized_shape=(5, 2) needs x (N, ..., *normalized_shape); x is (5, 2): "
         "pass x[None, ...] for a batch of one"),
        (lambda: ops.layer_norm(X, (5, 2), WEIGHT),
         "layer_norm: weight must be (5, 2); weight is (4,)"),
        (lambda: ops.local_response_norm(X, 0),
         "local_response_norm: size=0; give an int of at least 1"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("bounds", [0.0, (0.0,), (None, 6.0), ("0", "6")])
def test_bounds_are_two_numbers(bounds):
    message = r"^batch_norm_train: bounds=.*; give None or \(low, high\) with low < high, "
    with pytest.raises(TypeError, match=message):
        ops.batch_norm_train(X, bounds=bounds)


def test_float32_keeps_its_digits_with_channels_last():
    """A sum of 100,000 numbers one by one would be off by 5e-6 of itself."""
    x = np.random.default_rng(0).random((64, 40, 40, 4), dtype=np.float32) + 5.0
    x = np.moveaxis(x, -1, 1)
    mean = x.mean((0, 2, 3), dtype=np.float64)
    (_, found, _), pull = ops.batch_norm_train.vjp(x, np.ones(4, "f"), np.zeros(4, "f"))
    np.testing.assert_allclose(found, mean, rtol=1e-6)
    np.testing.assert_allclose(pull(x)[2], mean * x[:, 0].size, rtol=1e-6)
    w, b = np.zeros((4, 4, 1, 1), "f"), np.zeros(4, "f")
    _, pull = ops.conv2d.vjp(x, w, b, wrt=("b",))
    np.testing.assert_allclose(pull(x)[2], mean * x[:, 0].size, rtol=1e-6)
