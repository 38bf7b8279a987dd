"""The cuda engine's passes over memory: elementwise work, sums over channels, batch normalisation.

Its kernels run here as g++ compiles them (cuda_on_cpu), against the definitions they stand in for;
threads and blocks come in another order at every launch.
"""

from __future__ import annotations

from collections.abc import Iterator

import naive
import numpy as np
import pytest
from checks import vjp_of
from cuda_device import Device, on_host
from cuda_on_cpu import Runner, planted
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, view

import xpcnn
from xpcnn import engines, ops, optim
from xpcnn.engines.cuda import _norm
from xpcnn.ops import activation, norm
from xpcnn.random import key

TINY = 1e-45
"""Subnormal in float32, and 0 in float16."""

SPECIAL = (np.nan, np.inf, -np.inf, -0.0, TINY, -TINY)
DTYPES = [np.float16, np.float32, np.float64]
CHANNELS = [1, 2, 3, 4, 7, 8, 16, 64, 72, 300]
"""Around packs of 16 bytes, and the widths of blocks."""

dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(LAYOUTS[:-1])
spaces = st.lists(st.integers(1, 5), max_size=3)


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[Device]:
    with on_host(Device()) as found, xpcnn.use("cuda"):
        yield found


@pytest.fixture(params=["large", "small"])
def shares(request, monkeypatch) -> Iterator[None]:
    """Channels in one share, or in several even where there is little of them."""
    if request.param == "small":
        monkeypatch.setattr(_norm, "LEAST", 1)
        monkeypatch.setattr(_norm, "LEAST_SHARE", 1)
    _norm._plan.cache_clear()
    yield
    _norm._plan.cache_clear()


@st.composite
def shapes(draw) -> tuple[int, ...]:
    """(N, C, *space), with two values in each channel or more."""
    return draw(st.integers(2, 5)), draw(st.sampled_from(CHANNELS)), *draw(spaces)


def drawn(shape, dtype=np.float32, seed=0, layout="plain"):
    return view(np.random.default_rng(seed).standard_normal(shape).astype(dtype), layout)


def both(call):
    """What `call` gives by the engine, which must not decline, and by definition."""
    with np.errstate(all="ignore"):
        fast = call()
        with xpcnn.use("generic"):
            return fast, call()


def same(actual, expected, terms=1):
    """Equal to rounding, None in the same places."""
    assert [a is None for a in actual] == [e is None for e in expected]
    for a, e in zip(actual, expected, strict=True):
        if a is not None:
            assert a.dtype == e.dtype
            naive.assert_close(a, e, terms)


# ---- elementwise --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    data=st.data(), shape=shapes(), bounds=st.sampled_from([(0.0, None), (0.0, 6.0), (-1.0, 2.0)])
)
def test_clipping_is_the_definition_to_the_bit(dtype, data, shape, bounds):
    x, dy = (data.draw(arrays(shape, dtype, special=(*SPECIAL, 6.0))) for _ in range(2))
    fast, expected = both(lambda: activation._clip(x, *bounds))
    np.testing.assert_array_equal(fast, expected)
    fast, defined = both(lambda: activation._clip_dx(dy, expected, *bounds))
    np.testing.assert_array_equal(fast, defined)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_the_ends_of_packs_and_blocks_and_odd_addresses(dtype, data):
    block = 2 * 256 * 16 // np.dtype(dtype).itemsize
    near = [*range(18), *(k * block + i for k in (1, 2) for i in (-9, -1, 0, 1, 9))]
    size, start = data.draw(st.sampled_from(near)), data.draw(st.integers(0, 9))
    buffer = Device().empty((start + size,), dtype)
    buffer[...] = np.random.default_rng(size).integers(-9, 9, buffer.size)
    x = buffer[start:]
    np.testing.assert_array_equal(engines.offered("clip", x, -3.0, 4.0), np.clip(x, -3, 4))
    dx = engines.offered("clip_dx", x, x, -3.0, 4.0)
    np.testing.assert_array_equal(dx, np.where((x > -3) & (x < 4), x, 0))


