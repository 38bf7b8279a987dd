"""Random numbers: the published cipher, equal bits on every library, streams that stay."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import xpcnn
from xpcnn import random

BITS = "1e846f34c1d03e4635761af87167d699596c2c6068f358b0060d6b50fa853b78"
NORMALS = "0d4743b052a6ce5408a60b34435405e8536ecaec2dfbef45fc29cbe5c21dbeb8"
UNIFORMS = "6ec608940f02fbbb28518092747114b4de010c8d282846c376444e2e7bf00f48"
PERMUTATION = "64a61d7bd58d4eff4dd43e5ad9ac78044dec27ddd7bcd56cca4e077961d7a157"


def words(*values):
    return tuple(np.array([value], np.uint32).view(np.int32) for value in values)


def digest(a):
    return hashlib.sha256(a.astype(a.dtype.newbyteorder("<")).tobytes()).hexdigest()


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers_of_random123(key, counter, expected):
    np.testing.assert_equal(random.threefry(words(*key), words(*counter)), words(*expected))


def test_bits_are_the_cipher_of_the_counter():
    got = random.bits((5, -6), (3, 2), np, "cpu")
    counters = np.arange(3, dtype=np.int32)
    expected = random.threefry(words(5, 2**32 - 6), (counters, np.zeros(1, np.int32)))
    np.testing.assert_array_equal(got, np.stack(expected, axis=1), strict=True)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0, 4), (2 * random.BLOCK + 1,)])
def test_equal_bits_on_every_library(xp, shape):
    dev = xpcnn.device(xp.spec)
    got = random.bits(random.key(2**63 + 11), shape, dev.xp, dev.handle)
    expected = random.bits(random.key(2**63 + 11), shape, np, "cpu")
    np.testing.assert_array_equal(xp.to_numpy(got), expected, strict=True)


def test_equal_bits_and_folds_where_the_key_is_arrays(xp):
    dev = xpcnn.device(xp.spec)
    key = random.fold_in(random.key(3), 2**31 - 1)
    traceable = tuple(dev.asarray(np.array(part, np.int32)) for part in random.key(3))
    folded = random.fold_in(traceable, 2**31 - 1)
    assert [(part.shape, int(part)) for part in folded] == [((), part) for part in key]
    by_array = random.fold_in(random.key(3), dev.asarray(np.array(2**31 - 1, np.int32)))
    assert tuple(int(part) for part in by_array) == key
    got = xp.to_numpy(random.bits(folded, (9,), dev.xp, dev.handle))
    np.testing.assert_array_equal(got, random.bits(key, (9,), np, "cpu"), strict=True)


def test_equal_bits_under_jit(jax):
    @jax.jit
    def mask(key, step):
        return random.bits(random.fold_in(key, step), (7, 3), jax.numpy, None)

    expected = random.bits(random.fold_in(random.key(1), 4), (7, 3), np, "cpu")
    np.testing.assert_array_equal(np.asarray(mask(random.key(1), 4)), expected, strict=True)


def test_a_longer_draw_begins_with_the_shorter():
    key = random.key(8)
    for draw in (random.uniform, random.normal, lambda key, n: random.bits(key, n, np, "cpu")):
        np.testing.assert_array_equal(draw(key, (random.BLOCK + 3,))[:11], draw(key, (11,)))


def test_streams_stay_as_they_are():
    key = random.key(2026)
    assert digest(random.bits(key, (1001,), np, "cpu")) == BITS
    assert digest(random.uniform(key, (1001,))) == UNIFORMS
    assert digest(random.normal(key, (1001,)).astype(np.float32)) == NORMALS
    assert digest(random.permutation(key, 1001)) == PERMUTATION
    assert random.fold_in(key, 5) == (1657049652, 162840654)


def test_uniform_is_uniform():
    x = random.uniform(random.key(0), (100, 1000))
    assert x.shape == (100, 1000) and x.dtype == np.float64
    assert 0 <= x.min() < 1e-4 and 1 - 1e-4 < x.max() < 1
    counts = np.histogram(x, 16, (0, 1))[0]
    assert ((counts - x.size / 16) ** 2 / (x.size / 16)).sum() < 38  # chi2(15): 1 in 1000 exceeds


def test_normal_is_normal():
    x = random.normal(random.key(0), (200_000,))
    moments = [(x**k).mean() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=5 * np.sqrt(96 / x.size))
    assert abs(np.corrcoef(x[::2], x[1::2])[0, 1]) < 5 / np.sqrt(x.size / 2)


def test_folded_keys_draw_unrelated_numbers():
    parent = random.key(0)
    keys = [parent, *(random.fold_in(parent, i) for i in range(6)), random.key(1)]
    assert len(set(keys)) == len(keys)
    x = np.corrcoef([random.normal(key, (10_000,)) for key in keys])
    assert abs(x - np.eye(len(keys))).max() < 5 / np.sqrt(10_000)
    drawn = random.bits(parent, (64,), np, "cpu").tolist()
    assert not set(drawn) & {word for key in keys[1:-1] for word in key}


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_holds_each_number_once(n):
    order = random.permutation(random.key(1), n)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_permutation_reaches_every_order_alike():
    orders = [tuple(random.permutation(random.key(seed), 3)) for seed in range(3000)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6 and ((counts - 500) ** 2 / 500).sum() < 21  # chi2(5): 1 in 1000


@pytest.mark.parametrize(
    "seed, key",
    [
        (0, (0, 0)),
        (2**31, (-(2**31), 0)),
        (2**32, (0, 1)),
        (2**64 - 1, (-1, -1)),
        (np.int32(5), (5, 0)),
    ],
)
def test_a_seed_is_its_two_words(seed, key):
    assert random.key(seed) == key
    assert all(type(part) is int for part in random.key(seed))


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: random.key(-1), ValueError, "key: seed must lie in [0, 2**64); it is -1"),
        (
            lambda: random.key(1 << 64),
            ValueError,
            f"key: seed must lie in [0, 2**64); it is {1 << 64}",
        ),
        (lambda: random.key(0.5), TypeError, "key: seed must be an integer, not 0.5"),
        (
            lambda: random.fold_in((0, 0), -1),
            ValueError,
            "fold_in: i must lie in [0, 2**31); it is -1",
        ),
        (
            lambda: random.fold_in((1 << 31, 0), 0),
            TypeError,
            "fold_in: key=(2147483648, 0); make one of a seed: xpcnn.random.key(0)",
        ),
        (
            lambda: random.uniform((0, 0, 0), (2,)),
            TypeError,
            "uniform: key=(0, 0, 0); make one of a seed: xpcnn.random.key(0)",
        ),
        (
            lambda: random.normal((0, 0), (2, -1)),
            ValueError,
            "normal: sizes must be >= 0 and their product <= 2**31; they are (2, -1)",
        ),
        (
            lambda: random.bits((0, 0), (1 << 20, 1 << 20), np, "cpu"),
            ValueError,
            "bits: sizes must be >= 0 and their product <= 2**31; they are (1048576, 1048576)",
        ),
        (
            lambda: random.permutation((0, 0), -3),
            ValueError,
            "permutation: sizes must be >= 0 and their product <= 2**31; they are (-3,)",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_numpys_integers_fold_in_as_pythons(kind):
    key = random.key(12345678901234)
    folded = random.fold_in(key, kind(5))
    assert folded == random.fold_in(key, 5) and [type(part) for part in folded] == [int, int]
