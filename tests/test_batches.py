"""The order of batches: each image once, the same for the same key, from any batch on."""

from __future__ import annotations

import importlib
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn.data import batches
from xpcnn.random import fold_in, key, permutation

module = importlib.import_module("xpcnn.data.batches")  # the package's name is the function's

counts = st.integers(0, 1500)
sizes = st.integers(1, 200)
runs = st.integers(1, 12)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 8)


def together(n, size, seed, run, start=0):
    return np.concatenate([np.empty(0, np.int64), *batches(n, size, seed, run=run, start=start)])


@given(n=counts, size=sizes, run=runs, seed=st.integers(0, 5))
def test_each_image_once(n, size, run, seed):
    found = list(batches(n, size, key(seed), run=run))
    assert [len(part) for part in found] == [min(size, n - at) for at in range(0, n, size)]
    assert {part.dtype for part in found} <= {np.dtype(np.int64)}
    np.testing.assert_array_equal(np.sort(together(n, size, key(seed), run)), np.arange(n))


@given(n=counts, size=sizes, run=runs, start=st.integers(0, 400), random=st.booleans())
def test_from_any_batch_on(n, size, run, start, random):
    seed = key(1) if random else None
    whole = list(batches(n, size, seed, run=run))[start:]
    rest = list(batches(n, size, seed, run=run, start=start))
    assert len(rest) == len(whole)
    for part, other in zip(rest, whole, strict=True):
        np.testing.assert_array_equal(part, other)


@given(n=counts, size=sizes, run=runs)
def test_the_key_tells_the_order(n, size, run):
    order = together(n, size, key(3), run)
    np.testing.assert_array_equal(order, together(n, size, key(3), run))
    np.testing.assert_array_equal(order, together(n, n + 1, key(3), run))  # whatever the size
    if n > 50:
        assert not np.array_equal(order, together(n, size, key(4), run))


def test_without_runs_the_order_is_a_permutation():
    np.testing.assert_array_equal(together(1000, 7, key(2), 1), permutation(key(2), 1000))
    np.testing.assert_array_equal(together(1000, 7, None, 5), np.arange(1000))


def test_neighbours_are_read_together(monkeypatch):
    """All of a window lies in 16 runs, but what is left over."""
    n, run = 10_000, 20
    order = together(n, 64, key(0), run)
    for at in range(0, n - 2 * 8 * run, 8 * run):
        window = np.sort(order[at : at + 8 * run])
        gaps = np.diff(np.append(window, window[0] + n)) != 1
        assert gaps.sum() <= 8


def test_runs_begin_elsewhere_in_each_epoch():
    n, run = 1000, 20
    starts = set()
    for epoch in range(6):
        window = np.sort(together(n, 64, fold_in(key(0), epoch), run)[: 8 * run])
        starts.add(int(window[np.flatnonzero(np.diff(window) != 1)[0] + 1]) % run)
    assert len(starts) > 3


def test_a_shuffle_that_is_seen_as_random(monkeypatch):
    """Neighbours are torn apart, batches draw from everywhere, and halves are as they should be."""
    monkeypatch.setattr(module, "WINDOW", 256)
    n, run, size = 200_000, 50, 64
    order = together(n, size, key(0), run)
    assert np.count_nonzero(np.abs(np.diff(order)) == 1) < n / 1000
    spread = np.std(order[: n // size * size].reshape(-1, size), axis=1)
    assert abs(spread.mean() / (n / np.sqrt(12)) - 1) < 0.05
    correlation = np.corrcoef(np.arange(n), order)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(n / run)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13])
def test_runs_are_dealt_evenly(count):
    """Each run comes to each place as often: chi-squared, at five standard deviations."""
    rounds, places = 300, np.arange(count)
    table = np.zeros((count, count))
    for number in range(rounds):
        table[places, module._dealt(fold_in(key(0), number), places, count)] += 1
    expected, freedom = rounds / count, (count - 1) ** 2
    chi = ((table - expected) ** 2 / expected).sum() * (count - 1) / count
    assert chi < freedom + 5 * np.sqrt(2 * freedom)


@given(count=st.integers(1, 1000), seed=st.integers(0, 3))
def test_a_run_is_dealt_alike_whoever_asks(count, seed):
    places = np.arange(count)
    dealt = module._dealt(key(seed), places, count)
    np.testing.assert_array_equal(np.sort(dealt), places)
    some = places[:: max(1, count // 3)]
    np.testing.assert_array_equal(module._dealt(key(seed), some, count), dealt[some])


def test_memory_does_not_grow(monkeypatch):
    """A million million images: 80 bytes of indices would be too much for each million."""
    monkeypatch.setattr(module, "WINDOW", 256)
    tracemalloc.start()
    try:
        order = batches(10**12, 64, key(0), run=100, start=10**9)
        found = np.concatenate(list(itertools.islice(order, 500)))
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    assert len(set(found.tolist())) == 500 * 64
    assert found.max() > 9 * 10**11
    assert len(next(batches(10**12, 64))) == 64


@pytest.mark.parametrize("option", ["n", "start"])
def test_numbers_below_zero(option):
    with pytest.raises(ValueError, match=f"batches: n and start must be >= 0.*{option}=-1"):
        batches(**({"n": 5, "size": 2} | {option: -1}))


@pytest.mark.parametrize("option", ["size", "run"])
def test_numbers_below_one(option):
    with pytest.raises(ValueError, match=f"and size and run >= 1; they are n=5.*{option}=0"):
        batches(**({"n": 5, "size": 2} | {option: 0}))


@pytest.mark.parametrize("option", ["n", "size", "run", "start"])
def test_what_is_no_integer(option):
    with pytest.raises(TypeError):
        batches(**({"n": 5, "size": 2} | {option: 1.0}))
