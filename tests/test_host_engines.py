"""PyTorch's and JAX's own primitives: right where they are taken, and taken where they should be.

Hypothesis looks on PyTorch, verb by verb, against `generic`; JAX, to which a shape costs seconds,
has a few fixed windows.
"""

from __future__ import annotations

import warnings
from math import prod

import naive
import numpy as np
import pytest
from checks import adopt, host
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import arrays, convolutions, parts, pools

import xpcnn
from xpcnn import engines, ops
from xpcnn.engines import ENGINES, generic
from xpcnn.ops._sums import channel_sums
from xpcnn.window import Window, conv_window, pool_window

SPECIAL = (np.nan, np.inf, -np.inf)


def tensor(torch, a):
    """`a` as PyTorch's, with its strides where PyTorch knows such."""
    a = a.copy() if min(a.strides, default=0) < 0 else a
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch would write into what NumPy must not
        return torch.from_numpy(a)


def both(torch, verb, given_arrays, *args):
    """What PyTorch and `generic` answer, on NumPy; the first None where it is declined.

    On the way: the results are alike in shape and dtype, and the inputs are as they were.
    """
    from xpcnn.engines import torch as engine

    tensors = [None if a is None else tensor(torch, a) for a in given_arrays]
    before = [None if a is None else a.copy() for a in given_arrays]
    arguments = [*tensors[:2], *args, *tensors[2:]]  # a bias comes after the window
    ours = getattr(engine, verb)(*arguments)
    for t, copy in zip(tensors, before, strict=True):
        if t is not None:
            np.testing.assert_array_equal(t.numpy(), copy)
    if ours is NotImplemented:
        return None, None
    theirs = getattr(generic, verb)(*arguments)
    return tuple(
        [np.asarray(part) for part in (r if isinstance(r, tuple) else (r,)) if part is not None]
        for r in (ours, theirs)
    )


def assert_alike(ours, theirs, terms=None):
    """To a rounding of `terms` terms; None: equal."""
    for our, their in zip(ours, theirs, strict=True):
        assert (our.dtype, our.shape) == (their.dtype, their.shape)
        if terms is None:
            np.testing.assert_array_equal(our, their)
        else:
            naive.assert_close(our, their, terms)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
def test_torch_convolves(torch, dtype, data):
    c = data.draw(convolutions(dtype=dtype))
    whole = conv_window("conv", c.window.ndim, c.x.shape, c.w.shape, None, *c.args)
    window = data.draw(parts(whole))
    dy = data.draw(arrays((*c.dy.shape[:2], *window.out_size), dtype))
    for verb, given_arrays in (
        ("conv", [c.x, c.w, c.b]),
        ("conv_dx", [dy, c.w]),
        ("conv_dw", [c.x, dy]),
    ):
        ours, theirs = both(torch, verb, given_arrays, window)
        assert_alike(ours, theirs, c.terms)
    if window.rank == 2:
        ours, theirs = both(torch, "im2col", [c.x], window)
        assert_alike(ours, theirs)
        assert_alike(*both(torch, "col2im", theirs, window), terms=prod(window.kernel))


@given(data=st.data(), special=st.sampled_from([(), SPECIAL]))
def test_torch_finds_maxima(torch, special, data):
    """Ties, NaN and what is least of all included: where it is not declined, it is ours exactly."""
    g = data.draw(pools())
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *g.size), special=special))
    whole = pool_window(
        "pool", g.ndim, x.shape, g.kernel, g.stride, g.padding, g.dilation, ceil_mode=g.ceil_mode
    )
    window = data.draw(parts(whole))
    ours, theirs = both(torch, "max_pool", [x], window)
    assume(ours is not None)
    assert_alike(ours, theirs)
    ours, theirs = both(torch, "max_pool", [x], window, True)
    assume(ours is not None)
    assert_alike(ours, theirs)
    dy = data.draw(arrays(theirs[0].shape))
    assert_alike(*both(torch, "max_pool_dx", [dy, theirs[1]], window))