OPTIONS = [
    ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 2.0}), ("elu", {}), ("elu", {"alpha": 2}),
    ("selu", {}), ("sigmoid", {}), ("tanh", {}), ("hardsigmoid", {}), ("softplus", {}),
    ("softplus", {"beta": 3.0, "threshold": 5.0}), ("softplus", {"threshold": np.inf}),
    ("silu", {}), ("mish", {}), ("hardswish", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_are_the_definition(name, options, dtype, device):
    special = (*SPECIAL, 0.0, 3.0, -3.0, 1e3, -1e3, np.finfo(dtype).max, np.finfo(dtype).min)
    x = np.concatenate([np.linspace(-9, 9, 501), special]).astype(dtype)
    dy = drawn(x.shape, dtype)
    device.launched.clear()
    fast, defined = both(lambda: vjp_of(getattr(ops, name), [x], dy, **options))
    assert any(kernel.startswith("activation") for kernel in device.launched)
    for ours, expected in zip((fast[0], *fast[1]), (defined[0], *defined[1]), strict=True):
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(ours, expected, rtol=16 * eps, atol=16 * eps)


def test_options_that_are_wrong_are_left_to_the_definition():
    x = drawn((3, 4))
    for name, options in (("softplus", {"beta": 0.0}), ("gelu", {"approximate": "no"})):
        with pytest.raises(ValueError, match=next(iter(options))):
            getattr(ops, name)(x, **options)
    with pytest.raises(TypeError, match="alpha"):
        ops.leaky_relu(x, alpha=1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    data=st.data(), shape=shapes(), p=st.sampled_from([0.1, 0.5, 0.999, 1.0]), seed=st.integers(0)
)
def test_dropout_drops_what_the_definition_drops(dtype, data, shape, p, seed):
    x = data.draw(arrays(shape, dtype, special=SPECIAL))
    noise = key(seed % 2**64)
    fast, defined = both(lambda: vjp_of(ops.dropout, [x], x[::-1], p, key=noise))
    np.testing.assert_array_equal(fast[0], defined[0])
    np.testing.assert_array_equal(fast[1][0], defined[1][0])


@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_dropout_numbers_entries_beyond_a_block(layout):
    x = view(np.ones((2, 24, 9, 11), np.float32), layout)
    fast, defined = both(lambda: ops.dropout(x, key=key(1)))
    np.testing.assert_array_equal(fast, defined)
    assert fast.strides == x.strides


OPTIMIZERS = [
    optim.SGD(0.1), optim.SGD(0.1, weight_decay=0.2), optim.SGD(0.1, momentum=0.9),
    optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.2), optim.Adam(0.1),
    optim.Adam(0.1, weight_decay=0.2), optim.AdamW(0.1, weight_decay=0.2),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
def test_steps_are_the_definition(optimizer, data, dtype):
    shape = data.draw(st.sampled_from([(), (3,), (0, 4), (5, 7), (4, 3, 2, 2), (41, 53)]))
    given = [layout for layout in LAYOUTS if shape or layout == "plain"]
    w, *gs = (
        {"weight": drawn(shape, dtype, i, data.draw(st.sampled_from(given)))} for i in range(4)
    )
    before = [a["weight"].copy() for a in (w, *gs)]

    def train():
        weights, state = w, optimizer.init(w)
        for g in gs:
            weights, state = optimizer.update(weights, g, state)
        return [tree["weight"] for tree in (weights, *list(state.values())[1:])]

    tolerance = 40 * np.finfo(dtype).eps
    for ours, expected in zip(*both(train), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)
    for array, copy in zip((w, *gs), before, strict=True):
        np.testing.assert_array_equal(array["weight"], copy)


@pytest.mark.parametrize("verb", ["sgd", "adam"])
def test_steps_in_half_precision_are_computed_in_float32(verb):
    halves = [a.astype(np.float16) if isinstance(a, np.ndarray) else a for a in CALLS[verb]]
    wide = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in halves]
    with xpcnn.use("generic"):
        expected = {"sgd": optim.sgd._sgd, "adam": optim.adam._adam}[verb](*wide)
    for ours, one in zip(answers(verb, *halves), expected, strict=True):
        assert ours.dtype == np.float16
        np.testing.assert_allclose(ours, one.astype(np.float16), rtol=2**-10)


