"""Convolution and its transpose: every engine against the definition, and against its adjoints."""

from __future__ import annotations

import tracemalloc

import naive
import numpy as np
import pytest
from checks import ops_of_rank, vjp_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, convolutions, geometries, left_over, view

import xpcnn
from xpcnn import ops


def definition(c):
    """y, dx, dw, db of a drawn convolution."""
    dx = naive.conv_dx(c.dy, c.w, c.window.size, *c.args)
    dw = naive.conv_dw(c.x, c.dy, c.window.kernel, *c.args)
    db = c.dy.sum((0, *range(2, c.dy.ndim)))
    return naive.conv(c.x, c.w, c.b, *c.args), (dx, dw, None if c.b is None else db)


def assert_all_close(actual, expected, terms):
    (y, grads), (naive_y, naive_grads) = actual, expected
    naive.assert_close(y, naive_y, terms)
    for grad, naive_grad in zip(grads, naive_grads, strict=True):
        if naive_grad is not None:
            naive.assert_close(grad, naive_grad, terms)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
def test_conv_is_the_definition(engine, dtype, data):
    c = data.draw(convolutions(dtype=dtype))
    with xpcnn.use(engine):
        actual = vjp_of(ops_of_rank("conv", c.window.ndim), [c.x, c.w, c.b], c.dy, *c.args)
    assert_all_close(actual, definition(c), c.terms)


@given(c=convolutions())
def test_conv_and_its_gradients_are_adjoint(engine, c):
    """<conv(x, w), dy> = <x, dx> = <w, dw>: whole numbers, so equal without any tolerance."""
    with xpcnn.use(engine):
        op = ops_of_rank("conv", c.window.ndim)
        y, (dx, dw, _) = vjp_of(op, [c.x, c.w, None], c.dy, *c.args)
    assert np.sum(y * c.dy) == np.sum(c.x * dx) == np.sum(c.w * dw)


@given(data=st.data())
def test_conv_transpose_is_the_definition(engine, data):
    """The window of a convolution, read from its output to its input; no output_padding here."""
    g = data.draw(geometries().filter(lambda g: left_over(g) == [0] * g.ndim))
    around = naive.pads(
        g.padding, g.size, g.kernel, naive.each(g.stride, g.ndim), naive.each(g.dilation, g.ndim)
    )
    groups, n, c, o = (data.draw(st.integers(low, 2)) for low in (1, 0, 1, 1))
    x = data.draw(arrays((n, c * groups, *g.out)))
    w = data.draw(arrays((c * groups, o, *g.kernel)))
    b = data.draw(st.one_of(st.none(), arrays((o * groups,))))
    args = (g.stride, around, 0, groups, g.dilation)
    y = naive.conv_transpose(x, w, b, *args)
    dy = data.draw(arrays(y.shape))
    dx = naive.conv(dy, w, None, g.stride, around, g.dilation, groups)
    dw = naive.conv_dw(dy, x, g.kernel, g.stride, around, g.dilation, groups)
    db = None if b is None else dy.sum((0, *range(2, dy.ndim)))
    with xpcnn.use(engine):
        actual = vjp_of(ops_of_rank("conv_transpose", g.ndim), [x, w, b], dy, *args)
    assert_all_close(actual, (y, (dx, dw, db)), max(x.size, dy.size))


@given(c=convolutions())
def test_conv_is_torchs(torch, c):
    """Where PyTorch has the padding: float64 autograd, on pads written out."""
    ndim = c.window.ndim
    stride, dilation = naive.each(c.window.stride, ndim), naive.each(c.window.dilation, ndim)
    around = naive.pads(c.window.padding, c.window.size, c.window.kernel, stride, dilation)
    given_arrays = [None if a is None else torch.tensor(a.copy()) for a in (c.x, c.w, c.b)]
    x, w, b = (None if t is None else t.requires_grad_() for t in given_arrays)
    padded = torch.nn.functional.pad(x, [n for pair in reversed(around) for n in pair])
    conv = getattr(torch.nn.functional, f"conv{ndim}d")
    y = conv(padded, w, b, stride, 0, dilation, c.groups)
    y.backward(torch.tensor(c.dy.copy()))
    theirs = (y.detach().numpy(), [None if t is None else t.grad.numpy() for t in (x, w, b)])
    ours = vjp_of(ops_of_rank("conv", ndim), [c.x, c.w, c.b], c.dy, *c.args)
    assert_all_close(ours, theirs, c.terms)


