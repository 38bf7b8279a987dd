"""Pooling: every engine against the definition, at ties and NaN too."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from checks import ops_of_rank, vjp_of
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, pools, view
from test_conv import SLACK, channels_last, normal, peak_beyond

import xpcnn
from xpcnn import ops

SPECIAL = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("special", [(), SPECIAL], ids=["ties", "NaN and inf"])
@given(data=st.data())
def test_max_pool_is_the_definition(engine, special, data):
    g = data.draw(pools())
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *g.size), special=special))
    y, indices = naive.max_pool(x, g.kernel, g.stride, g.padding, g.dilation, g.ceil_mode)
    dy = data.draw(arrays(y.shape))
    op, args = ops_of_rank("max_pool", g.ndim), (g.kernel, g.stride, g.padding, g.dilation)
    with xpcnn.use(engine):
        actual, (dx,) = vjp_of(op, [x], dy, *args, ceil_mode=g.ceil_mode)
        both = op(x, *args, ceil_mode=g.ceil_mode, return_indices=True)
    np.testing.assert_array_equal(actual, y)
    np.testing.assert_array_equal(both[0], y)
    np.testing.assert_array_equal(both[1], indices)
    np.testing.assert_array_equal(dx, naive.max_pool_dx(dy, indices, g.size))


@given(data=st.data())
def test_max_pool_of_integers(engine, data):
    """Least integers and all: padding never wins, whatever it holds."""
    g = data.draw(pools())
    dtype = data.draw(st.sampled_from([np.uint8, np.int8, np.int64]))
    x = data.draw(arrays((1, 2, *g.size), special=(-1,))).astype(dtype)
    x = np.where(x == 1, np.iinfo(dtype).min, x)
    args = (g.kernel, g.stride, g.padding, g.dilation)
    y, indices = naive.max_pool(x, *args, g.ceil_mode)
    op = ops_of_rank("max_pool", g.ndim)
    with xpcnn.use(engine):
        actual = op(x, *args, ceil_mode=g.ceil_mode, return_indices=True)
    assert actual[0].dtype == dtype
    np.testing.assert_array_equal(actual[0], y)
    np.testing.assert_array_equal(actual[1], indices)


@given(data=st.data())
def test_avg_pool_is_the_definition(engine, data):
    g = data.draw(pools(dilations=(1,)))
    options = {
        "ceil_mode": g.ceil_mode,
        "count_include_pad": data.draw(st.booleans()),
        "divisor_override": data.draw(st.sampled_from([None, None, 1, 7])),
    }
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *g.size)))
    y = naive.avg_pool(x, g.kernel, g.stride, g.padding, **options)
    dy = data.draw(arrays(y.shape))
    with xpcnn.use(engine):
        actual, (dx,) = vjp_of(
            ops_of_rank("avg_pool", g.ndim), [x], dy, g.kernel, g.stride, g.padding, **options
        )
    terms = int(np.prod(g.kernel))
    naive.assert_close(actual, y, terms)
    naive.assert_close(
        dx, naive.avg_pool_dx(dy, g.size, g.kernel, g.stride, g.padding, **options), terms
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_any_number_of_channels(engine, dtype, data):
    """Channels last in memory, more and fewer than vectors have lanes."""
    g = data.draw(pools())
    shape = (data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 3, 4, 16, 19, 40, 72])))
    x = view(data.draw(arrays((*shape, *g.size), dtype, special=SPECIAL)), "channels last")
    args = (g.kernel, g.stride, g.padding, g.dilation)
    y, indices = naive.max_pool(x, *args, g.ceil_mode)
    dy = data.draw(arrays(y.shape, dtype))
    with xpcnn.use(engine):
        op = ops_of_rank("max_pool", g.ndim)
        np.testing.assert_array_equal(op(x, *args, ceil_mode=g.ceil_mode), y)
        actual, pull = xpcnn.vjp(op, x, *args, ceil_mode=g.ceil_mode, return_indices=True)
        np.testing.assert_array_equal(actual[0], y)
        np.testing.assert_array_equal(actual[1], indices)
        np.testing.assert_array_equal(pull(dy)[0], naive.max_pool_dx(dy, indices, g.size))
    x, args = np.nan_to_num(x, posinf=5, neginf=-5), (g.kernel, g.stride, g.padding)
    y = naive.avg_pool(x, *args, ceil_mode=g.ceil_mode, count_include_pad=True)
    dy = view(data.draw(arrays(y.shape, dtype)), "channels last")
    dx = naive.avg_pool_dx(dy, g.size, *args, ceil_mode=g.ceil_mode, count_include_pad=True)
    with xpcnn.use(engine):
        op = ops_of_rank("avg_pool", g.ndim)
        actual, pull = xpcnn.vjp(op, x, *args, ceil_mode=g.ceil_mode)
        naive.assert_close(actual, y, 9)
        naive.assert_close(pull(dy)[0], dx, 9)


@pytest.mark.parametrize("shape", [(1, 40, 9, 9), (3, 19, 30, 8)])
@pytest.mark.parametrize("kernel", [(3, 3), (8, 8)])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_threads_change_no_bit(engine, name, kernel, shape):
    (values,) = normal(shape)
    x, results = view(values, "channels last"), []
    for threads in (1, 3):
        with xpcnn.use(engine, threads=threads):
            y, pull = xpcnn.vjp(getattr(ops, name), x, kernel, (2, 1), 1)
            results.append((y, *pull(view(normal(y.shape)[0], "channels last"))))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@given(data=st.data())
def test_pooling_is_torchs(torch, data):
    """Indices and gradients too; PyTorch allows pads of half a kernel, and here no NaN."""
    g = data.draw(pools(dims=(1, 2), dilations=(1,)))
    stride = naive.each(g.stride, g.ndim)
    pads = naive.pads(g.padding, g.size, g.kernel, stride, (1,) * g.ndim)
    assume(all(a == b and a <= k // 2 for (a, b), k in zip(pads, g.kernel, strict=True)))
    padding = [a for a, _ in pads]
    x = data.draw(arrays((2, 2, *g.size), special=(np.inf, -np.inf)))
    kinds = {"max_pool": {"return_indices": True}, "avg_pool": {"count_include_pad": False}}
    for name, options in kinds.items():
        values = x if name == "max_pool" else np.nan_to_num(x, posinf=5, neginf=-5)
        theirs = torch.tensor(values.copy(), requires_grad=True)
        pool = getattr(torch.nn.functional, f"{name}{g.ndim}d")
        result = pool(theirs, g.kernel, stride, padding, ceil_mode=g.ceil_mode, **options)
        y, indices = result if isinstance(result, tuple) else (result, None)
        dy = data.draw(arrays(tuple(y.shape)))
        y.backward(torch.tensor(dy.copy()))
        op = ops_of_rank(name, g.ndim)
        options["ceil_mode"] = g.ceil_mode
        actual, (dx,) = vjp_of(op, [values], dy, g.kernel, stride, padding, **options)
        naive.assert_close(actual, y.detach().numpy(), 9)
        naive.assert_close(dx, theirs.grad.numpy(), 9)
        if indices is not None:
            ours = op(values, g.kernel, stride, padding, **options)[1]
            np.testing.assert_array_equal(ours, indices.numpy())


@given(data=st.data())
def test_adaptive_pools_are_the_definition(engine, data):
    size, out = (data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6))) for _ in range(2))
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *size)))
    averages = naive.adaptive_avg_pool(x, out)
    maxima, indices = naive.adaptive_max_pool(x, out)
    dy = data.draw(arrays(averages.shape))
    (average_dx,) = naive.gradients(lambda x: naive.adaptive_avg_pool(x, out), [x], dy)
    with xpcnn.use(engine):
        actual, (dx,) = vjp_of(ops.adaptive_avg_pool2d, [x], dy, out)
        naive.assert_close(actual, averages, x.size)
        naive.assert_close(dx, average_dx, x.size)
        actual, (dx,) = vjp_of(ops.adaptive_max_pool2d, [x], dy, out)
        np.testing.assert_array_equal(actual, maxima)
        np.testing.assert_array_equal(dx, naive.max_pool_dx(dy, indices, size))


def test_the_first_maximum_wins_on_every_library(xp):
    """A window of ties, one of NaN, one wholly -inf beside padding."""
    plane = np.array([[2.0, 2.0, 1.0, np.nan], [2.0, 0.0, np.nan, 3.0], [-np.inf] * 4])
    x = xp.asarray(plane[None, None])
    (y, indices), pull = xpcnn.vjp(
        ops.max_pool2d, x, 2, padding=((0, 1), (0, 0)), return_indices=True
    )
    expected = [[2.0, np.nan], [-np.inf, -np.inf]]
    np.testing.assert_array_equal(xp.to_numpy(y)[0, 0], expected)
    np.testing.assert_array_equal(xp.to_numpy(indices)[0, 0], [[0, 3], [8, 10]])
    (dx,) = pull(xp.asarray(np.array([[[[1.0, 2.0], [3.0, 4.0]]]])))
    expected = [[1.0, 0.0, 0.0, 2.0], [0.0] * 4, [3.0, 0.0, 4.0, 0.0]]
    np.testing.assert_array_equal(xp.to_numpy(dx)[0, 0], expected)


def test_nan_reaches_the_maximum_without_indices_too(xp):
    x = xp.asarray(np.array([[[1.0, np.nan, 2.0, 3.0]]]))
    np.testing.assert_array_equal(xp.to_numpy(ops.max_pool1d(x, 2)), [[[np.nan, 3.0]]])


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "adaptive_max_pool2d"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(engine, layout, name):
    (values,) = normal((3, 4, 6, 8))
    x = view(values, layout)
    with xpcnn.use(engine):
        y, pull = xpcnn.vjp(getattr(ops, name), x, (2, 4))
        straight, straight_pull = xpcnn.vjp(getattr(ops, name), x.copy(), (2, 4))
        dy = view(normal(y.shape)[0], layout)
        np.testing.assert_array_equal(y, straight)
        np.testing.assert_array_equal(pull(dy)[0], straight_pull(dy.copy())[0])


def test_nhwc_is_a_permuted_view(xp):
    (first,) = normal((2, 3, 5, 6))
    last = np.moveaxis(first, 1, -1)
    for op in (ops.max_pool2d, ops.avg_pool2d):
        y, pull = xpcnn.vjp(op, xp.asarray(first), 3, 2, 1)
        y_last, pull_last = xpcnn.vjp(op, xp.asarray(last), 3, 2, 1, layout="NHWC")
        np.testing.assert_array_equal(xp.to_numpy(y_last), np.moveaxis(xp.to_numpy(y), 1, -1))
        dx, dx_last = xp.to_numpy(pull(y)[0]), xp.to_numpy(pull_last(y_last)[0])
        np.testing.assert_array_equal(dx_last, np.moveaxis(dx, 1, -1))


@pytest.mark.parametrize("size", [32, 512])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_memory_stays_within_the_workspace(name, size):
    """Small planes are taken several at a time, and a large one in pieces."""
    op = getattr(ops, name)
    (x,) = normal((2, 2**18 // size**2, size, size), dtype=np.float32)
    with xpcnn.use("numpy", workspace=2**16):
        y, pull = xpcnn.vjp(op, x, 3, 1, 1)
        dy = y.copy()
        assert peak_beyond(lambda: [op(x, 3, 1, 1)]) < 2**16 + SLACK
        assert peak_beyond(lambda: list(pull(dy))) < 2**16 + SLACK
        if name == "max_pool2d":
            assert peak_beyond(lambda: op(x, 3, 1, 1, return_indices=True)) < 2**16 + SLACK


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_channels_last_memory_is_kept(name):
    x = view(normal((2, 8, 9, 10))[0], "channels last")
    with xpcnn.use("numpy"):
        y, pull = xpcnn.vjp(getattr(ops, name), x, 2)
        (dx,) = pull(view(normal(y.shape)[0], "channels last"))
    assert channels_last(y) and channels_last(dx)