def test_no_decay_leaves_the_averages_of_an_infinite_weight_alone():
    w, g = np.full(8, np.inf), np.ones(8)
    _, velocity = engines.offered("sgd", w, g, np.zeros(8), 0.1, 0.9, False, 0.0)
    np.testing.assert_array_equal(velocity, g)
    _, mean, _ = engines.offered("adam", w, g, g, g, 0.1, 0.9, 0.99, 1e-8, 1, 0.0, False)
    np.testing.assert_array_equal(mean, g)


# ---- sums over channels, and batch normalisation ------------------------------------------------


@pytest.mark.usefixtures("shares")
@given(data=st.data(), shape=shapes(), dtype=dtypes, special=st.sampled_from([(), SPECIAL[:4]]))
def test_channel_sums_are_the_definition(data, shape, dtype, special):
    x = data.draw(arrays(shape, dtype, special=special))
    with np.errstate(invalid="ignore"):
        sums = engines.offered("channel_sums", x)
        expected = x.sum((0, *range(2, x.ndim)), dtype=np.float64)
    np.testing.assert_array_equal(sums, expected.astype(dtype))
    assert sums.dtype == dtype


@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_a_long_sum_keeps_its_digits(layout):
    """Tenths added one by one in float32 would be off by a thousandth of the sum."""
    x = view(np.full((8, 3, 200, 200), 0.1, np.float32), layout)
    np.testing.assert_allclose(engines.offered("channel_sums", x), 32000.0, rtol=1e-6)


@st.composite
def normalised(draw, dtype) -> tuple:
    """x, weight and bias, either of which may be None, and dy."""
    shape, seed = draw(shapes()), draw(st.integers(0, 2**16))
    x, dy = (drawn(shape, dtype, seed + i, draw(layouts)) for i in range(2))
    vectors = drawn((2, shape[1]), dtype, seed + 2)
    weight, bias = (v if draw(st.booleans()) else None for v in vectors)
    return x, weight, bias, dy


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data(), bounds=st.sampled_from([None, (0.0, None), (-0.3, 0.2)]))
def test_batch_norm_is_the_definition(dtype, data, bounds):
    x, weight, bias, _ = data.draw(normalised(dtype))
    mean, var = drawn(x.shape[1], dtype, 7), drawn(x.shape[1], dtype, 8) ** 2
    same(*both(lambda: [norm._standardise(x, mean, var, weight, bias, 0.1, bounds)]))


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_batch_norm_train_is_the_definition(dtype, data):
    x, weight, bias, dy = data.draw(normalised(dtype))
    eps = 0.1  # keeps the gradients small where few values are close together
    same(*both(lambda: ops.batch_norm_train(x, weight, bias, eps)), x.size)
    same(*both(lambda: vjp_of(ops.batch_norm_train, [x, weight, bias], dy, eps)[1]), x.size)


@given(data=st.data(), bounds=st.sampled_from([(0.0, None), (0.0, 0.5), (-0.3, 0.2)]))
def test_clipping_in_the_same_pass_changes_no_bit(data, bounds):
    x, weight, bias, dy = data.draw(normalised(np.float32))
    (y, mean, var), pull = ops.batch_norm_train.vjp(x, weight, bias, bounds=bounds)
    (plain, *_), plain_pull = ops.batch_norm_train.vjp(x, weight, bias)
    np.testing.assert_array_equal(y, np.clip(plain, *bounds))
    kept = engines.offered("clip_dx", dy, y, *bounds)
    for grad, expected in zip(pull(dy), plain_pull(kept), strict=True):
        np.testing.assert_array_equal(grad, expected)
    inferred = ops.batch_norm(x, mean, var, weight, bias, bounds=bounds)
    np.testing.assert_array_equal(inferred, y)


