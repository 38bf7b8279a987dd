"""Unpooling: values go where maxima were, and gradients come back from there."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from checks import adopt, host, vjp_of
from elementwise import Case, Partly, check_half, check_jax
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, pools, view

import xpcnn
from xpcnn import layers as L
from xpcnn import ops, random


def pooled(x, g):
    """Maxima and their places, by the definition."""
    return naive.max_pool(x, g.kernel, g.stride, g.padding, g.dilation, g.ceil_mode)


def unpool(indices, *options, xp=None, **named):
    """max_unpool2d of these indices, as a function of x alone that `vjp_of` takes."""
    names = ("kernel_size", "stride", "padding", "output_size")
    given_options = dict(zip(names, options, strict=False)) | named
    fixed = {"indices": adopt(xp, indices), **given_options}
    return Partly(ops.max_unpool2d, ("x",), fixed)


@given(data=st.data())
def test_unpooling_is_the_adjoint_of_taking(engine, data):
    """Overlapping windows, too: what they share is added."""
    g = data.draw(pools(dims=(2,)))
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *g.size)))
    y, indices = pooled(x, g)
    values, dy = data.draw(arrays(y.shape)), data.draw(arrays(x.shape))
    op = unpool(indices, g.kernel, g.stride, g.padding, g.size, dilation=g.dilation)
    with xpcnn.use(engine):
        back, (dx,) = vjp_of(op, [values], dy)
    np.testing.assert_array_equal(back, naive.max_pool_dx(values, indices, g.size))
    np.testing.assert_array_equal(dx, naive.taken(dy, indices))
    assert np.sum(back * dy) == np.sum(values * dx)  # whole numbers: exact


@given(data=st.data())
def test_unpooling_is_torchs_where_windows_do_not_overlap(torch, data):
    kernel, rest = (
        data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        data.draw(st.booleans()),
    )
    size = tuple(k * data.draw(st.integers(1, 3)) + rest * (k - 1) for k in kernel)
    x = np.random.default_rng(0).standard_normal((2, 3, *size))
    functional = torch.nn.functional
    y, indices = functional.max_pool2d(torch.tensor(x), kernel, return_indices=True)
    values = torch.tensor(np.random.default_rng(1).standard_normal(y.shape), requires_grad=True)
    output_size = {"output_size": size} if rest else {}
    expected = functional.max_unpool2d(values, indices, kernel, **output_size)
    dy = np.random.default_rng(2).standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    op = unpool(indices.numpy(), kernel, **output_size)
    back, (dx,) = vjp_of(op, [values.detach().numpy()], dy)
    np.testing.assert_array_equal(back, expected.detach().numpy())
    np.testing.assert_array_equal(dx, values.grad.numpy())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_library(xp, dtype, layout):
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(dtype)
    y, indices = naive.max_pool(x, 3, 2, 1)
    values, dy = -y, x[::-1].copy()
    expected = naive.max_pool_dx(values, indices, (7, 6))
    given_and_made = [values, indices, dy, expected, naive.taken(dy, indices)]
    if layout == "NHWC":
        given_and_made = [np.moveaxis(a, 1, -1) for a in given_and_made]
    values, indices, dy, expected, expected_dx = given_and_made
    op = unpool(indices, 3, 2, 1, (7, 6), layout=layout, xp=xp)
    back, (dx,) = vjp_of(op, [values], dy, xp=xp)
    naive.assert_close(back, expected, 4)
    np.testing.assert_array_equal(dx, expected_dx)


@given(layout=st.sampled_from(LAYOUTS), other=st.sampled_from(LAYOUTS))
def test_any_memory_layout(layout, other):
    x = view(np.random.default_rng(0).standard_normal((2, 4, 6, 8)), layout)
    y, indices = ops.max_pool2d(x, 2, return_indices=True)
    dy = view(np.random.default_rng(1).standard_normal((2, 4, 6, 8)), other)
    back, (dx,) = vjp_of(unpool(indices, 2), [y], dy)
    plain = unpool(indices.copy(), 2)
    expected, (expected_dx,) = vjp_of(plain, [y.copy()], dy.copy())
    np.testing.assert_array_equal(back, expected)
    np.testing.assert_array_equal(dx, expected_dx)


X = np.random.default_rng(0).standard_normal((2, 3, 4, 6))
Y, PLACES = naive.max_pool(X, 2)


CASE = Case("unpool", ops.max_unpool2d, None, {"x": Y}, {"indices": PLACES, "kernel_size": 2})


def test_half_precision(xp):
    check_half(xp, CASE)


def test_under_jit(jax):
    check_jax(jax, CASE)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ops.max_unpool2d(Y, PLACES.astype(float), 2), TypeError,
         "max_unpool2d: indices must be integers, not float64"),
        (lambda: ops.max_unpool2d(Y.astype(int), PLACES, 2), TypeError,
         "max_unpool2d: x must be floating, not int64; convert it, for example to float32"),
        (lambda: ops.max_unpool2d(Y[:1], PLACES, 2), ValueError,
         "max_unpool2d: x (1, 3, 2, 3) needs one index for each entry; indices are (2, 3, 2, 3)"),
        (lambda: ops.max_unpool2d(Y[0], PLACES[0], 2), ValueError,
         "max_unpool2d: x must be (N, C, H, W); x is (3, 2, 3): pass x[None, ...] for a batch of "
         "one"),
        (lambda: ops.max_unpool2d(Y, PLACES, 2, output_size=(4, 8)), ValueError,
         "max_unpool2d: over output_size=(4, 8) the window has (2, 4) places, or (2, 4) by "
         "ceil_mode; x is (2, 3, 2, 3)"),
        (lambda: ops.max_unpool2d(Y, PLACES, 2, output_size=0), ValueError,
         "max_unpool2d: output_size=0; give an int of at least 1, or one per axis (H, W)"),
        (lambda: ops.max_unpool2d(Y, PLACES, 2, padding="same"), ValueError,
         "max_unpool2d: padding='same'; give 'valid', a non-negative int, one per axis (H, W), or "
         "a (before, after) pair per axis"),
        (lambda: L.PoolUnpool(L.AvgPool2d(2)), TypeError,
         "PoolUnpool: pool must be a MaxPool2d; it is AvgPool2d(kernel_size=(2, 2))"),
        (lambda: L.PoolUnpool(L.MaxPool2d(2), L.Conv2d(5, 1)).plan((3, 4, 4)), ValueError,
         "PoolUnpool: its layers must keep the shape (3, 2, 2) that the pool gives; they make it "
         "(5, 2, 2)"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value) == message


# ---- the layer --------------------------------------------------------------------------------

KEY = random.key(0)


def segnet(torch_functional, x, w):
    """Two levels, each pooled and unpooled, of PyTorch's functions."""
    f = torch_functional
    a, first = f.max_pool2d(x, 2, return_indices=True)
    a = f.conv2d(a, w["encoded.weight"], w["encoded.bias"], padding=1).tanh()
    b, second = f.max_pool2d(a, 3, 3, return_indices=True)
    b = f.conv2d(b, w["inner.0.weight"], w["inner.0.bias"])
    a = f.max_unpool2d(b, second, 3, 3, output_size=a.shape[2:])
    a = f.conv2d(a, w["decoded.weight"], w["decoded.bias"], padding=1)
    return f.max_unpool2d(a, first, 2, output_size=x.shape[2:])


