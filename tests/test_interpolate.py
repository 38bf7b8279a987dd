"""Resampling: the definition, PyTorch's, its adjoint; and products of arrays that broadcast."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from checks import vjp_of
from elementwise import Case, by_cases, check_half, check_jax
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, view

import xpcnn
from xpcnn import ops
from xpcnn.ops.interpolate import LINEAR

FACTORS = st.one_of(
    st.integers(1, 3), st.sampled_from([0.5, 0.7, 1.1, 1.5, 2.3]), st.floats(0.34, 2.5)
)


@st.composite
def samplings(draw, dims=(1, 2, 3)):
    """The space of an image, and options that give it another size of at least 1."""
    n = draw(st.sampled_from(dims))
    largest = {1: 9, 2: 4, 3: 3}[n]
    space = draw(st.tuples(*[st.integers(3, largest)] * n))
    options = {"mode": draw(st.sampled_from(["nearest", LINEAR[n]]))}
    if options["mode"] != "nearest":
        options["align_corners"] = draw(st.booleans())
    one_or_each = [FACTORS, st.tuples(*[FACTORS] * n)]
    sizes = st.integers(1, largest + 3)
    if draw(st.booleans()):
        options["size"] = draw(st.one_of(sizes, st.tuples(*[sizes] * n)))
    else:
        options["scale_factor"] = draw(st.one_of(one_or_each))
    return space, options


@given(data=st.data())
def test_interpolation_is_the_definition(data):
    space, options = data.draw(samplings())
    x = data.draw(arrays((*data.draw(st.sampled_from([(0, 1), (1, 2), (2, 1)])), *space)))
    expected = naive.interpolate(x, **options)
    dy = np.random.default_rng(0).integers(-3, 4, expected.shape).astype(float)
    (expected_dx,) = naive.gradients(lambda x: naive.interpolate(x, **options), [x], dy)
    y, (dx,) = vjp_of(ops.interpolate, [x], dy, **options)
    if options["mode"] == "nearest":
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(dx, expected_dx)
    naive.assert_close(y, expected, x.size)
    naive.assert_close(dx, expected_dx, dy.size)
    naive.assert_close(np.sum(y * dy), np.sum(x * dx), dy.size)


@given(data=st.data())
def test_interpolation_is_torchs(torch, data):
    """Of float64, in which PyTorch's i*n/m is the exact one for such sizes."""
    space, options = data.draw(samplings())
    if "scale_factor" in options:  # its points are 1/factor apart, rounded: ties may go either way
        options["scale_factor"] = data.draw(st.sampled_from([2, 3, 0.5, 1.5, 2.5]))
    x = np.random.default_rng(1).standard_normal((2, 3, *space))
    twin = {"align_corners": None, **options} if options["mode"] == "nearest" else options
    theirs = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.interpolate(theirs, **twin)
    dy = np.random.default_rng(2).standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    y, (dx,) = vjp_of(ops.interpolate, [x], dy, **options)
    check = np.testing.assert_array_equal if twin is not options else naive.assert_close
    check(y, expected.detach().numpy())
    naive.assert_close(y, expected.detach().numpy())
    naive.assert_close(dx, theirs.grad.numpy(), dy.size)


def test_the_nearest_is_at_the_floor_of_exact_numbers(torch):
    """Where PyTorch rounds in float32, it takes the neighbour."""
    x = np.arange(2, dtype=np.float32).reshape(1, 1, 2)
    places = [i * 2 // 82 for i in range(82)]
    np.testing.assert_array_equal(ops.interpolate(x, 82)[0, 0], places)
    theirs = torch.nn.functional.interpolate(torch.tensor(x), 82)[0, 0].tolist()
    assert sum(a != b for a, b in zip(theirs, places, strict=True)) == 1
    wide = ops.interpolate(np.arange(49.0)[None, None], scale_factor=49)[0, 0]
    np.testing.assert_array_equal(wide, np.repeat(np.arange(49), 49))  # 49 * (1 / 49) < 1


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_factor_may_be_a_numpy_scalar(mode):
    """Its points are computed in double precision all the same."""
    x, factor = np.random.default_rng(0).standard_normal((1, 1, 999)), np.float32(2.3)
    expected = ops.interpolate(x, scale_factor=float(factor), mode=mode)
    np.testing.assert_array_equal(ops.interpolate(x, scale_factor=factor, mode=mode), expected)
    np.testing.assert_array_equal(ops.interpolate(x, scale_factor=[factor], mode=mode), expected)


@pytest.mark.parametrize("mode", ["linear", "bilinear", "trilinear", "nearest"])
def test_where_a_factor_leaves_a_size_pytorch_copies(torch, mode):
    """Of linear modes, and nearest of two axes; here the points lie 1/factor apart."""
    rank = {name: rank for rank, name in LINEAR.items()}.get(mode, 2)
    x = np.random.default_rng(0).standard_normal((1, 1, *(5,) * rank))
    theirs = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=1.1, mode=mode)
    np.testing.assert_array_equal(theirs.numpy(), x)
    ours = ops.interpolate(x, scale_factor=1.1, mode=mode)
    assert ours.shape == x.shape and not np.allclose(ours, x)
    naive.assert_close(ours, naive.interpolate(x, scale_factor=1.1, mode=mode), x.size)