X, W, B = (3, 4, 7, 6), (6, 2, 3, 2), (6,)
OPTIONS = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "groups": 2}


def normal(*shapes, dtype=np.float64):
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(engine, layout):
    x, w, b, dy = (view(a, layout) for a in normal(X, W, B, (3, 6, 3, 7)))
    y = naive.conv(x, w, b, **OPTIONS)
    grads = naive.gradients(lambda *a: naive.conv(*a, **OPTIONS), (x, w, b), dy)
    with xpcnn.use(engine):
        actual = vjp_of(ops.conv2d, [x, w, b], dy, **OPTIONS)
    assert_all_close(actual, (y, grads), x.size)


def test_a_batch_of_zero(xp):
    x, w, b, dy = normal((0, 4, 7, 6), W, B, (0, 6, 3, 7))
    y, (dx, dw, db) = vjp_of(ops.conv2d, [x, w, b], dy, xp=xp, **OPTIONS)
    assert y.shape == (0, 6, 3, 7)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dw, np.zeros(W))
    np.testing.assert_array_equal(db, np.zeros(B))


@pytest.mark.parametrize("stride", [1, 2])
def test_nhwc_is_a_permuted_view(xp, stride):
    x, w, b = normal((2, 5, 6, 3), (4, 3, 3, 3), (4,))
    first = [np.moveaxis(x, -1, 1), w, b]
    y = naive.conv(*first, stride=stride, padding="same")
    (dy,) = normal(y.shape)
    grads = naive.gradients(lambda *a: naive.conv(*a, stride=stride, padding="same"), first, dy)
    last, (dx, dw, db) = vjp_of(
        ops.conv2d, [x, w, b], np.moveaxis(dy, 1, -1), stride, "same", layout="NHWC", xp=xp
    )
    naive.assert_close(last, np.moveaxis(y, 1, -1), x.size)
    naive.assert_close(dx, np.moveaxis(grads[0], 1, -1), x.size)
    naive.assert_close(dw, grads[1], x.size)
    naive.assert_close(db, grads[2], x.size)


def test_wrt_leaves_out_what_is_not_wanted(xp):
    x, w, b = (xp.asarray(a) for a in normal(X, W, B))
    y, pull = xpcnn.vjp(ops.conv2d, x, w, b, wrt=("w", "b"), **OPTIONS)
    dx, dw, db = pull(y)
    assert dx is None
    assert (tuple(dw.shape), tuple(db.shape)) == (W, B)


def test_half_precision_is_computed_in_float32_and_rounded_once(xp):
    """A sum of 4096 halves would stick at 1024 in float16."""
    if xp.name == "strict":
        pytest.skip("array-api-strict has no float16")
    x, w = np.full((1, 4096, 1, 1), 0.5, np.float16), np.ones((1, 4096, 1, 1), np.float16)
    y, (dx, dw, _) = vjp_of(ops.conv2d, [x, w, None], np.ones((1, 1, 1, 1), np.float16), xp=xp)
    assert y.item() == 2048.0
    np.testing.assert_array_equal(dx, w)
    np.testing.assert_array_equal(dw, x)


# ---- the NumPy engine's promises about memory --------------------------------------------------

SLACK = 128 * 1024
"""Bytes for NumPy's own buffers (8192 entries of three float32 operands) and Python's objects."""


def peak_beyond(results_of) -> int:
    """The most bytes held while results_of() ran, less those of the arrays it returned.

    Of several runs the least: imports, caches and collections of garbage only add to it.
    """
    return min(_peak_once(results_of) for _ in range(3))


def _peak_once(results_of) -> int:
    tracemalloc.start()
    try:
        results = results_of()
        return tracemalloc.get_traced_memory()[1] - sum(r.nbytes for r in results)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("workspace", [4096, 2**16])
