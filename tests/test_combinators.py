"""Layers made of layers: how names, gradients, keys, buffers and errors travel through them."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import naive
import numpy as np
import pytest
from layer_cases import read_only

import xpcnn
from xpcnn import layers as L
from xpcnn import optim, random, training
from xpcnn._xp import Array
from xpcnn.layers import tree
from xpcnn.layers.base import OpLayer, pull_last
from xpcnn.ops._op import op
from xpcnn.training.step import init_state

KEY = random.key(7)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


BODY = L.Sequential(
    L.Conv2d(3, 3, padding=1, bias=False), L.BatchNorm(), L.ReLU(), names=("conv", "norm", "act")
)
MODEL = L.Sequential(
    L.Residual(BODY),
    L.Branches(
        L.Conv2d(2, 1),
        BODY,
        L.Sequential(L.AvgPool2d(3, 1, 1), L.Dropout(0.3)),
        names=("point", "body", "pool"),
    ),
    L.MaxPool2d(2),
    L.Flatten(),
    L.Linear(4),
    names=("stem", "mixed", "pool", "flat", "head"),
)


@pytest.fixture
def params():
    return MODEL.init(KEY, (3, 6, 6), dtype="float64")[0]


# ---- names --------------------------------------------------------------------------------------


def test_names_are_dotted_paths_and_layers_without_parameters_have_none(params):
    assert list(tree.flatten(params)) == [
        "stem.body.conv.weight",
        *(f"stem.body.norm.{n}" for n in ("weight", "bias", "running_mean", "running_var")),
        "mixed.point.weight",
        "mixed.point.bias",
        "mixed.body.conv.weight",
        *(f"mixed.body.norm.{n}" for n in ("weight", "bias", "running_mean", "running_var")),
        "head.weight",
        "head.bias",
    ]
    _, pull = MODEL.vjp(params, numbers(2, 3, 6, 6), key=KEY)
    grads, _ = pull(numbers(2, 4))
    assert tree.flatten(grads).keys() == tree.flatten(params).keys()


def test_nothing_depends_on_the_order_of_a_dict(params):
    def backwards(node):
        return {k: backwards(node[k]) for k in reversed(node)} if isinstance(node, dict) else node

    x = numbers(2, 3, 6, 6)
    np.testing.assert_array_equal(MODEL(backwards(params), x), MODEL(params, x))
    one, other = (
        tree.flatten(MODEL.vjp(p, x, key=KEY)[1](numbers(2, 4))[0])
        for p in (params, backwards(params))
    )
    np.testing.assert_equal(one, other)


def test_layers_of_one_model_start_from_different_weights():
    layers = (L.Linear(4), L.Linear(4), L.Residual(L.Linear(4)), L.Branches(L.Linear(4)))
    params, _ = L.Sequential(*layers).init(KEY, (4,))
    drawn = [a.tobytes() for name, a in tree.flatten(params).items() if name.endswith("weight")]
    assert len(set(drawn)) == len(drawn) == 4


# ---- what they compute --------------------------------------------------------------------------


def test_sequential_is_the_chain(xp):
    first, second = L.Linear(3), L.Tanh()
    params, _ = L.Sequential(first, second).init(KEY, (4,), dtype="float64", device=xp.spec)
    x, dy = xp.asarray(numbers(2, 4)), xp.asarray(numbers(2, 3, seed=1))
    y, pull = L.Sequential(first, second).vjp(params, x)
    hidden, pull_first = first.vjp(params["0"], x)
    out, pull_second = second.vjp({}, hidden)
    np.testing.assert_array_equal(xp.to_numpy(y), xp.to_numpy(out))
    grads, dx = pull(dy)
    expected, expected_dx = pull_first(pull_second(dy)[1])
    np.testing.assert_array_equal(xp.to_numpy(dx), xp.to_numpy(expected_dx))
    for name, grad in expected.items():
        np.testing.assert_array_equal(xp.to_numpy(grads["0"][name]), xp.to_numpy(grad))


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_branches_join_and_their_gradients_add(xp, merge):
    one, other = L.Conv2d(2, 3, padding=1), L.Conv2d(2, 1)
    model = L.Branches(one, other, merge=merge)
    params, out_shape = model.init(KEY, (3, 4, 4), dtype="float64", device=xp.spec)
    x = xp.asarray(numbers(2, 3, 4, 4))
    parts = [xp.to_numpy(layer(params[n], x)) for n, layer in (("0", one), ("1", other))]
    expected = np.concatenate(parts, axis=1) if merge == "concat" else sum(parts)
    dy = numbers(2, *out_shape, seed=1)
    y, pull = model.vjp(params, x)
    np.testing.assert_array_equal(xp.to_numpy(y), expected)

    grads, dx = pull(xp.asarray(dy))
    shares = (dy[:, :2], dy[:, 2:]) if merge == "concat" else (dy, dy)
    total = 0.0
    for name, layer, share in zip("01", (one, other), shares, strict=True):
        part_grads, part_dx = layer.vjp(params[name], x)[1](xp.asarray(share))
        total = total + xp.to_numpy(part_dx)
        for key, grad in part_grads.items():
            naive.assert_close(xp.to_numpy(grads[name][key]), xp.to_numpy(grad), dy.size)
    naive.assert_close(xp.to_numpy(dx), total, dy.size)


def test_residual_adds_its_input(xp):
    body = L.Linear(4)
    params, _ = L.Residual(body).init(KEY, (4,), dtype="float64", device=xp.spec)
    x, dy = xp.asarray(numbers(3, 4)), xp.asarray(numbers(3, 4, seed=1))
    y, pull = L.Residual(body).vjp(params, x)
    inner, inner_pull = body.vjp(params["body"], x)
    np.testing.assert_array_equal(xp.to_numpy(y), xp.to_numpy(inner + x))
    np.testing.assert_array_equal(xp.to_numpy(pull(dy)[1]), xp.to_numpy(inner_pull(dy)[1] + dy))


def test_vjp_of_a_model_is_the_models_own(params):
    x, dy = numbers(2, 3, 6, 6), numbers(2, 4)
    y, pull = xpcnn.vjp(MODEL, params, x, key=KEY)
    expected, expected_pull = MODEL.vjp(params, x, key=KEY)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_equal(pull(dy), expected_pull(dy))
    grads, no_dx = xpcnn.vjp(MODEL, params, x, key=KEY, wrt=("params",))[1](dy)
    assert no_dx is None and grads.keys() == params.keys()


def test_a_pull_leaves_what_it_holds_alone(params):
    """Read-only parameters, images and gradients; the second answer is the first."""
    given = read_only(params), read_only(numbers(2, 3, 6, 6))
    y, pull = MODEL.vjp(*given, key=KEY)
    kept = y.copy()
    first, again = pull(read_only(numbers(2, 4))), pull(read_only(numbers(2, 4)))
    np.testing.assert_equal(first, again)
    np.testing.assert_array_equal(y, kept)


# ---- what is not asked is not computed ----------------------------------------------------------


@op
def watched(x: Array, w: Array) -> Array:
    """x * w, whose gradients say when they are computed."""
    return x * w


log = []


@watched.pullback
def _(x, w):
    def say(name, value):
        return lambda: log.append(name) or value

    return watched(x, w), lambda dy: (say("dx", dy * w), say("dw", np.asarray(np.sum(dy * x))))


@dataclass(frozen=True, repr=False)
class Watched(OpLayer):
    op = staticmethod(watched)
    weights = ("weight",)

    def parameters(self, in_shape):
        return {"weight": L.base.Parameter((), 2.0)}


@pytest.mark.parametrize(
    "model, computed",
    [
        (Watched(), ["dw"]),
        (L.Sequential(Watched(), L.ReLU()), ["dw"]),
        (L.Sequential(L.ReLU(), L.Identity(), Watched()), ["dw"]),
        (L.Sequential(L.Sequential(L.ReLU(), L.Sequential(Watched())), L.ReLU()), ["dw"]),
        (L.Sequential(L.Residual(Watched()), L.Linear(2)), ["dw"]),
        (L.Sequential(L.Branches(Watched(), Watched()), L.Linear(2)), ["dw", "dw"]),
        (L.Sequential(Watched(), Watched()), ["dx", "dw", "dw"]),
        (L.Sequential(L.Linear(3), Watched()), ["dx", "dw"]),
        (L.Sequential(L.BatchNorm(affine=False), Watched()), ["dx", "dw"]),
        (L.Sequential(L.Frozen(Watched()), L.Linear(2)), []),
        (L.Sequential(L.Frozen(Watched()), L.ReLU(), Watched()), ["dw"]),
        (L.Sequential(L.Linear(3), L.Frozen(Watched())), ["dx"]),
        (L.Frozen(L.Sequential(L.Linear(3), Watched())), []),
    ],
    ids=lambda value: repr(value) if isinstance(value, list) else "",
)
def test_training_computes_no_gradient_of_images_or_frozen_weights(model, computed):
    x = numbers(4, 3)
    params, out_shape = model.init(KEY, (3,), dtype="float64")
    log.clear()
    _, pull = model.vjp(params, x, wrt=("params",))
    assert log == []
    _, dx = pull(numbers(4, *out_shape))
    assert log == computed and dx is None

    log.clear()
    sgd, labels = optim.SGD(0.1), np.zeros(4, np.int64)
    training.train_step(model, sgd, params, init_state(model, sgd, params), x, labels)
    assert log == computed


def test_the_gradient_of_images_is_there_when_asked():
    model = L.Sequential(L.Frozen(Watched()), L.ReLU())
    params, _ = model.init(KEY, (3,), dtype="float64")
    log.clear()
    grads, dx = model.vjp(params, np.ones((1, 3)))[1](np.ones((1, 3)))
    assert log == ["dx"] and grads == {}
    np.testing.assert_array_equal(dx, [[2.0, 2.0, 2.0]])


# ---- buffers and frozen layers ------------------------------------------------------------------


def test_gradients_hold_the_next_running_statistics(xp):
    layer, x = L.BatchNorm(momentum=0.25), numbers(3, 2, 4, 5)
    before = {"weight": numbers(2), "bias": numbers(2), "running_mean": np.asarray([1.0, -1.0]),
              "running_var": np.asarray([2.0, 3.0])}  # fmt: skip
    params = {name: xp.asarray(a) for name, a in before.items()}
    y, pull = layer.vjp(params, xp.asarray(x))
    for dy in (x, 0.0 * x):  # whatever the gradient
        grads, _ = pull(xp.asarray(dy))
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
        naive.assert_close(
            xp.to_numpy(grads["running_mean"]), 0.75 * before["running_mean"] + 0.25 * mean, x.size
        )
        naive.assert_close(
            xp.to_numpy(grads["running_var"]), 0.75 * before["running_var"] + 0.25 * var, x.size
        )
    normal = (xp.to_numpy(y) - before["bias"][:, None, None]) / before["weight"][:, None, None]
    naive.assert_close(normal.mean((0, 2, 3)), np.zeros(2), x.size)
    inferred = xp.to_numpy(layer(params, xp.asarray(x)))
    root = np.sqrt(before["running_var"] + 1e-5)
    expected = (x - before["running_mean"][:, None, None]) * (before["weight"] / root)[
        :, None, None
    ]
    naive.assert_close(inferred, expected + before["bias"][:, None, None], x.size)


def test_the_step_assigns_buffers_and_optimizers_never_see_them(xp):
    model, sgd = L.Sequential(L.BatchNorm(), L.Linear(2)), optim.SGD(0.5, weight_decay=0.9)
    params, _ = model.init(KEY, (3,), dtype="float64", device=xp.spec)
    state = init_state(model, sgd, params)
    x, labels = xp.asarray(numbers(4, 3)), xp.asarray(np.asarray([0, 1, 1, 0]))
    grads, _ = model.vjp(params, x)[1](xp.asarray(np.zeros((4, 2))))
    step = training.train_step(model, sgd, params, state, x, labels)
    for name in tree.BUFFERS:
        np.testing.assert_array_equal(
            xp.to_numpy(step.params["0"][name]), xp.to_numpy(grads["0"][name])
        )
    assert tree.flatten(step.params).keys() == tree.flatten(params).keys()


def test_frozen_layers_infer_and_pass_gradients_through(xp):
    inner = L.Sequential(L.Conv2d(2, 3), L.BatchNorm(), L.Dropout(0.9))
    model = L.Sequential(L.Conv2d(3, 1), L.Frozen(inner), L.Flatten(), L.Linear(2))
    params, _ = model.init(KEY, (1, 4, 4), dtype="float64", device=xp.spec)
    x, dy = xp.asarray(numbers(3, 1, 4, 4)), xp.asarray(numbers(3, 2))
    y, pull = model.vjp(params, x)  # without a key: frozen dropout drops nothing
    np.testing.assert_array_equal(xp.to_numpy(y), xp.to_numpy(model(params, x)))
    grads, dx = pull(dy)
    assert grads.keys() == {"0", "3"} and np.any(xp.to_numpy(grads["0"]["weight"]))
    assert np.any(xp.to_numpy(dx))
    assert model.trainable(params).keys() == {"0", "3"}


@pytest.mark.parametrize(
    "optimizer", [optim.SGD(0.1, momentum=0.9, weight_decay=0.1), optim.Adam()]
)
def test_training_leaves_frozen_weights_as_they_were(optimizer):
    model = L.Sequential(L.Frozen(L.Sequential(L.Linear(3), L.BatchNorm())), L.Linear(2))
    params, _ = model.init(KEY, (4,))
    x, labels = numbers(5, 4).astype(np.float32), np.asarray([0, 1, 1, 0, 1])
    step = training.train_step(
        model, optimizer, params, init_state(model, optimizer, params), x, labels
    )
    for name, array in tree.flatten(params["0"]).items():
        assert tree.flatten(step.params["0"])[name] is array
    assert np.any(step.params["1"]["weight"] != params["1"]["weight"])


# ---- a BatchNorm and the clip after it ----------------------------------------------------------


def fused_and_not(act, **options):
    """A model whose `act` is run by the BatchNorm before it, and one where it is kept apart."""
    layers = L.Conv2d(8, 3, bias=False), L.BatchNorm(**options), act, L.Dropout(0.5)
    apart = L.Conv2d(8, 3, bias=False), L.Sequential(L.BatchNorm(**options)), act, L.Dropout(0.5)
    return L.Sequential(*layers), L.Sequential(*apart)


@pytest.mark.parametrize("act", [L.ReLU(), L.ReLU6()], ids=repr)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_norm_runs_the_clip_after_it_with_equal_results(xp, act, frozen, affine):
    model, apart = fused_and_not(act, affine=affine)
    params, _ = model.init(KEY, (3, 22, 22), device=xp.spec)
    norm = {name: 3.0 * a + 0.2 for name, a in params["1"].items()}
    x, dy = (xp.asarray(numbers(4, *s).astype("f")) for s in ((3, 22, 22), (8, 20, 20)))
    results = []
    for one, own in ((model, norm), (apart, {"0": norm})):
        tree_of = {"0": params["0"], "1": own}
        y, pull = (L.Frozen(one) if frozen else one).vjp(tree_of, x, key=KEY)
        grads, dx = pull(dy)
        flat = {n.replace("1.0.", "1."): a for n, a in tree.flatten(grads).items()}
        results.append([y, dx, one(tree_of, x), *(flat[name] for name in sorted(flat))])
    assert len(results[0]) == 3 + (not frozen) * (3 + 2 * affine)
    for ours, expected in zip(*results, strict=True):
        ours, expected = xp.to_numpy(ours), xp.to_numpy(expected)
        if xp.name == "numpy":
            np.testing.assert_array_equal(ours, expected)
        else:
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_model_stays_what_was_written_however_it_is_run():
    model, _ = fused_and_not(L.ReLU())
    before = repr(model), L.describe(model), model.layers, hash(model)
    params, _ = model.init(KEY, (3, 6, 6))
    model(params, np.ones((1, 3, 6, 6), np.float32))
    assert before == (repr(model), L.describe(model), model.layers, hash(model))
    assert model == fused_and_not(L.ReLU())[0] and "bounds" not in repr(model)


class _Leaky(L.ReLU):
    """A ReLU that is none."""

    def __call__(self, params, x):
        return 0.1 * x


class _Doubled(L.BatchNorm):
    """A BatchNorm that is none."""

    def __call__(self, params, x):
        return 2.0 * super().__call__(params, x)


@pytest.mark.parametrize(
    "layers, results",
    [
        ((L.BatchNorm(), L.ReLU()), [0.0, 0.0, 8.0]),
        ((L.BatchNorm(), L.ReLU6()), [0.0, 0.0, 6.0]),
        ((L.BatchNorm(), L.ReLU6(), L.ReLU()), [0.0, 0.0, 6.0]),
        ((L.BatchNorm(), L.BatchNorm(bounds=(0.0, None))), [0.0, 0.0, 8.0]),
        ((L.BatchNorm(bounds=(-1.0, 9.0)), L.ReLU()), [0.0, 0.0, 8.0]),
        ((L.BatchNorm(bounds=(-1.0, 2.0)), L.Identity()), [-1.0, 0.0, 2.0]),
        ((L.BatchNorm(bounds=[0, None]), L.Identity()), [0.0, 0.0, 8.0]),
        ((L.BatchNorm(), _Leaky()), [-0.8, 0.0, 0.8]),
        ((_Doubled(), L.ReLU6()), [0.0, 0.0, 6.0]),
        ((L.ReLU(), L.BatchNorm(), L.Tanh()), [0.0, 0.0, 1.0]),
    ],
    ids=repr,
)
def test_what_follows_what_is_done_as_written(layers, results):
    model, x = L.Sequential(*layers), np.asarray([[-8.0], [0.0], [8.0]])
    params, _ = model.init(KEY, (1,), dtype="float64")
    np.testing.assert_allclose(model(params, x)[:, 0], results, atol=1e-4)


@pytest.mark.parametrize("bounds", [None, (0.0, None), (-1.0, 2.0)])
def test_bounds_come_back_from_a_description(bounds):
    layer = L.BatchNorm(bounds=bounds)
    described = L.describe(layer)
    assert L.build(described) == layer
    del described["bounds"]  # as models of before bounds are described
    assert L.build(described) == L.BatchNorm()


def test_an_error_of_the_norm_that_clips_has_its_name():
    model, _ = fused_and_not(L.ReLU())
    params, _ = model.init(KEY, (3, 6, 6))
    params["1"] = {}
    with pytest.raises(ValueError, match=r"^layer 1: BatchNorm: params must hold running_mean"):
        model(params, np.ones((1, 3, 6, 6), np.float32))
    with pytest.raises(ValueError, match=r"^BatchNorm: bounds=\(1, 0\); give None or \(low, high"):
        L.BatchNorm(bounds=(1, 0))


# ---- keys ---------------------------------------------------------------------------------------


def mask_of(model, key, shape=(64, 64)):
    y, _ = model.vjp({}, np.ones(shape), key=key)
    return y != 0


def test_dropout_is_a_function_of_its_key(xp):
    x, dy = numbers(40, 50), numbers(40, 50, seed=1)
    layer = L.Dropout(0.25)
    y, pull = layer.vjp({}, xp.asarray(x), key=KEY)
    again, _ = layer.vjp({}, xp.asarray(x), key=KEY)
    y, again = xp.to_numpy(y), xp.to_numpy(again)
    kept = y != 0
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(y, np.where(kept, x * (1 / 0.75), 0.0))
    grads, dx = pull(xp.asarray(dy))
    assert grads == {}
    np.testing.assert_array_equal(xp.to_numpy(dx), np.where(kept, dy * (1 / 0.75), 0.0))
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    assert layer({}, x) is x


def test_each_dropout_of_a_model_has_a_mask_of_its_own():
    first = mask_of(L.Sequential(L.Dropout(), L.Identity()), KEY)
    second = mask_of(L.Sequential(L.Identity(), L.Dropout()), KEY)
    both = mask_of(L.Sequential(L.Dropout(), L.Dropout()), KEY)
    np.testing.assert_array_equal(both, first & second)
    assert np.any(first != second)
    sides = mask_of(L.Branches(L.Dropout(), L.Dropout()), KEY)
    assert np.any(sides[:, :64] != sides[:, 64:])
    assert np.any(mask_of(L.Dropout(), KEY) != mask_of(L.Dropout(), random.fold_in(KEY, 1)))


def test_no_key_is_needed_where_nothing_is_dropped():
    x = numbers(2, 3)
    y, pull = L.Sequential(L.Dropout(0.0), L.Identity()).vjp({}, x)
    assert y is x and pull(x)[1] is x
    y, _ = L.Dropout(1.0).vjp({}, x, key=KEY)
    np.testing.assert_array_equal(y, np.zeros((2, 3)))


# ---- errors -------------------------------------------------------------------------------------


NESTED = L.Sequential(
    L.Sequential(L.Conv2d(4, 3), L.BatchNorm(), L.Dropout()), L.Flatten(), L.Linear(2),
    names=("features", "flat", "head"),
)  # fmt: skip


def called(x, dtype="float32"):
    return lambda: NESTED(NESTED.init(KEY, (3, 5, 5), dtype=dtype)[0], x)


@pytest.mark.parametrize(
    "call, kind, beginning",
    [
        (
            called(np.zeros((2, 4, 5, 5), np.float32)),
            ValueError,
            "layer features.0: conv2d: w (O=4, C/G=3, KH=3, KW=3) needs x with 3 channels",
        ),
        (called(np.zeros((2, 3, 7, 7), np.float32)), ValueError, "layer head: linear: w "),
        (
            called(np.zeros((2, 3, 5, 5), np.float32), "float64"),
            TypeError,
            "layer features.0: conv2d: x is float32 and w is float64; ",
        ),
        (
            called(np.zeros((2, 3, 5, 5), np.uint8)),
            TypeError,
            "layer features.0: conv2d: x must be floating, not uint8; ",
        ),
        (
            lambda: L.Sequential(
                L.Branches(L.Sequential(L.ReLU(), L.Conv2d(4, 9))), names=("mixed",)
            ).init(KEY, (3, 5, 5)),
            ValueError,
            "layer mixed.0.1: conv2d: along H a kernel of 9 ",
        ),
    ],
)
def test_errors_of_operations_say_in_which_layer(call, kind, beginning):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value).startswith(beginning)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (
            lambda: NESTED.vjp(NESTED.init(KEY, (3, 5, 5))[0], np.zeros((2, 3, 5, 5), np.float32)),
            ValueError,
            "layer features.2: Dropout: training needs a key; call "
            "vjp(..., key=xpcnn.random.key(0))",
        ),
        (
            lambda: NESTED.init(KEY, (5, 5)),
            ValueError,
            "layer features.0: Conv2d: in_shape must be (C, H, W), without a batch axis; it is "
            "(5, 5)",
        ),
        (
            lambda: L.Sequential(L.Residual(L.Conv2d(4, 3))).init(KEY, (3, 5, 5)),
            ValueError,
            "layer 0: Residual: branches must agree in shape to sum; they give "
            "[(4, 3, 3), (3, 5, 5)]",
        ),
        (
            lambda: L.Branches(L.Conv2d(4, 3), L.ReLU()).init(KEY, (3, 5, 5)),
            ValueError,
            "Branches: branches must agree in all but channels to concat; they give "
            "[(4, 3, 3), (3, 5, 5)]",
        ),
        (
            lambda: L.Linear(2).init(KEY, (3,), dtype="int32"),
            ValueError,
            "init: dtype='int32'; choose one of float16, float32, float64",
        ),
        (
            lambda: L.Linear(2).init(KEY, ()),
            ValueError,
            "Linear: in_shape must be (in,), without a batch axis; it is ()",
        ),
        (
            lambda: L.Sequential(L.ReLU(), 3),
            TypeError,
            "Sequential: 3 is no layer; pass layers of xpcnn.layers",
        ),
        (
            lambda: L.Frozen("ReLU"),
            TypeError,
            "Frozen: 'ReLU' is no layer; pass layers of xpcnn.layers",
        ),
        (
            lambda: L.Sequential(L.ReLU(), L.ReLU(), names=("a", "a")),
            ValueError,
            "Sequential: 2 layers need as many different names; names=('a', 'a')",
        ),
        (
            lambda: L.Sequential(L.ReLU(), names=("a.b",)),
            ValueError,
            "Sequential: names=('a.b',) must be strings, not empty, without a dot",
        ),
        (
            lambda: L.Sequential(L.ReLU(), names=(1,)),
            ValueError,
            "Sequential: names=(1,) must be strings, not empty, without a dot",
        ),
        (
            lambda: L.Residual(L.ReLU(), L.ReLU(), L.ReLU()),
            ValueError,
            "Residual: takes a body and at most a shortcut, not 3 layers; wrap several in "
            "Sequential",
        ),
        (
            lambda: L.Residual(L.ReLU(), merge="concat"),
            ValueError,
            "Residual: adds its shortcut; for merge='concat' use Branches",
        ),
        (
            lambda: L.Branches(L.ReLU(), merge="mean"),
            ValueError,
            "Branches: needs layers and merge='concat', 'sum' or 'product'; merge='mean' with 1 "
            "layers",
        ),
        (
            lambda: L.Branches(),
            ValueError,
            "Branches: needs layers and merge='concat', 'sum' or 'product'; merge='concat' with 0 "
            "layers",
        ),
        (
            lambda: L.Layer().init(KEY, (3,)),
            TypeError,
            "Layer is no layer by itself; use one of its subclasses",
        ),
    ],
)
def test_errors_of_layers(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value) == message


def test_parameters_of_another_library_are_named():
    strict = pytest.importorskip("array_api_strict")
    params, _ = NESTED.init(KEY, (3, 5, 5))
    with pytest.raises(TypeError, match=r"^layer features\.0: conv2d: x is a strict array on .* w"):
        NESTED(params, strict.zeros((1, 3, 5, 5), dtype=strict.float32))


# ---- the last pull ------------------------------------------------------------------------------


def test_the_last_pull_gives_the_same_and_can_not_be_called_again(params):
    _, pull = MODEL.vjp(params, numbers(2, 3, 6, 6), key=KEY)
    dy = numbers(2, 4)
    (grads, dx), (last_grads, last_dx) = pull(dy), pull_last(pull, dy)
    np.testing.assert_array_equal(dx, last_dx)
    for name, grad in tree.flatten(grads).items():
        np.testing.assert_array_equal(grad, tree.flatten(last_grads)[name])
    with pytest.raises(RuntimeError, match="let go what it held"):
        pull(dy)


class Held(L.Layer):
    """The identity; its pulls say how many pulls of all such layers are still held."""

    def vjp(self, params, x, *, key=None, wrt=None):
        def pull(dy):
            seen.append(len(held))
            return {}, dy

        held.add(pull)
        return x, pull


held, seen = weakref.WeakSet(), []


def test_the_last_pull_lets_go_of_what_was_used():
    model = L.Sequential(Held(), L.Residual(L.Sequential(Held(), Held())), Held())
    _, pull = model.vjp({}, np.ones((1, 3)))
    pull(np.ones((1, 3)))
    pull_last(pull, np.ones((1, 3)))
    assert seen == [4, 4, 4, 4, 4, 3, 2, 1]