@pytest.mark.parametrize("layout", ["plain", "channels last"])
@given(shape=shapes(), seed=st.integers(0, 99))
def test_half_precision_is_computed_in_float32_and_rounded_once(layout, shape, seed):
    x, dy = (drawn(shape, np.float16, seed + i, layout) for i in range(2))
    weight, bias = drawn((2, shape[1]), np.float16, seed + 2)
    y, mean, var = engines.offered("batch_norm_train", x, weight, bias, 0.1, None)
    grads = engines.offered("batch_norm_train_dx", dy, x, mean, var, weight, bias, 0.1, None)
    assert [a.dtype for a in (mean, var, *grads[1:])] == [np.float32] * 4
    wide, wide_dy, *vectors = (a.astype(np.float32) for a in (x, dy, weight, bias))
    with xpcnn.use("generic"):
        expected, pull = ops.batch_norm_train.vjp(wide, *vectors, 0.1)
        expected = *expected, *pull(wide_dy)
    for a, e in zip((y, mean, var, *grads), expected, strict=True):
        naive.assert_close(a, e, 1 if a.dtype == np.float16 else x.size)


# what is far from 0, what begins with an outlier, and few channels of many numbers
FAR = [((16, 5, 40, 40), 1e4, 0), ((16, 5, 40, 40), 0.0, 1e4), ((32, 1, 64, 64), -3e3, 5.0)]


@pytest.mark.parametrize("layout", ["plain", "channels last"])
@pytest.mark.parametrize(("shape", "mean", "outlier"), FAR)
def test_statistics_keep_their_digits(layout, shape, mean, outlier):
    x = drawn(shape, np.float32, 3, layout) + np.float32(mean)
    x[0, :, 0, 0] += np.float32(outlier)
    exact = x.astype(np.float64)
    _, ours_mean, ours_var = engines.offered("batch_norm_train", x, None, None, 1e-5, None)
    mean, var = exact.mean((0, 2, 3)), exact.var((0, 2, 3))
    np.testing.assert_allclose(ours_mean, mean, rtol=2e-7, atol=2e-7 * var.max() ** 0.5)
    np.testing.assert_allclose(ours_var, var, rtol=5e-6)


def test_not_a_number_stays_in_its_channel():
    for layout in ("plain", "channels last"):
        x = drawn((2, 8, 8, 8), layout=layout)
        x[0, 1, 2, 3], x[1, 3, 0, 0], x[0, 5, 0, 0] = np.nan, np.inf, -np.inf
        for bounds in (None, (0.0, 6.0)):
            fast, defined = both(lambda x=x, b=bounds: ops.batch_norm_train(x, bounds=b))
            for ours, expected in zip(fast, defined, strict=True):
                np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
                np.testing.assert_array_equal(np.isinf(ours), np.isinf(expected))
            assert np.isfinite(fast[0][:, [0, 2, 4]]).all()


# ---- passes, bits, and what is taken ------------------------------------------------------------

X, DY = (drawn((4, 12, 20, 20), seed=seed, layout="channels last") for seed in range(2))
W, G, MEAN = drawn((3, 5000))
C, VAR = X[0, :, 0, 0].copy(), np.abs(DY[0, :, 0, 0])
CALLS = {
    "clip": (X, 0.0, 1.0),
    "clip_dx": (DY, X, 0.0, 1.0),
    "activation": (X, "gelu", "none"),
    "activation_dx": (DY, X, "elu", 1.0),
    "dropout": (X, 2**23, 2.0, (1, -2)),
    "channel_sums": (X,),
    "batch_norm": (X, C, VAR, C, C, 1e-5, None),
    "batch_norm_train": (X, C, C, 1e-5, (0.0, 6.0)),
    "batch_norm_train_dx": (DY, X, C, VAR, C, C, 1e-5, (0.0, 6.0)),
    "sgd": (W, G, MEAN, 0.1, 0.9, True, 0.1),
    "adam": (W, G, MEAN, MEAN**2, 0.1, 0.9, 0.99, 1e-8, 3, 0.1, True),
}
PASSES = {"channel_sums": 2, "batch_norm_train": 3, "batch_norm_train_dx": 3}
"""Launches, where there is more than one; of these one is over what the others found, and tiny."""


def answers(verb, *arguments) -> tuple:
    answer = engines.offered(verb, *arguments)
    assert answer is not NotImplemented
    return answer if isinstance(answer, tuple) else (answer,)


