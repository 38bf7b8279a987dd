"""Dropout: a mask that is a function of key and shape; padding: NumPy's, and its adjoint."""

from __future__ import annotations

import hashlib
import weakref

import naive
import numpy as np
import pytest
from checks import adopt, host, vjp_of
from elementwise import Case, by_cases, check_half, check_jax, check_like_torch, gradient_for
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, view

import xpcnn
from xpcnn import ops
from xpcnn.random import fold_in, key

KEY = key(3)

# ---- dropout ----------------------------------------------------------------------------------


def _dropout(id, p):
    fixed = {"p": p, "key": KEY}
    return Case(f"dropout-{id}", ops.dropout, None, {"x": np.ones((4, 3, 5, 2))}, fixed)


def test_the_mask_is_the_same_on_every_library_and_in_every_dtype(xp):
    """Held by a hash: a change of it changes every network trained with the same seed."""
    for dtype in (np.float64, np.float32):
        y = host(xp, ops.dropout(adopt(xp, np.ones((16, 8), dtype)), 0.25, key=key(0)))
        mask = np.packbits(y != 0).tobytes()
        assert hashlib.sha256(mask).hexdigest()[:16] == "f2e157fd8d7f7242"


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_keeps_its_share_and_the_mean(xp, p):
    n = 40_000
    y = host(xp, ops.dropout(adopt(xp, np.ones(n)), p, key=KEY))
    kept = y != 0
    np.testing.assert_array_equal(y[kept], 1.0 / (1.0 - p) if p < 1 else np.empty(0))
    five_sigma = 5 * (p * (1 - p) / n) ** 0.5
    assert abs(kept.mean() - (1 - p)) <= five_sigma


@given(x=arrays((3, 4, 5, 2), special=(np.nan, np.inf)), p=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_gradient_passes_where_the_entries_stay(x, p, seed):
    case = Case("", ops.dropout, None, {"x": x}, {"p": p, "key": key(seed)})
    dy = gradient_for(x)
    y, (dx,) = vjp_of(case.on(), [x], dy)
    np.testing.assert_array_equal(dx == 0, ops.dropout(np.ones_like(x), p, key=key(seed)) == 0)
    np.testing.assert_array_equal(y[dx == 0], 0)  # NaN and inf are dropped too
    np.testing.assert_array_equal(dx, case.on()(dy))


@given(layout=st.sampled_from(LAYOUTS))
def test_the_mask_knows_places_not_memory(layout):
    x = view(np.ones((3, 4, 5, 2)), layout)
    np.testing.assert_array_equal(ops.dropout(x, key=KEY), ops.dropout(np.ones(x.shape), key=KEY))


def test_another_key_is_another_mask(xp):
    x = adopt(xp, np.ones(64))
    masks = {tuple(host(xp, ops.dropout(x, key=fold_in(KEY, i)))) for i in range(20)}
    assert len(masks) == 20


@by_cases([_dropout("half", 0.5), _dropout("all", 1.0), _dropout("none", 0.0)])
def test_dropout_under_jit(jax, case):
    check_jax(jax, case)


def test_a_traced_key(jax):
    x = np.ones(64)
    y = jax.jit(lambda x, step: ops.dropout(x, key=fold_in(KEY, step)))(x, 5)
    np.testing.assert_array_equal(y, ops.dropout(x, key=fold_in(KEY, 5)))


def test_dropout_of_float16(xp):
    check_half(xp, _dropout("half", 0.3))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_probability(p):
    with pytest.raises(ValueError) as error:
        ops.dropout(np.ones(3), p, key=KEY)
    assert str(error.value) == f"dropout: p must lie in [0, 1]; it is {p}"


# ---- dropout of whole channels ----------------------------------------------------------------


def _dropout2d(id, p):
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 2))
    return Case(f"dropout2d-{id}", ops.dropout2d, None, {"x": x}, {"p": p, "key": KEY})


