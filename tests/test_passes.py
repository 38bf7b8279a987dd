"""What is done in one pass over memory, against the definitions it stands in for."""

from __future__ import annotations

from collections.abc import Iterator

import naive
import numpy as np
import pytest
from checks import vjp_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, view

import xpcnn
from xpcnn import engines, ops, optim

pytest.importorskip("numba")

from xpcnn.engines.numba import _norm, _passes

SPECIAL = (np.nan, np.inf, -np.inf, -0.0)

dtypes = st.sampled_from([np.float32, np.float64])
channels = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 64, 300])
spaces = st.lists(st.integers(1, 5), max_size=3)


@pytest.fixture(scope="module", autouse=True)
def _small_arrays_too() -> Iterator[None]:
    """Take small arrays, which are left to NumPy otherwise, and cut them into several pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_passes, "FEW", 1)
        patch.setattr(_norm, "PIECE", 64)
        patch.setattr(_norm, "LANES", 16)
        patch.setattr(_norm, "LEAST_ROWS", 2)
        yield


@st.composite
def shapes(draw) -> tuple[int, ...]:
    """(N, C, *space), with two values in each channel or more."""
    return draw(st.integers(2, 5)), draw(channels), *draw(spaces)


def both(call):
    """What `call` gives by the engine's own choice, and by definition."""
    with np.errstate(all="ignore"):
        fast = call()
        with xpcnn.use("generic"):
            return fast, call()


def drawn(shape, dtype=np.float64, seed=0, layout="plain"):
    return view(np.random.default_rng(seed).standard_normal(shape).astype(dtype), layout)


def channels_last(shape, dtype=np.float32, seed=0):
    return drawn(shape, dtype, seed, "channels last")


# ---- activations and sums ---------------------------------------------------------------------


@pytest.mark.parametrize("op", [ops.relu, ops.relu6])
@given(data=st.data(), shape=shapes(), dtype=dtypes)
def test_clipping_is_the_definition_at_bounds_and_nan_too(op, data, shape, dtype):
    x = data.draw(arrays(shape, dtype, special=(*SPECIAL, 6.0)))
    dy = data.draw(arrays(shape, dtype, special=SPECIAL))
    (y, (dx,)), (expected_y, (expected_dx,)) = both(lambda: vjp_of(op, [x], dy))
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)


@given(data=st.data(), shape=shapes(), dtype=dtypes, special=st.sampled_from([(), SPECIAL]))
def test_channel_sums_are_the_definition(data, shape, dtype, special):
    x = data.draw(arrays(shape, dtype, special=special))
    with np.errstate(invalid="ignore"):
        sums = engines.offered("channel_sums", x)
        np.testing.assert_array_equal(sums, x.sum((0, *range(2, x.ndim))))
    assert sums.dtype == dtype


@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_a_long_sum_keeps_its_digits(layout):
    """Tenths added one by one in float32 would be off by a thousandth of the sum."""
    x = view(np.full((8, 3, 200, 200), 0.1, np.float32), layout)
    np.testing.assert_allclose(engines.offered("channel_sums", x), 32000.0, rtol=1e-6)


# ---- batch normalisation ----------------------------------------------------------------------


@st.composite
def normalised(draw) -> tuple:
    """x, weight and bias, either of which may be None, and dy."""
    shape, dtype, seed = draw(shapes()), draw(dtypes), draw(st.integers(0, 2**16))
    x, dy = (drawn(shape, dtype, seed + i, draw(st.sampled_from(LAYOUTS[:-1]))) for i in range(2))
    vectors = drawn((2, shape[1]), dtype, seed + 2)
    weight, bias = (v if draw(st.booleans()) else None for v in vectors)
    return x, weight, bias, dy


def close(actual, expected, terms, scale=1.0):
    """The same, None in the same places."""
    assert [a is None for a in actual] == [e is None for e in expected]
    for a, e in zip(actual, expected, strict=True):
        if a is not None:
            naive.assert_close(a / scale, e / scale, terms)


@given(case=normalised())
def test_batch_norm_is_the_definition(case):
    x, weight, bias, dy = case
    mean, var = drawn(x.shape[1], x.dtype, 7), drawn(x.shape[1], x.dtype, 8) ** 2

    def values_and_gradients():
        y, pull = ops.batch_norm.vjp(x, mean, var, weight, bias)
        return y, *pull(dy)

    close(*both(values_and_gradients), x.size)


@given(case=normalised())
def test_batch_norm_train_is_the_definition(case):
    x, weight, bias, dy = case
    eps = 0.1  # keeps the gradients small where few values are close together
    fast, defined = both(lambda: ops.batch_norm_train(x, weight, bias, eps))
    close(fast, defined, x.size)
    call = both(lambda: vjp_of(ops.batch_norm_train, [x, weight, bias], dy, eps)[1])
    close(*call, x.size)


@given(case=normalised(), bounds=st.sampled_from([(0.0, None), (0.0, 0.5), (-0.3, 0.2)]))
def test_clipping_in_the_same_pass_changes_no_bit(case, bounds):
    x, weight, bias, dy = case
    (y, mean, var), pull = ops.batch_norm_train.vjp(x, weight, bias, bounds=bounds)
    (plain, *_), plain_pull = ops.batch_norm_train.vjp(x, weight, bias)
    np.testing.assert_array_equal(y, np.clip(plain, *bounds))
    kept = engines.offered("clip_dx", dy, y, *bounds)
    for grad, expected in zip(pull(dy), plain_pull(kept), strict=True):
        np.testing.assert_array_equal(grad, expected)
    inferred = ops.batch_norm(x, mean, var, weight, bias, bounds=bounds)
    np.testing.assert_array_equal(inferred, y)