@given(data=st.data())
def test_torch_averages(torch, data):
    g = data.draw(pools(dims=(2,), dilations=(1,)))
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *g.size)))
    window = pool_window(
        "pool", 2, x.shape, g.kernel, g.stride, g.padding, 1, ceil_mode=g.ceil_mode
    )
    dy = data.draw(arrays((*x.shape[:2], *window.out_size)))
    divisor = data.draw(st.sampled_from([7, -1, window.counts(True), window.counts(False)]))
    ours, theirs = both(torch, "avg_pool", [x], window, divisor)
    assume(ours is not None)
    terms = prod(window.kernel)
    assert_alike(ours, theirs, terms)
    assert_alike(*both(torch, "avg_pool_dx", [dy], window, divisor), terms)


def special_tensor(torch, data, shape, special):
    return tensor(torch, data.draw(arrays(shape, np.float32, special=special)))


@pytest.mark.parametrize("op", [ops.relu, ops.relu6])
@given(data=st.data())
def test_torch_clips(torch, op, data):
    """NaN and both ends included; autograd, too, gives them no gradient."""
    shape = (2, 3, *data.draw(st.lists(st.integers(1, 5), max_size=3)))
    x = special_tensor(torch, data, shape, (*SPECIAL, 0.0, 6.0))
    dy = special_tensor(torch, data, shape, ())
    y, pull = op.vjp(x)
    (dx,) = pull(dy)
    with xpcnn.use("generic"):
        expected_y, pull = op.vjp(x)
        (expected_dx,) = pull(dy)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)
    known = torch.where(x.isnan(), 1.0, x).requires_grad_()
    (grad,) = torch.autograd.grad(op(known), known, dy)
    np.testing.assert_array_equal(grad[~x.isnan()], dx[~x.isnan()])


def normalised(torch, layout, mean=1.0):
    """x, weight, bias and dy in float32."""
    rng = np.random.default_rng(0)
    shapes = (16, 3, 40, 40), (3,), (3,), (16, 3, 40, 40)
    x, weight, bias, dy = (
        torch.tensor(rng.standard_normal(s), dtype=torch.float32) for s in shapes
    )
    return [a.to(memory_format=layout) if a.ndim == 4 else a for a in (x + mean, weight, bias, dy)]


@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_torch_normalises_as_exactly_as_the_definition(torch, layout, mean):
    x, weight, bias, dy = normalised(torch, getattr(torch, layout), mean)

    def results(x, weight, bias, dy):
        (y, mean, var), pull = ops.batch_norm_train.vjp(x, weight, bias)
        given = ops.batch_norm(x, mean, var, weight, bias)
        return [a.numpy().astype(float) for a in (y, mean, var, *pull(dy), given, channel_sums(x))]

    ours = results(x, weight, bias, dy)
    with xpcnn.use("generic"):
        defined = results(x, weight, bias, dy)
        truth = results(*(a.double() for a in (x, weight, bias, dy)))
    for our, their, true in zip(ours, defined, truth, strict=True):
        slack = 4 * np.spacing(np.abs(true).astype(np.float32)).max()
        assert np.abs(our - true).max() <= 2 * np.abs(their - true).max() + slack


def test_what_torch_would_add_badly_or_lose_track_of_is_declined(torch):
    plain, _, _, _ = normalised(torch, torch.contiguous_format)
    last, weight, bias, _ = normalised(torch, torch.channels_last)
    tracked = plain.clone().requires_grad_()
    for x, declined in ((plain, False), (last, True), (plain[:, :, 0, 0], True), (tracked, True)):
        answer = engines.offered("batch_norm_train", x, weight, bias, 1e-5)
        assert (answer is NotImplemented) == declined
    y, mean, var = ops.batch_norm_train(tracked)
    assert all(torch.autograd.grad(a.sum(), tracked, retain_graph=True) for a in (y, mean, var))
    mean = weight.clone().requires_grad_()
    assert engines.offered("batch_norm", plain, mean, bias**2, None, None, 0.0) is NotImplemented


# ---- which calls are taken, on both libraries ---------------------------------------------------