def test_nearest_moves_what_is_no_number():
    x = np.asarray([[[np.nan, np.inf, -np.inf, 1.0]]])
    y = ops.interpolate(x, scale_factor=2)
    np.testing.assert_array_equal(y, np.repeat(x, 2, axis=2))


@given(layout=st.sampled_from(LAYOUTS), mode=st.sampled_from(["nearest", "bilinear"]))
def test_any_memory_layout(layout, mode):
    x = view(np.random.default_rng(0).standard_normal((2, 3, 4, 6)), layout)
    dy = view(np.random.default_rng(1).standard_normal((2, 3, 7, 3)), layout)
    y, (dx,) = vjp_of(ops.interpolate, [x], dy, (7, 3), mode=mode)
    straight, (straight_dx,) = vjp_of(ops.interpolate, [x.copy()], dy.copy(), (7, 3), mode=mode)
    naive.assert_close(y, straight)
    naive.assert_close(dx, straight_dx, dy.size)


def _case(id, shape, **options):
    x = np.random.default_rng(len(id)).standard_normal(shape)
    return Case(id, ops.interpolate, None, {"x": x}, options)


CASES = [
    _case("nearest", (2, 3, 4, 5), size=(3, 8)),
    _case("linear", (2, 3, 5), scale_factor=1.5, mode="linear"),
    _case("bilinear", (2, 3, 4, 5), size=(6, 3), mode="bilinear", align_corners=True),
]
GATES = [
    Case("gate", ops.multiply, None, dict(zip("xy", pair, strict=True)))
    for pair in [(np.full((2, 3, 20, 20), 3.3), np.linspace(1.0, 2.0, 6).reshape(2, 3, 1, 1))]
]


@by_cases([*CASES, *GATES])
def test_half_precision(xp, case):
    check_half(xp, case)


@by_cases(CASES[1:2])
def test_under_jit(jax, case):
    check_jax(jax, case)


def test_a_pull_holds_no_image():
    x = np.ones((1, 2, 4, 4))
    _, pull = xpcnn.vjp(ops.interpolate, x, 8)
    held = [cell.cell_contents for cell in pull.__closure__]
    assert not any(part is x for part in held)
    np.testing.assert_array_equal(pull(np.ones((1, 2, 8, 8)))[0], 4 * x)


# ---- products ---------------------------------------------------------------------------------