@pytest.mark.parametrize("verb", CALLS)
def test_repeated_runs_have_equal_bits_in_as_few_launches_as_can_be(verb, device):
    device.launched.clear()
    once = answers(verb, *CALLS[verb])
    assert len(device.launched) == PASSES.get(verb, 1), device.launched
    for one, other in zip(once, answers(verb, *CALLS[verb]), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("other", [np.int32, np.dtype(np.float32).newbyteorder(), np.float64])
def test_other_dtypes_and_mixed_ones_are_declined(verb, other):
    first, *rest = CALLS[verb]
    if other != np.float64:
        assert engines.offered(verb, first.astype(other), *rest) is NotImplemented
    if rest and isinstance(rest[0], np.ndarray):
        assert engines.offered(verb, first, rest[0].astype(other), *rest[1:]) is NotImplemented


def test_what_a_kernel_cannot_be_told_is_declined():
    for verb, place in (("sgd", 3), ("adam", 4), ("adam", 8)):  # a rate, a count on the device
        arguments = list(CALLS[verb])
        arguments[place] = np.asarray(0.1)
        assert engines.offered(verb, *arguments) is NotImplemented
    traced = np.asarray(1), np.asarray(2)
    assert engines.offered("dropout", X, 1, 1.0, traced) is NotImplemented
    for verb in ("sgd", "clip_dx", "batch_norm_train_dx"):  # they would read beyond its end
        arguments = list(CALLS[verb])
        arguments[verb == "sgd"] = arguments[verb == "sgd"][:1]
        assert engines.offered(verb, *arguments) is NotImplemented


@pytest.mark.parametrize("layout", ["plain", "channels last", "backwards", "every second"])
def test_results_lie_in_memory_as_x_does(layout):
    x = drawn((2, 3, 4, 5), layout=layout)
    turned = x.transpose(2, 0, 3, 1)
    strides = x.strides if layout in ("plain", "channels last") else drawn(x.shape).strides
    for y in (ops.relu(x), ops.silu(x), ops.dropout(x, key=key(0)), ops.batch_norm_train(x)[0]):
        assert y.strides == strides
    if layout == "plain":
        assert ops.relu(turned).strides == turned.strides


def test_empty_arrays_are_taken():
    for shape in ((0, 4, 3), (4, 0), (0,)):
        x = np.zeros(shape, np.float32)
        for y in (ops.relu(x), ops.gelu(x), ops.dropout(x, key=key(0))):
            assert y.shape == shape


# ---- planted faults -----------------------------------------------------------------------------

ROUND = np.round(2 * drawn((3, 5, 7, 11), np.float32, 5)) / 2  # at bounds too; no whole packs
TALL, WIDE = drawn((3, 1, 9, 43)), drawn((40, 5, 1, 3), layout="channels last")
TRAIN, NOISE = (TALL, None, None, 0.1, None), (TALL, 2**23, 2.0, (1, -2))
FAULTS = [
    ("clip.cu", "< count) to[", "< count - 1) to[", "clip", (ROUND, 0.0, 1.0)),
    ("clip.cu", "greater(high, y)", "high >= y", "clip_dx", (ROUND, ROUND, 0.0, 1.0)),
    ("activations.cu", "p / (p + q)", "q / (p + q)", "activation", (ROUND, "silu")),
    ("dropout.cu", "first / 2 + lane / 2", "(first + lane + 1) / 2", "dropout", NOISE),
    ("dropout.cu", "image * channels.divisor", "image", "dropout", CALLS["dropout"]),
    ("channel_sums.cu", "        __syncthreads();\n", "", "channel_sums", (WIDE,)),
    ("channel_sums.cu", "unit) * skipped", "unit) * 0", "channel_sums", (drawn((2, 3, 5, 5)),)),
    ("batch_norm.cu", "+ apart * apart", "- apart * apart", "batch_norm_train", TRAIN),
    ("batch_norm.cu", " - level[n]", "", "batch_norm_train_dx", CALLS["batch_norm_train_dx"]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "verb", "arguments"), FAULTS)
def test_a_fault_in_a_kernel_is_seen(file, old, new, verb, arguments):
    expected = answers(verb, *arguments)
    with on_host(Device(Runner(sources={file: planted(file, old, new)}))):
        try:
            found = answers(verb, *arguments)
        except RuntimeError as error:  # a barrier, or an address, of which the harness tells
            assert "g++" not in str(error)
            return
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    assert not all(np.allclose(*pair, **tolerance) for pair in zip(found, expected, strict=True))
