"""Losses: definitions, PyTorch, what labels may be, and what does not count."""

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

import xpcnn
from xpcnn import ops

_RNG = np.random.default_rng(7)
N, K = 6, 4
LOGITS = 3.0 * _RNG.standard_normal((N, K))
IMAGES = 3.0 * _RNG.standard_normal((2, K, 3, 2))
LABELS = np.asarray([0, 3, 1, 1, 2, 3])
SOME = np.asarray([0, -100, 1, 1, -100, 3])
PIXELS = _RNG.integers(0, K, (2, 3, 2))
PROBABILITIES = _RNG.random((N, K))
PROBABILITIES /= PROBABILITIES.sum(axis=1, keepdims=True)
WEIGHT = np.asarray([0.5, 2.0, 1.0, 0.25])
A, B = _RNG.standard_normal((2, 3, 5))
TRUTH, FACTOR, POSITIVE = _RNG.random((3, 5)), _RNG.random((3, 5)), 1.0 + _RNG.random(5)


def _cross_entropy(id, x, target, weight=None, **options):
    def twin(functional, x, target, weight=None):
        return functional.cross_entropy(x, target, weight, **options)

    fixed = {"target": target} | ({} if weight is None else {"weight": weight}) | options
    return Case(f"cross_entropy-{id}", ops.cross_entropy, twin, {"x": x}, fixed)


CROSS_ENTROPY = [
    _cross_entropy("labels", LOGITS, LABELS),
    _cross_entropy("pixels", IMAGES, PIXELS),
    _cross_entropy("probabilities", LOGITS, PROBABILITIES),
    _cross_entropy("weighted", LOGITS, LABELS, WEIGHT),
    _cross_entropy("ignored", LOGITS, SOME),
    _cross_entropy("ignored-class", LOGITS, LABELS, ignore_index=1),
    _cross_entropy("smoothed", LOGITS, LABELS, label_smoothing=0.1),
    _cross_entropy("smoothed-probabilities", LOGITS, PROBABILITIES, label_smoothing=0.3),
    _cross_entropy("all", LOGITS, SOME, WEIGHT, label_smoothing=0.2),
    _cross_entropy("all-pixels", IMAGES, PIXELS, WEIGHT, ignore_index=2, label_smoothing=0.2),
]
NLL = [
    Case("nll_loss", ops.nll_loss, lambda f, x, t: f.nll_loss(x, t), {"x": LOGITS},
         {"target": SOME}),
    Case("nll_loss-weighted", ops.nll_loss,
         lambda f, x, t, w: f.nll_loss(x, t, w, ignore_index=3), {"x": IMAGES},
         {"target": PIXELS, "weight": WEIGHT, "ignore_index": 3}),
]  # fmt: skip


def _pair(name, **options):
    def twin(functional, x, target):
        return getattr(functional, name)(x, target, **options)

    label = "-".join([name, *map(str, options.values())])
    return Case(label, getattr(ops, name), twin, {"x": A, "target": B}, options)


PAIRS = [
    _pair("mse_loss"), _pair("l1_loss"), _pair("huber_loss"), _pair("huber_loss", delta=0.4),
    _pair("smooth_l1_loss"), _pair("smooth_l1_loss", beta=0.4), _pair("smooth_l1_loss", beta=0.0),
]  # fmt: skip


def _binary(id, **fixed):
    def twin(functional, x, target, *factors):
        names = [name for name in fixed if name != "target"]
        return functional.binary_cross_entropy_with_logits(
            x, target, **dict(zip(names, factors, strict=True))
        )

    op = ops.binary_cross_entropy_with_logits
    return Case(f"binary-{id}", op, twin, {"x": A}, {"target": TRUTH, **fixed})


BINARY = [
    _binary("plain"),
    _binary("weighted", weight=FACTOR),
    _binary("positives", pos_weight=POSITIVE),
    _binary("both", weight=FACTOR[:, :1], pos_weight=POSITIVE),
]
ALL = [*CROSS_ENTROPY, *NLL, *PAIRS, *BINARY]


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


@by_cases([CROSS_ENTROPY[3], NLL[0], PAIRS[0], BINARY[3]])
def test_float16_is_rounded_once(xp, case):
    check_half(xp, case)


@by_cases([ALL[0], NLL[0], PAIRS[0], BINARY[0]])
def test_a_loss_is_a_0d_array(xp, case):
    y, _ = case.on(xp, np.float32).vjp(*(adopt(xp, a) for a in case.inputs(np.float32)))
    assert isinstance(y, type(adopt(xp, A)))
    assert tuple(y.shape) == ()
    assert host(xp, y).dtype == np.float32


# ---- definitions ------------------------------------------------------------------------------