MODEL = L.PoolUnpool(
    L.MaxPool2d(2),
    L.Conv2d(5, 3, padding=1), L.Tanh(),
    L.PoolUnpool(L.MaxPool2d(3), L.Conv2d(5, 1)),
    L.Conv2d(3, 3, padding=1),
    names=("encoded", "act", "inner", "decoded"),
)  # fmt: skip


def test_an_encoder_and_its_decoder(xp, torch):
    params, out_shape = MODEL.init(KEY, (3, 15, 14), dtype="float64", device=xp.spec)
    assert out_shape == (3, 15, 14)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 15, 14)), rng.standard_normal((2, 3, 15, 14))
    w = {
        name: torch.tensor(host(xp, a).copy(), requires_grad=True)
        for name, a in L.tree.flatten(params).items()
    }
    given_x = torch.tensor(x, requires_grad=True)
    expected = segnet(torch.nn.functional, given_x, w)
    expected.backward(torch.tensor(dy))
    y, pull = MODEL.vjp(params, xp.asarray(x))
    grads, dx = pull(xp.asarray(dy))
    naive.assert_close(host(xp, y), expected.detach().numpy(), 100)
    naive.assert_close(host(xp, MODEL(params, xp.asarray(x))), expected.detach().numpy(), 100)
    naive.assert_close(host(xp, dx), given_x.grad.numpy(), 1000)
    for name, grad in L.tree.flatten(grads).items():
        naive.assert_close(host(xp, grad), w[name].grad.numpy(), 1000)


def test_nothing_is_computed_for_layers_that_do_not_learn():
    model = L.PoolUnpool(L.MaxPool2d(2), L.Frozen(L.Conv2d(3, 1)))
    params, _ = model.init(KEY, (3, 4, 4), dtype="float64")
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 4))
    told = xpcnn.explain(model, params, x, wrt=("params",))
    assert [choice.verb for choice in told if choice.verb != "matmul"] == [
        "max_pool", "conv", "max_pool_dx",
    ]  # fmt: skip
    assert model.vjp(params, x, wrt=("params",))[1](x) == ({}, None)


def test_indices_of_few_bits_serve_many_planes():
    x = np.random.default_rng(0).normal(size=(5, 9, 6, 6))
    y, indices = ops.max_pool2d(x, 2, return_indices=True)
    dy = np.random.default_rng(1).normal(size=x.shape)
    few = xpcnn.vjp(ops.max_unpool2d, y, indices.astype(np.uint8), 2)[1](dy)[0]
    np.testing.assert_array_equal(few, xpcnn.vjp(ops.max_unpool2d, y, indices, 2)[1](dy)[0])