def test_channels_are_dropped_as_a_whole_by_the_mask_of_their_number(xp):
    """The bits of (N, C) numbers: the same channels on every library, whatever their size."""
    for dtype in (np.float64, np.float32):
        y = host(xp, ops.dropout2d(adopt(xp, np.ones((16, 8, 3, 2), dtype)), 0.25, key=key(0)))
        alone = host(xp, ops.dropout(adopt(xp, np.ones((16, 8), dtype)), 0.25, key=key(0)))
        np.testing.assert_array_equal(y, np.broadcast_to(alone[..., None, None], y.shape))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_dropout2d_keeps_its_share_of_channels(xp, p):
    y = host(xp, ops.dropout2d(adopt(xp, np.ones((100, 50, 2, 1))), p, key=KEY))
    kept = y[:, :, 0, 0] != 0
    np.testing.assert_array_equal(y[kept], 1.0 / (1.0 - p) if p < 1 else np.empty((0, 2, 1)))
    assert abs(kept.mean() - (1 - p)) <= 5 * (p * (1 - p) / kept.size) ** 0.5


@given(x=arrays((3, 4, 2, 2), special=(np.nan, np.inf)), p=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_gradient_passes_where_channels_stay(x, p, seed):
    case = Case("", ops.dropout2d, None, {"x": x}, {"p": p, "key": key(seed)})
    dy = gradient_for(x)
    y, (dx,) = vjp_of(case.on(), [x], dy)
    np.testing.assert_array_equal(y[dx == 0], 0)  # NaN and inf are dropped too
    np.testing.assert_array_equal(dx, case.on()(dy))
    np.testing.assert_array_equal((dx == 0).all((2, 3)), (dx == 0).any((2, 3)))


@given(layout=st.sampled_from(LAYOUTS))
def test_channels_are_known_by_place_not_memory(layout):
    x = view(np.ones((3, 4, 6, 2)), layout)
    np.testing.assert_array_equal(
        ops.dropout2d(x, key=KEY), ops.dropout2d(np.ones(x.shape), key=KEY)
    )


@by_cases([_dropout2d("half", 0.5), _dropout2d("none", 0.0)])
def test_dropout2d_under_jit(jax, case):
    check_jax(jax, case)


def test_dropout2d_of_float16(xp):
    check_half(xp, _dropout2d("half", 0.3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.dropout2d(X, 1.5, key=KEY), "dropout2d: p must lie in [0, 1]; it is 1.5"),
        (
            lambda: ops.dropout2d(X[0], key=KEY),
            "dropout2d: x must be (N, C, H, W); x is (3, 5, 4): pass x[None, ...] for a batch of "
            "one",
        ),
        (
            lambda: xpcnn.layers.Dropout2d().vjp({}, X),
            "Dropout2d: training needs a key; call vjp(..., key=xpcnn.random.key(0))",
        ),
    ],
)
def test_dropout2d_errors(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


# ---- padding ----------------------------------------------------------------------------------

X = np.random.default_rng(1).standard_normal((2, 3, 5, 4))


def _pad(pad, mode="constant", value=0.0):
    def twin(functional, x):
        return functional.pad(x, pad, mode=mode, value=value if mode == "constant" else None)

    options = {"pad": pad, "mode": mode, "value": value}
    return Case(f"pad-{mode}-{pad}", ops.pad, twin, {"x": X}, options)


PADS = [
    _pad((1, 2)),
    _pad((1, 2, 0, 3), value=2.5),
    _pad((-1, 2, 1, -2), value=-1.0),
    _pad((0, 0, 0, 0, 1, 0, 0, 1)),
    _pad((1, 2, 3, 0), "reflect"),
    _pad((2, 3, 6, 1), "replicate"),
    _pad((4, 2, 0, 5), "circular"),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@by_cases(PADS)
def test_like_torch(xp, torch, case, dtype):
    check_like_torch(xp, torch, case, dtype)


@by_cases(PADS)
def test_padding_under_jit(jax, case):
    check_jax(jax, case)


MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@st.composite
def _paddings(draw):
    """An array of rank 1 to 4, a mode, and amounts that every axis can give."""
    mode = draw(st.sampled_from(list(MODES)))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axes = draw(st.integers(0, len(shape)))
    most = {"constant": lambda n: 3, "replicate": lambda n: 3, "reflect": lambda n: n - 1}
    pad = []
    for size in reversed(shape[len(shape) - axes :]):
        largest = most.get(mode, lambda n: n)(size)
        pad += [draw(st.integers(0, largest)), draw(st.integers(0, largest))]
    return draw(arrays(tuple(shape))), tuple(pad), mode


@given(_paddings())
def test_padding_is_numpys_and_its_pull_the_adjoint(drawn):
    x, pad, mode = drawn
    axes = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (x.ndim - len(axes)) + axes
    expected = np.pad(x, pairs, mode=MODES[mode])
    dy = np.random.default_rng(0).integers(-3, 4, expected.shape).astype(float)
    case = Case("", ops.pad, None, {"x": x}, {"pad": pad, "mode": mode})
    y, (dx,) = vjp_of(case.on(), [x], dy)
    np.testing.assert_array_equal(y, expected)
    assert np.sum(y * dy) == np.sum(x * dx)  # whole numbers: exact


@by_cases(PADS)
def test_the_pull_is_the_adjoint(xp, case):
    dy = gradient_for(case.on()(X))
    y, (dx,) = vjp_of(case.on(xp), [X], dy, xp=xp)
    linear = y - host(xp, case.on(xp)(adopt(xp, np.zeros_like(X))))  # without the constant
    naive.assert_close(np.sum(linear * dy), np.sum(X * dx), y.size)


def test_padding_nothing_gives_the_same(xp):
    for mode in MODES:
        y, (dx,) = vjp_of(_pad((0, 0, 0, 0), mode).on(xp), [X], X, xp=xp)
        np.testing.assert_array_equal(y, X)
        np.testing.assert_array_equal(dx, X)


def test_an_empty_batch_is_padded(xp):
    for case in PADS:
        if len(case.fixed["pad"]) == 4:
            y, (dx,) = vjp_of(case.on(xp), [X[:0]], case.on()(X)[:0], xp=xp)
            assert (y.shape, dx.shape) == ((0, *case.on()(X).shape[1:]), (0, 3, 5, 4))


def test_cropping_all_leaves_nothing():
    assert ops.pad(X, (-3, -1)).shape == (2, 3, 5, 0)


def test_the_pull_of_padding_holds_no_array():
    x = X.copy()
    y, pull = xpcnn.vjp(ops.pad, x, (1, 1), "reflect")
    alive = [weakref.ref(x), weakref.ref(y)]
    del x, y
    assert [array() for array in alive] == [None, None]
    pull(np.ones((2, 3, 5, 6)))


@pytest.mark.parametrize(
    ("pad", "mode", "message"),
    [
        ((1, 1), "edge",
         "pad: pad=(1, 1), mode='edge': no such mode; give one of constant, reflect, replicate, "
         "circular"),
        ((1, 2, 3), "constant",
         "pad: pad=(1, 2, 3), mode='constant' has 3 numbers for x (2, 3, 5, 4); give "
         "(before, after) for each axis, the last one first"),
        ((1,) * 10, "constant",
         f"pad: pad={(1,) * 10}, mode='constant' has 10 numbers for x (2, 3, 5, 4); give "
         "(before, after) for each axis, the last one first"),
        ((0, -5), "constant",
         "pad: pad=(0, -5), mode='constant' crops more of axis 3 than the 4 that x (2, 3, 5, 4) "
         "has"),
        ((4, 0), "reflect",
         "pad: pad=(4, 0), mode='reflect': axis 3 of x (2, 3, 5, 4) takes numbers from 0 to 3"),
        ((0, 0, 6, 0), "circular",
         "pad: pad=(0, 0, 6, 0), mode='circular': axis 2 of x (2, 3, 5, 4) takes numbers from 0 "
         "to 5"),
        ((-1, 0), "replicate",
         "pad: pad=(-1, 0), mode='replicate': axis 3 of x (2, 3, 5, 4) takes numbers not "
         "negative, of an axis not empty"),
    ],
)  # fmt: skip
def test_padding_errors(pad, mode, message):
    with pytest.raises(ValueError) as error:
        ops.pad(X, pad, mode)
    assert str(error.value) == message