def _log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def test_cross_entropy_is_its_definition(xp):
    logs = _log_softmax(LOGITS)
    terms = [WEIGHT[k] * -logs[n, k] for n, k in enumerate(SOME) if k != -100]
    expected = sum(terms) / sum(WEIGHT[k] for k in SOME if k != -100)
    y = ops.cross_entropy(*(adopt(xp, a) for a in (LOGITS, SOME, WEIGHT)))
    naive.assert_close(host(xp, y), np.asarray(expected), terms=N * K)


def test_pairs_are_their_definitions(xp):
    d = np.abs(A - B)
    definitions = {
        "mse_loss": d**2,
        "l1_loss": d,
        "huber_loss-0.4": np.where(d <= 0.4, d**2 / 2, 0.4 * (d - 0.2)),
        "smooth_l1_loss-0.4": np.where(d < 0.4, d**2 / 0.8, d - 0.2),
        "smooth_l1_loss-0.0": d,
    }
    for case in PAIRS:
        if case.id in definitions:
            y = case.on(xp)(adopt(xp, A), adopt(xp, B))
            naive.assert_close(host(xp, y), np.asarray(definitions[case.id].mean()), terms=d.size)


def test_binary_cross_entropy_is_its_definition(xp):
    p = 1 / (1 + np.exp(-A))
    terms = POSITIVE * TRUTH * -np.log(p) + (1 - TRUTH) * -np.log(1 - p)
    y = BINARY[3].on(xp)(adopt(xp, A))
    expected = np.asarray((FACTOR[:, :1] * terms).mean())
    naive.assert_close(host(xp, y), expected, terms=A.size)


# ---- labels -----------------------------------------------------------------------------------


def _one_hot(labels, classes):
    return np.moveaxis(np.eye(classes)[labels], -1, 1)