CLASSIC = {
    "LeNet": ("conv2d", (2, 1, 12, 12), (6, 1, 5, 5), {"padding": 2}),
    "VGG": ("conv2d", (2, 4, 8, 8), (6, 4, 3, 3), {"padding": 1}),
    "ResNet's first": ("conv2d", (1, 3, 16, 16), (4, 3, 7, 7), {"stride": 2, "padding": 3}),
    "ResNet's shortcut": ("conv2d", (2, 4, 8, 8), (8, 4, 1, 1), {"stride": 2}),
    "MobileNet": ("conv2d", (2, 4, 9, 9), (4, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 4}),
    "as TensorFlow pads": ("conv2d", (2, 3, 8, 8), (4, 3, 3, 3), {"stride": 2, "padding": "same"}),
    "dilated": ("conv2d", (1, 2, 9, 9), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
    "signals": ("conv1d", (2, 3, 16), (4, 3, 5), {"stride": 2, "padding": 2}),
    "volumes": ("conv3d", (1, 2, 4, 5, 6), (3, 2, 3, 3, 3), {"padding": 1}),
    "transposed": ("conv_transpose2d", (1, 4, 5, 5), (4, 3, 4, 4), {"stride": 2, "padding": 1}),
    "LeNet's maximum": ("max_pool2d", (2, 3, 8, 8), None, {"kernel_size": 2}),
    "ResNet's": ("max_pool2d", (2, 3, 9, 9), None, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "GoogLeNet's": (
        "max_pool2d", (2, 3, 8, 8), None, {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    ),
    "of a dilated window": ("max_pool2d", (1, 2, 9, 9), None, {"kernel_size": 3, "dilation": 2}),
    "LeNet's average": ("avg_pool2d", (2, 3, 8, 8), None, {"kernel_size": 2}),
    "of what is there": (
        "avg_pool2d", (1, 3, 8, 8), None,
        {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
    ),
}  # fmt: skip


@pytest.fixture(params=CLASSIC)
def layer(request):
    """(op, its arrays, a gradient for its result, its options) of a layer that everybody has."""
    name, x_shape, w_shape, options = CLASSIC[request.param]
    op, rng = getattr(ops, name), np.random.default_rng(1)
    given_arrays = [rng.standard_normal(s) for s in (x_shape, w_shape) if s]
    with xpcnn.use("generic"):
        dy = rng.standard_normal(op(*given_arrays, **options).shape)
    return op, given_arrays, dy, options


def forward_and_back(layer, xp=None):
    """y, values from the forward alone, and the gradients."""
    op, given_arrays, dy, options = layer
    given_arrays = [adopt(xp, a) for a in given_arrays]
    y, pull = xpcnn.vjp(op, *given_arrays, **options)
    return [y, op(*given_arrays, **options), *(g for g in pull(adopt(xp, dy)) if g is not None)]


def expected(layer):
    with xpcnn.use("generic"):
        return forward_and_back(layer)


def terms(layer):
    return max(a.size for a in layer[1])


@pytest.fixture
def primitives_alone(monkeypatch):
    """Nobody else is asked: what they decline raises."""
    for name in ("torch", "jax"):
        monkeypatch.setitem(ENGINES, name, (name,))


@pytest.mark.usefixtures("primitives_alone")
def test_a_classic_layer_takes_the_primitives(xp, layer):
    if xp.name not in ("torch", "jax"):
        pytest.skip(f"{xp.name} has none")
    ours = [host(xp, a) for a in forward_and_back(layer, xp)]
    assert_alike(ours, expected(layer), terms(layer))


@pytest.mark.usefixtures("primitives_alone")
def test_a_classic_layer_under_jit(jax, layer):
    op, given_arrays, dy, options = layer

    @jax.jit
    def traced(given_arrays, dy):
        return forward_and_back((op, given_arrays, dy, options))

    ours = traced([jax.numpy.asarray(a) for a in given_arrays], jax.numpy.asarray(dy))
    assert_alike([np.asarray(a) for a in ours], expected(layer), terms(layer))


@pytest.mark.usefixtures("primitives_alone")
def test_autograd_through_a_classic_layer(torch, layer):
    op, given_arrays, dy, options = layer
    leaves = [torch.tensor(a, requires_grad=True) for a in given_arrays]
    y = op(*leaves, **options)
    grads = torch.autograd.grad(y, leaves, torch.from_numpy(dy))
    assert_alike([g.numpy() for g in grads], expected(layer)[2:], terms(layer))


@pytest.mark.usefixtures("primitives_alone")
def test_jax_grad_through_a_classic_layer(jax, layer):
    op, given_arrays, dy, options = layer
    _, pull = jax.vjp(lambda *a: op(*a, **options), *map(jax.numpy.asarray, given_arrays))
    grads = [np.asarray(g) for g in pull(jax.numpy.asarray(dy))]
    assert_alike(grads, expected(layer)[2:], terms(layer))


@pytest.mark.parametrize(
    ("verb", "x", "args"),
    [
        ("max_pool", np.zeros((1, 1, 4, 4)), (2, 1, ((0, 1), (0, 1)), 1)),
        ("max_pool", np.zeros((1, 1, 4)), (3, 1, 2, 1)),
        ("max_pool", np.zeros((1, 1, 4, 4), np.int32), (2, 2, 0, 1)),
        ("max_pool", np.zeros((1, 1, 4, 4, 4)), (2, 2, 0, 1)),
        ("avg_pool", np.zeros((1, 1, 4)), (2, 2, 0, 1)),
    ],
    ids=[
        "padded on the right", "padded by most of a kernel", "integers", "indices into volumes",
        "averages of signals",
    ],
)  # fmt: skip
def test_torch_declines(torch, verb, x, args):
    from xpcnn.engines import torch as engine

    window = pool_window("pool", x.ndim - 2, x.shape, *args)
    rest = {"max_pool": (True,), "avg_pool": (2,)}[verb]
    assert getattr(engine, verb)(torch.from_numpy(x), window, *rest) is NotImplemented


# ---- what JAX's primitives would get wrong ------------------------------------------------------


@pytest.mark.parametrize("n", [0, 2])
def test_windows_that_crop_on_jax(jax, n):
    """A part of a window's outputs reads from the middle, as if the padding were negative."""
    from xpcnn.engines import jax as engine

    window = Window((5, 6), (3, 2), (2, 1), (1, 2), ((-1, 1), (1, 0)), (2, 5), 2)
    rng = np.random.default_rng(0)
    x, w, dy, b = (
        jax.numpy.asarray(rng.integers(-4, 5, shape).astype(float))
        for shape in ((n, 4, 5, 6), (4, 2, 3, 2), (n, 4, 2, 5), (4,))
    )
    _, index = generic.max_pool(x, window, True)
    for verb, args in (
        ("conv", (x, w, window, b)),
        ("conv_dx", (dy, w, window)),
        ("conv_dw", (x, dy, window)),
        ("max_pool", (x, window)),
        ("max_pool", (x, window, True)),
        ("max_pool_dx", (dy, index, window)),
        ("avg_pool", (x, window, 4)),
        ("avg_pool_dx", (dy, window, 4)),
    ):
        ours, theirs = getattr(engine, verb)(*args), getattr(generic, verb)(*args)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_ties_and_nan_on_jax(jax):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (2, 2, 7, 7)).astype(float)
    for value in SPECIAL:
        x[rng.random(x.shape) < 0.2] = value
    y, indices = naive.max_pool(x, 3, 2, 1)
    given_array = jax.numpy.asarray(x)
    np.testing.assert_array_equal(ops.max_pool2d(given_array, 3, 2, 1), y)
    found = ops.max_pool2d(given_array, 3, 2, 1, return_indices=True)
    np.testing.assert_array_equal(found[1], indices)


def test_integers_on_jax(jax):
    x = np.random.default_rng(0).integers(-128, 128, (2, 2, 7, 7)).astype(np.int8)
    y, _ = naive.max_pool(x, 3, 2, 1)
    ours = ops.max_pool2d(jax.numpy.asarray(x), 3, 2, 1)
    assert ours.dtype == np.int8
    np.testing.assert_array_equal(ours, y)