@given(data=st.data())
def test_products_are_numpys(torch, data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    shapes = [[data.draw(st.sampled_from([n, 1])) for n in shape] for _ in "xy"]
    x, y = (data.draw(arrays(tuple(shape))) for shape in shapes)
    dy = data.draw(arrays(np.broadcast_shapes(*shapes)))
    z, (dx, dy_of_y) = vjp_of(ops.multiply, [x, y], dy)
    np.testing.assert_array_equal(z, x * y)
    theirs = [torch.tensor(a.copy(), requires_grad=True) for a in (x, y)]
    (theirs[0] * theirs[1]).backward(torch.tensor(dy.copy()))
    for ours, tensor in zip((dx, dy_of_y), theirs, strict=True):
        np.testing.assert_array_equal(ours, tensor.grad.numpy())  # whole numbers: exact


# ---- errors -----------------------------------------------------------------------------------

X = np.ones((2, 3, 4, 5))
FACTOR = "give a number above 0, or one per axis (H, W)"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ops.interpolate(X), ValueError,
         "interpolate: size=None and scale_factor=None; give one of the two"),
        (lambda: ops.interpolate(X, 2, 2), ValueError,
         "interpolate: size=2 and scale_factor=2; give one of the two"),
        (lambda: ops.interpolate(X, 2, mode="cubic"), ValueError,
         "interpolate: mode='cubic'; give one of nearest, linear, bilinear, trilinear"),
        (lambda: ops.interpolate(X, 2, mode="linear"), ValueError,
         "interpolate: mode='linear' is not of x (2, 3, 4, 5); give 'nearest' or 'bilinear'"),
        (lambda: ops.interpolate(X, 2, align_corners=True), ValueError,
         "interpolate: align_corners needs a linear mode; mode is 'nearest'"),
        (lambda: ops.interpolate(X[0, 0], 2), ValueError,
         "interpolate: x must be (N, C, *space), of one to three spatial axes; x is (4, 5)"),
        (lambda: ops.interpolate(X[:, :, :0], 2), ValueError,
         "interpolate: x (N=2, C=3, H=0, W=5) is empty along H; only N may be 0"),
        (lambda: ops.interpolate(X, 0), ValueError,
         "interpolate: size=0; give an int of at least 1, or one per axis (H, W)"),
        (lambda: ops.interpolate(X, (2, 2, 2)), ValueError,
         "interpolate: size=(2, 2, 2); give an int of at least 1, or one per axis (H, W)"),
        (lambda: ops.interpolate(X, 2.0), TypeError,
         "interpolate: size=2.0; give an int of at least 1, or one per axis (H, W)"),
        (lambda: ops.interpolate(X, scale_factor=0), ValueError,
         f"interpolate: scale_factor=0; {FACTOR}"),
        (lambda: ops.interpolate(X, scale_factor=math.nan), ValueError,
         f"interpolate: scale_factor=nan; {FACTOR}"),
        (lambda: ops.interpolate(X, scale_factor=math.inf), ValueError,
         f"interpolate: scale_factor=inf; {FACTOR}"),
        (lambda: ops.interpolate(X, scale_factor=(2, 2, 2)), ValueError,
         f"interpolate: scale_factor=(2, 2, 2); {FACTOR}"),
        (lambda: ops.interpolate(X, scale_factor="2"), TypeError,
         f"interpolate: scale_factor='2'; {FACTOR}"),
        (lambda: ops.interpolate(X, scale_factor=True), TypeError,
         f"interpolate: scale_factor=True; {FACTOR}"),
        (lambda: ops.interpolate(X, scale_factor=0.2), ValueError,
         "interpolate: scale_factor=0.2 leaves nothing of x (2, 3, 4, 5)"),
        (lambda: ops.interpolate(X.astype(int), 2), TypeError,
         "interpolate: x must be floating, not int64; convert it, for example to float32"),
        (lambda: xpcnn.layers.Upsample(), ValueError,
         "Upsample: size=None and scale_factor=None; give one of the two"),
        (lambda: xpcnn.layers.Upsample(size="a"), TypeError,
         "Upsample: size='a'; give an int of at least 1, or one per axis (H, W)"),
        (lambda: xpcnn.layers.Upsample(0), ValueError,
         "Upsample: size=0; give an int of at least 1, or one per axis (H, W)"),
        (lambda: xpcnn.layers.Upsample((4, 0, 4)), ValueError,
         "Upsample: size=(4, 0, 4); give an int of at least 1, or one per axis (D, H, W)"),
        (lambda: xpcnn.layers.Upsample((4, 4), mode="linear"), ValueError,
         "Upsample: size=(4, 4); give an int of at least 1, or one per axis (W)"),
        (lambda: xpcnn.layers.Upsample(scale_factor=-1), ValueError,
         f"Upsample: scale_factor=-1; {FACTOR}"),
        (lambda: ops.multiply(X, X[0]), ValueError,
         "multiply: x (2, 3, 4, 5) and y (3, 4, 5) must agree in rank and in every size, save "
         "where one is 1"),
        (lambda: ops.multiply(X, X[:, :2]), ValueError,
         "multiply: x (2, 3, 4, 5) and y (2, 2, 4, 5) must agree in rank and in every size, save "
         "where one is 1"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value) == message