@given(
    seed=st.integers(0, 2**16),
    shape=st.sampled_from([(1, 2), (5, 3), (2, 4, 3), (2, 3, 2, 2)]),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_one_hot_labels_give_what_their_integers_give(seed, shape, weighted, smoothing):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal(shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    weight = rng.random(shape[1]) + 0.1 if weighted else None
    results = [
        xpcnn.vjp(ops.cross_entropy, x, target, weight, label_smoothing=smoothing)
        for target in (labels, _one_hot(labels, shape[1]))
    ]
    (y, pull), (y_one_hot, pull_one_hot) = results
    naive.assert_close(y_one_hot, y, x.size)
    naive.assert_close(pull_one_hot(1.0)[0], pull(1.0)[0], x.size)


@given(seed=st.integers(0, 2**16))
def test_cross_entropy_is_nll_of_log_softmax(seed):
    rng = np.random.default_rng(seed)
    x, labels, weight = rng.standard_normal((5, 3)), rng.integers(0, 3, 5), rng.random(3) + 0.1
    expected = ops.nll_loss(ops.log_softmax(x), labels, weight)
    naive.assert_close(ops.cross_entropy(x, labels, weight), expected, x.size)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_labels_of_every_integer_dtype(xp, dtype):
    expected = ops.cross_entropy(LOGITS, LABELS)
    y = ops.cross_entropy(adopt(xp, LOGITS), adopt(xp, LABELS.astype(dtype)))
    naive.assert_close(host(xp, y), expected, LOGITS.size)


@pytest.mark.parametrize("op", [ops.cross_entropy, ops.nll_loss])
def test_nothing_counts(xp, op):
    """All ignored, or no batch at all: loss and gradients are 0, not NaN."""
    for x, labels in ((LOGITS, np.full(N, 9)), (LOGITS[:0], LABELS[:0])):
        target = adopt(xp, labels)
        y, pull = xpcnn.vjp(op, adopt(xp, x), target, adopt(xp, WEIGHT), ignore_index=9)
        dx, *others = pull(1.0)
        assert others == [None, None]
        np.testing.assert_array_equal(host(xp, y), 0.0)
        np.testing.assert_array_equal(host(xp, dx), np.zeros_like(x))


@by_cases([*PAIRS, BINARY[0]])
def test_an_empty_batch_has_loss_0(xp, case):
    empty = replace(case, fixed={k: v[:0] if k == "target" else v for k, v in case.fixed.items()})
    inputs = [a[:0] for a in case.inputs()]
    y, grads = vjp_of(empty.on(xp), inputs, np.asarray(1.0), xp=xp)
    assert y == 0.0
    assert all(g.shape == (0, 5) for g in grads)


# ---- large and special numbers ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_logits(xp, dtype):
    x, labels = np.asarray([[1e30, -1e30], [-1e30, 1e30]], dtype), np.asarray([0, 1])
    y, pull = xpcnn.vjp(ops.cross_entropy, adopt(xp, x), adopt(xp, labels))
    assert host(xp, y) == 0.0
    np.testing.assert_array_equal(host(xp, pull(1.0)[0]), np.zeros((2, 2)))
    wrong = ops.cross_entropy(adopt(xp, x), adopt(xp, 1 - labels))
    np.testing.assert_allclose(host(xp, wrong), 2e30, rtol=1e-6)


def test_a_class_ruled_out_by_minus_infinity_costs_nothing(xp):
    x = np.asarray([[0.0, 0.0, -np.inf]])
    y, pull = xpcnn.vjp(ops.cross_entropy, adopt(xp, x), adopt(xp, np.asarray([0])))
    naive.assert_close(host(xp, y), np.asarray(np.log(2.0)))
    naive.assert_close(host(xp, pull(1.0)[0]), np.asarray([[-0.5, 0.5, 0.0]]))


def test_nan_is_not_hidden(xp):
    x = np.asarray([[np.nan, 0.0]])
    for labels in (0, 1):
        y = ops.cross_entropy(adopt(xp, x), adopt(xp, np.asarray([labels])))
        assert np.isnan(host(xp, y))
    for case in PAIRS:
        assert np.isnan(host(xp, case.on(xp)(adopt(xp, x), adopt(xp, np.zeros((1, 2))))))


def test_binary_cross_entropy_keeps_small_losses(xp):
    """At large logits of the right sign the loss is e**-|x|, not 0, and nothing overflows."""
    x, target = np.asarray([40.0, -40.0]), np.asarray([1.0, 0.0])
    op = ops.binary_cross_entropy_with_logits
    y, pull = xpcnn.vjp(op, adopt(xp, x), adopt(xp, target))
    np.testing.assert_allclose(host(xp, y), np.exp(-40.0), rtol=1e-14)
    expected = [-np.exp(-40.0) / 2, np.exp(-40.0) / 2]
    np.testing.assert_allclose(host(xp, pull(1.0)[0]), expected, rtol=1e-14)
    far = op(adopt(xp, np.asarray([1e300, -1e300])), adopt(xp, target))
    assert host(xp, far) == 0.0


def test_l1_has_no_slope_where_both_are_equal(xp):
    for case in (PAIRS[1], PAIRS[6]):
        _, (dx, dtarget) = vjp_of(case.on(xp), [A, A], np.asarray(1.0), xp=xp)
        np.testing.assert_array_equal(dx, np.zeros_like(A))
        np.testing.assert_array_equal(dtarget, np.zeros_like(A))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ops.cross_entropy(LOGITS[0], LABELS[:1]), ValueError,
         "cross_entropy: x must be (N, K, *space); x is (4,): pass x[None, ...] "
         "for a batch of one"),
        (lambda: ops.cross_entropy(LOGITS, LABELS[:3]), ValueError,
         "cross_entropy: x (N, K, *space) is (6, 4) and needs integer labels (6,) as target; "
         "target is (3,)"),
        (lambda: ops.cross_entropy(LOGITS, PROBABILITIES[:, :3]), ValueError,
         "cross_entropy: x (N, K, *space) is (6, 4) and needs probabilities (6, 4) as target; "
         "target is (6, 3)"),
        (lambda: ops.cross_entropy(IMAGES, PIXELS[:, 0]), ValueError,
         "cross_entropy: x (N, K, *space) is (2, 4, 3, 2) and needs integer labels (2, 3, 2) "
         "as target; target is (2, 2)"),
        (lambda: ops.cross_entropy(LOGITS, LABELS, WEIGHT[:3]), ValueError,
         "cross_entropy: weight must be (K=4,); weight is (3,)"),
        (lambda: ops.cross_entropy(LOGITS[:, :0], LABELS, label_smoothing=0.1), ValueError,
         f"cross_entropy: x must be (N, K, *space); x is ({len(LOGITS)}, 0)"),
        (lambda: ops.cross_entropy(LOGITS, LABELS, label_smoothing=1.5), ValueError,
         "cross_entropy: label_smoothing must lie in [0, 1]; it is 1.5"),
        (lambda: ops.cross_entropy(LOGITS.astype(np.float32), PROBABILITIES), TypeError,
         "cross_entropy: x is float32 and target is float64; convert one, so that both share "
         "a dtype"),
        (lambda: ops.nll_loss(LOGITS, PROBABILITIES), TypeError,
         "nll_loss: target must be integer labels; probabilities go to cross_entropy"),
        (lambda: ops.mse_loss(A, B[:1]), ValueError,
         "mse_loss: x (3, 5) needs a target of its shape; target is (1, 5)"),
        (lambda: ops.huber_loss(A, B, 0.0), ValueError,
         "huber_loss: delta must be positive; it is 0.0"),
        (lambda: ops.smooth_l1_loss(A, B, -1.0), ValueError,
         "smooth_l1_loss: beta must not be negative; it is -1.0"),
        (lambda: ops.binary_cross_entropy_with_logits(A, LABELS), TypeError,
         "binary_cross_entropy_with_logits: target must be floating, not int64; convert it, for "
         "example to float32"),
        (lambda: ops.binary_cross_entropy_with_logits(A, TRUTH, A[:, :2]), ValueError,
         "binary_cross_entropy_with_logits: weight must broadcast to x (3, 5); weight is (3, 2)"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
