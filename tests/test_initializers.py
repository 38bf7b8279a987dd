"""Initial weights: the published variances, PyTorch's fans, draws that never change."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from xpcnn.layers.initializers import RULES, fans, initialize
from xpcnn.random import key

SHAPE = (48, 32, 3, 5)
FAN_IN, FAN_OUT = 32 * 15, 48 * 15
VARIANCES = {
    "xavier": 2 / (FAN_IN + FAN_OUT),
    "glorot": 2 / (FAN_IN + FAN_OUT),
    "he": 2 / FAN_IN,
    "kaiming": 2 / FAN_IN,
    "msra": 2 / FAN_IN,
    "lecun": 1 / FAN_IN,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_uniform(name):
    w = initialize(f"{name}_uniform", key(1), SHAPE)
    bound = math.sqrt(3 * VARIANCES[name])
    assert w.shape == SHAPE and w.dtype == np.float64
    assert 0.999 * bound < w.max() < bound and -bound <= w.min() < -0.999 * bound
    assert_moments(w, VARIANCES[name])


@pytest.mark.parametrize("name", VARIANCES)
def test_normal(name):
    w = initialize(f"{name}_normal", key(1), SHAPE)
    assert w.shape == SHAPE and w.dtype == np.float64
    assert abs(w).max() > 3.5 * math.sqrt(VARIANCES[name])  # not truncated
    assert_moments(w, VARIANCES[name])


def assert_moments(w, variance):
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 5 * math.sqrt(2 / w.size)


@pytest.mark.parametrize("shape", [(6, 4), (8, 2, 3), (8, 2, 3, 5), (4, 1, 2, 3, 2)])
def test_fans_are_those_of_pytorch(torch, shape):
    assert fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3), (40, 2, 3, 3)])
def test_orthogonal(shape):
    w = initialize("orthogonal", key(3), shape)
    assert w.shape == shape and w.dtype == np.float64
    matrix = w.reshape(shape[0], -1)
    gram = matrix @ matrix.T if shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-14)


def test_orthogonal_is_uniform_over_the_group():
    draws = np.array([initialize("orthogonal", key(seed), (3, 3)) for seed in range(1500)])
    np.testing.assert_allclose(draws.mean(0), 0, atol=5 * math.sqrt(1 / 3 / 1500))
    assert abs((np.linalg.det(draws) > 0).mean() - 0.5) < 5 * 0.5 / math.sqrt(1500)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_zeros_and_ones(shape):
    np.testing.assert_array_equal(initialize("zeros", key(0), shape), np.zeros(shape), strict=True)
    np.testing.assert_array_equal(initialize("ones", key(0), shape), np.ones(shape), strict=True)


def test_draws_stay_as_they_are():
    draws = [
        initialize(f"{name}_{draw}", key(2026), (7, 3, 3, 3))
        for name in ("xavier", "he", "lecun")
        for draw in ("uniform", "normal")
    ]
    stored = b"".join(w.astype("<f4").tobytes() for w in draws)
    assert (
        hashlib.sha256(stored).hexdigest()
        == "caf6fa6d6d2db4a11dfb6a692cc8bddcdead781a3b2f10e6802ddd5bee7104b7"
    )


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_key_tells_all(name):
    first = initialize(name, key(5), (4, 3, 2, 2))
    np.testing.assert_array_equal(first, initialize(name, key(5), (4, 3, 2, 2)))
    assert name in ("zeros", "ones") or (first != initialize(name, key(6), (4, 3, 2, 2))).all()


@pytest.mark.parametrize(
    "name, shape, message",
    [
        (
            "he",
            (3, 3),
            "initialize: no rule 'he'; choose one of xavier_uniform, xavier_normal, "
            "glorot_uniform, glorot_normal, he_uniform, he_normal, kaiming_uniform, "
            "kaiming_normal, msra_uniform, msra_normal, lecun_uniform, lecun_normal, orthogonal, "
            "zeros, ones",
        ),
        (
            "he_normal",
            (3,),
            "initialize: he_normal needs weights (out, in, *kernel), all sizes >= 1; shape is (3,)",
        ),
        (
            "orthogonal",
            (3, 0),
            "initialize: orthogonal needs weights (out, in, *kernel), all sizes >= 1; "
            "shape is (3, 0)",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(name, shape, message):
    with pytest.raises(ValueError) as caught:
        initialize(name, key(0), shape)
    assert str(caught.value) == message