@pytest.mark.parametrize("layout", ["plain", "channels last"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_statistics_are_as_exact_as_the_definition(layout, mean):
    x = drawn((16, 5, 40, 40), np.float32, 3, layout) + np.float32(mean)
    truth = x.astype(np.float64).mean((0, 2, 3)), x.astype(np.float64).var((0, 2, 3))
    fast, defined = both(lambda: ops.batch_norm_train(x)[1:])
    for ours, theirs, true in zip(fast, defined, truth, strict=True):
        ulps = 2 * np.spacing(np.abs(true).astype(np.float32)).max()
        assert np.abs(ours - true).max() <= np.abs(theirs - true).max() + ulps


def test_not_a_number_stays_in_its_channel():
    x = channels_last((2, 5, 8, 8))
    x[0, 1, 2, 3], x[1, 3, 0, 0] = np.nan, np.inf
    for bounds in (None, (0.0, 6.0)):
        fast, defined = both(lambda bounds=bounds: ops.batch_norm_train(x, bounds=bounds))
        for ours, expected in zip(fast, defined, strict=True):
            np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
        assert np.isfinite(fast[0][:, [0, 2, 4]]).all()


# ---- optimizers -------------------------------------------------------------------------------

OPTIMIZERS = [
    optim.SGD(0.1), optim.SGD(0.1, weight_decay=0.2), optim.SGD(0.1, momentum=0.9),
    optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.2), optim.Adam(0.1),
    optim.Adam(0.1, weight_decay=0.2), optim.AdamW(0.1, weight_decay=0.2),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@given(data=st.data(), dtype=dtypes)
def test_steps_are_the_definition(optimizer, data, dtype):
    shape = data.draw(st.sampled_from([(), (3,), (0, 4), (5, 7), (4, 3, 2, 2), (41, 53)]))
    layouts = st.sampled_from([layout for layout in LAYOUTS if shape or layout == "plain"])
    w, *gs = ({"a": {"weight": drawn(shape, dtype, i, data.draw(layouts))}} for i in range(4))
    before = [a["a"]["weight"].copy() for a in (w, *gs)]

    def train():
        weights, state = w, optimizer.init(w)
        for g in gs:
            weights, state = optimizer.update(weights, g, state)
        return [tree["a"]["weight"] for tree in (weights, *list(state.values())[1:])]

    for ours, expected in zip(*both(train), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, rtol=1e-12 if dtype == np.float64 else 2e-5,
                                   atol=1e-12 if dtype == np.float64 else 1e-6)  # fmt: skip
    for array, copy in zip((w, *gs), before, strict=True):
        np.testing.assert_array_equal(array["a"]["weight"], copy)


def test_no_decay_leaves_the_averages_of_an_infinite_weight_alone():
    w, g = np.full(8, np.inf), np.ones(8)
    _, velocity = engines.offered("sgd", w, g, np.zeros(8), 0.1, 0.9, False, 0.0)
    np.testing.assert_array_equal(velocity, g)


# ---- threads, and what is taken ---------------------------------------------------------------

X, DY = (channels_last((8, 12, 40, 40), seed=seed) for seed in range(2))
W, G, MEAN = drawn((3, 100_000), np.float32)
C, VAR = X[0, :, 0, 0].copy(), np.abs(DY[0, :, 0, 0])
CALLS = {
    "clip": (X, 0.0, 1.0),
    "clip_dx": (DY, X, 0.0, 1.0),
    "channel_sums": (X,),
    "batch_norm": (X, C, VAR, C, C, 1e-5, None),
    "batch_norm_train": (X, C, C, 1e-5, (0.0, 6.0)),
    "batch_norm_train_dx": (DY, X, C, VAR, C, C, 1e-5, (0.0, 6.0)),
    "sgd": (W, G, MEAN, 0.1, 0.9, True, 0.1),
    "adam": (W, G, MEAN, MEAN**2, 0.1, 0.9, 0.99, 1e-8, 3, 0.1, True),
}


@pytest.mark.parametrize("verb", CALLS)
def test_offered_to_channels_last_float32_with_equal_bits_on_any_number_of_threads(verb):
    results = []
    for threads in (1, 3):
        with xpcnn.use(threads=threads):
            answer = engines.offered(verb, *CALLS[verb])
        assert answer is not NotImplemented
        results.append(answer if isinstance(answer, tuple) else (answer,))
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("other", [np.float16, np.int32, np.dtype(np.float32).newbyteorder()])
def test_other_dtypes_and_mixed_ones_are_declined(verb, other):
    first, *rest = CALLS[verb]
    assert engines.offered(verb, first.astype(other), *rest) is NotImplemented
    if rest and isinstance(rest[0], np.ndarray):
        assert engines.offered(verb, first, rest[0].astype(other), *rest[1:]) is NotImplemented


def test_a_rate_that_is_an_array_is_declined():
    for verb, place in (("sgd", 3), ("adam", 4)):
        arguments = list(CALLS[verb])
        arguments[place] = np.asarray(0.1)
        assert engines.offered(verb, *arguments) is NotImplemented


def test_a_gradient_of_another_shape_is_declined():
    """The kernels would read beyond its end."""
    for verb in ("sgd", "adam"):
        w, g, *rest = CALLS[verb]
        assert engines.offered(verb, w, g[:1], *rest) is NotImplemented


@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_results_lie_in_memory_as_x_does(layout):
    x = drawn((2, 3, 4, 5), layout=layout)
    for y in (ops.relu(x), ops.batch_norm_train(x)[0]):
        assert y.strides == x.strides