@pytest.mark.parametrize(
    ("w_shape", "options"),
    [
        ((16, 16, 3, 3), {"padding": 1}),
        ((16, 16, 3, 3), {"stride": 2, "padding": "same"}),
        ((16, 4, 3, 3), {"padding": 1, "groups": 4}),
        ((16, 1, 3, 3), {"padding": 1, "groups": 16}),
        ((16, 16, 1, 1), {}),
        ((16, 16, 1, 1), {"stride": 2}),
        ((64, 16, 1, 1), {"stride": 2}),
        ((4, 16, 5, 5), {"dilation": 2}),
    ],
    ids=str,
)
def test_memory_stays_within_the_workspace(w_shape, options, workspace):
    """All columns at once would take up to 3 MB; allowed are workspace, weights and results."""
    x, w = normal((2, 16, 40, 40), w_shape, dtype=np.float32)
    y = ops.conv2d(x, w, **options)
    (dy,) = normal(y.shape, dtype=np.float32)
    _, pull = xpcnn.vjp(ops.conv2d, x, w, **options)
    expected = pull(dy)
    with xpcnn.use("numpy", workspace=workspace):
        allowed = workspace + 2 * w.nbytes + SLACK
        assert peak_beyond(lambda: [ops.conv2d(x, w, **options)]) < allowed
        for name, grad in (("x", expected[0]), ("w", expected[1])):
            _, pull_one = xpcnn.vjp(ops.conv2d, x, w, wrt=(name,), **options)
            number = "xw".index(name)
            assert peak_beyond(lambda p=pull_one, i=number: [p(dy)[i]]) < allowed
            naive.assert_close(pull_one(dy)[number], grad, y.size)
        naive.assert_close(ops.conv2d(x, w, **options), y, x.size)


WINOGRAD = [((33, 40, 3, 3), 1), ((40, 33, 3, 3), (0, 2)), ((33, 40, 5, 5), ((3, 1), (0, 2)))]


@pytest.mark.parametrize(("w_shape", "padding"), WINOGRAD, ids=str)
def test_winograd_is_the_definition_in_the_workspace_and_can_be_switched_off(w_shape, padding):
    """Sizes that tiles do not divide; float32's error grows a few times, and no further."""
    x, w = normal((3, w_shape[1], 19, 26), w_shape, dtype=np.float32)
    y = naive.conv(x.astype(np.float64), w.astype(np.float64), None, 1, padding)

    def error(workspace: int, winograd: bool) -> float:
        with xpcnn.use("numpy", workspace=workspace, winograd=winograd):
            beyond = peak_beyond(lambda: [ops.conv2d(x, w, None, 1, padding)])
            assert beyond < workspace + 2 * w.nbytes + SLACK
            return float(abs(ops.conv2d(x, w, None, 1, padding) - y).max())

    direct, winograd = error(2**22, False), error(2**22, True)
    assert winograd != direct
    assert winograd < 8 * direct
    assert error(2**16, True) < 2 * direct, "there is no room for the transformed weights"


def channels_last(a: np.ndarray) -> bool:
    return np.moveaxis(a, 1, -1).flags.c_contiguous


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 4}], ids=str)
def test_channels_last_memory_is_kept(options):
    x, w = normal((2, 8, 9, 10), (8, 8 // options.get("groups", 1), 3, 3))
    x = view(x, "channels last")
    with xpcnn.use("numpy"):
        y, pull = xpcnn.vjp(ops.conv2d, x, w, **options)
        dx = pull(view(normal(y.shape)[0], "channels last"))[0]
    assert channels_last(x) and channels_last(y) and channels_last(dx)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_do_not_read_it_stay_finite(engine, value):
    """Of a NaN or an infinity; with Winograd's algorithm, a whole tile would read it."""
    x, w = normal((2, 3, 12, 12), (4, 3, 3, 3), dtype=np.float32)
    x[0, 1, 5, 5] = value
    with xpcnn.use(engine, winograd=False), np.errstate(invalid="ignore"):
        y, pull = xpcnn.vjp(ops.conv2d, x, w, padding=1, wrt=("x",))
        dx = pull(np.where(np.isfinite(y), np.float32(1), np.float32(value)))[0]
    assert (~np.isfinite(y)).sum() == 4 * 9
    assert (~np.isfinite(dx)).sum() == 3 * 25


@pytest.mark.parametrize("padding", [((0, 0), (0, 1)), ((0, 2), (0, 0)), ((1, 0), (0, 0))])
def test_a_kernel_of_one_place_may_have_padding_on_one_side(engine, padding):
    x, w, b = normal((2, 3, 4, 5), (4, 3, 1, 1), (4,))
    x, options = view(x, "channels last"), {"padding": padding}
    with xpcnn.use("generic"):
        y, pull = xpcnn.vjp(ops.conv2d, x, w, b, **options)
        dy = view(normal(y.shape)[0], "channels last")
        expected = pull(dy)
    with xpcnn.use(engine):
        found, pull = xpcnn.vjp(ops.conv2d, x, w, b, **options)
        np.testing.assert_allclose(found, y, rtol=1e-12, atol=1e-12)
        for grad, expected_grad in zip(pull(dy), expected, strict=True):
            np.testing.assert_allclose(grad, expected_grad, rtol=1e-12, atol=1e-12)
