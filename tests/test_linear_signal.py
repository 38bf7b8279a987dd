"""Linear and locally connected, unfold and fold, correlate and convolve, as they are defined."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from checks import vjp_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import arrays, geometries

import xpcnn
from xpcnn import ops

sizes = st.integers(1, 4)


def assert_is(op, definition, given_arrays, dy, engine, *args):
    """`op` answers what `definition` does, and its gradients are those of an affine function."""
    expected = definition(*given_arrays, *args)
    grads = naive.gradients(lambda *a: definition(*a, *args), given_arrays, dy)
    terms = max(a.size for a in (*given_arrays, dy))
    with xpcnn.use(engine):
        y, actual = vjp_of(op, given_arrays, dy, *args)
    naive.assert_close(y, expected, terms)
    for grad, naive_grad in zip(actual, grads, strict=True):
        naive.assert_close(grad, naive_grad, terms)


@given(data=st.data())
def test_linear_is_a_product(engine, data):
    features, out = data.draw(sizes), data.draw(sizes)
    lead = (data.draw(st.integers(0, 3)), *data.draw(st.lists(sizes, max_size=2)))
    x = data.draw(arrays((*lead, features)))
    w, b = data.draw(arrays((out, features))), data.draw(arrays((out,)))
    dy = data.draw(arrays((*lead, out)))
    assert_is(ops.linear, lambda x, w, b: x @ w.T + b, [x, w, b], dy, engine)


@given(data=st.data())
def test_locally_connected_is_the_definition(engine, data):
    g = data.draw(geometries((2,)))
    n, c, o = (
        data.draw(st.integers(0, 2)),
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(1, 2)),
    )
    x = data.draw(arrays((n, c, *g.size)))
    w = data.draw(arrays((*g.out, o, c, *g.kernel)))
    b = data.draw(arrays((o, *g.out)))
    dy = data.draw(arrays((n, o, *g.out)))
    args = (g.stride, g.padding, g.dilation)
    y = naive.locally_connected(x, w, b, *args)
    with xpcnn.use(engine):
        actual, (dx, dw, db) = vjp_of(ops.locally_connected2d, [x, w, b], dy, *args)
        without, (_, _, none) = vjp_of(ops.locally_connected2d, [x, w, None], dy, *args)
    naive.assert_close(actual, y, w[0, 0, 0].size)
    naive.assert_close(without, y - b, w[0, 0, 0].size)
    # whole numbers: adjoint without any tolerance
    assert np.sum(without * dy) == np.sum(x * dx) == np.sum(w * dw)
    np.testing.assert_array_equal(db, dy.sum(0))
    assert none is None


def test_locally_connected_with_one_weight_everywhere_is_a_convolution(xp):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))
    y = naive.conv(x, w, None, 2, 1)
    everywhere = np.broadcast_to(w, (*y.shape[2:], *w.shape))
    actual = ops.locally_connected2d(xp.asarray(x), xp.asarray(everywhere), None, 2, 1)
    naive.assert_close(xp.to_numpy(actual), y, w[0].size)


@given(data=st.data())
def test_unfold_and_fold_are_the_definitions_and_adjoint(engine, data):
    g = data.draw(geometries((2,)))
    args = (g.kernel, g.stride, g.padding, g.dilation)
    x = data.draw(arrays((data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3)), *g.size)))
    columns = naive.unfold(x, *args)
    dy = data.draw(arrays(columns.shape))
    folded = naive.fold(dy, g.size, *args)
    with xpcnn.use(engine):
        actual, (dx,) = vjp_of(ops.unfold, [x], dy, *args)
        image, (dcolumns,) = vjp_of(ops.fold, [dy], x, g.size, *args)
    np.testing.assert_array_equal(actual, columns)
    np.testing.assert_array_equal(dx, folded)
    np.testing.assert_array_equal(image, folded)
    np.testing.assert_array_equal(dcolumns, columns)


@given(data=st.data())
def test_unfold_is_torchs(torch, data):
    g = data.draw(geometries((2,), strings=False))
    pads = naive.pads(g.padding, g.size, g.kernel, (1, 1), (1, 1))
    x = data.draw(arrays((2, 2, *g.size)))
    padded = torch.nn.functional.pad(torch.tensor(x.copy()), [*pads[1], *pads[0]])
    theirs = torch.nn.functional.unfold(padded, g.kernel, stride=g.stride, dilation=g.dilation)
    ours = ops.unfold(x, g.kernel, g.stride, g.padding, g.dilation)
    np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("name", ["correlate", "convolve"])
@given(data=st.data())
def test_signals_are_the_definition(engine, name, data):
    ndim, mode = data.draw(st.integers(1, 2)), data.draw(st.sampled_from(["full", "same", "valid"]))
    k = data.draw(arrays(tuple(data.draw(sizes) for _ in range(ndim))))
    least = k.shape if mode == "valid" else (1,) * ndim
    x = data.draw(arrays(tuple(n + data.draw(st.integers(0, 4)) for n in least)))
    definition = getattr(naive, name)
    dy = data.draw(arrays(definition(x, k, mode).shape))
    assert_is(getattr(ops, name), definition, [x, k], dy, engine, mode)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_signals_are_scipys(xp, name, mode):
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(0)
    for x_shape, k_shape in [((7,), (3,)), ((7,), (4,)), ((5, 6), (3, 2)), ((5, 6), (2, 5))]:
        x, k = rng.standard_normal(x_shape), rng.standard_normal(k_shape)
        theirs = getattr(signal, name)(x, k, mode, "direct")
        ours = getattr(ops, name)(xp.asarray(x), xp.asarray(k), mode)
        naive.assert_close(xp.to_numpy(ours), theirs, k.size)


def test_signals_of_integers_stay_integers(xp):
    x, k = np.arange(5), np.array([1, -2])
    y = xp.to_numpy(ops.convolve(xp.asarray(x), xp.asarray(k)))
    assert y.dtype.kind == "i"
    np.testing.assert_array_equal(y, np.convolve(x, k))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("n", "inputs", "outputs"), [(64, 200, 33), (7, 500, 129), (131, 90, 17)])
def test_products_large_enough_for_an_engine(n, inputs, outputs, order, dtype):
    """Few rows and many, weights that lie either way, and sizes that fill no vector."""
    rng = np.random.default_rng(0)
    x, w, dy = (
        np.asarray(rng.standard_normal(shape), dtype, order=order)
        for shape in ((n, inputs), (outputs, inputs), (n, outputs))
    )
    y, (dx, dw, _) = vjp_of(ops.linear, [x, w, None], dy)
    naive.assert_close(y, x.astype(float) @ w.T.astype(float), inputs)
    naive.assert_close(dx, dy.astype(float) @ w.astype(float), outputs)
    naive.assert_close(dw, dy.T.astype(float) @ x.astype(float), n)
