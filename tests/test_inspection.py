"""Layers' outputs, saliency, Grad-CAM and scores, against definitions by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpcnn
from xpcnn import models, ops, random
from xpcnn.inspection import (
    class_scores,
    confusion_matrix,
    features,
    grad_cam,
    most_confident_mistakes,
    saliency,
)
from xpcnn.inspection.activations import watched
from xpcnn.layers import (
    BatchNorm,
    Branches,
    Conv2d,
    Dropout,
    Flatten,
    Frozen,
    GlobalAvgPool,
    Graph,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    SeparableConv2d,
    Sequential,
    SqueezeExcitation,
    Tanh,
    tree,
)
from xpcnn.layers._walk import rebuilt
from xpcnn.layers.combinators import Combinator

KINDS = Sequential(
    Conv2d(4, 3, padding=1),
    BatchNorm(),
    ReLU(),
    Residual(Conv2d(4, 3, padding=1)),
    Frozen(Branches(Conv2d(2, 1), Sequential(Conv2d(3, 1), Tanh()), names=("narrow", "wide"))),
    SqueezeExcitation(2),
    SeparableConv2d(6, 3),
    Graph(
        ("norm", BatchNorm(), "input"),
        ("act", ReLU(), "norm"),
        ("sum", Dropout(0.9), ("sum", "act", "input")),
    ),
    GlobalAvgPool(),
    Linear(3),
)
NAMES = [
    "0", "1", "2", "3.body", "3.shortcut", "3", "4.narrow", "4.wide.0", "4.wide.1", "4",
    "5.squeeze", "5.fc1", "5.act", "5.fc2", "5.gate", "5.scaled", "6.depthwise", "6.pointwise",
    "7.norm", "7.act", "7.sum", "8", "9",
]  # fmt: skip
SHAPE = (2, 6, 7)


def drawn(model, shape=SHAPE, device="cpu", dtype="float64", seed=0):
    """Parameters, all of which, running statistics too, are drawn, positive where they must be."""
    params, _ = model.init(random.key(seed), shape, dtype=dtype)
    rng = np.random.default_rng(seed)
    noise = tree.map(lambda a: a + rng.uniform(0.1, 0.5, a.shape).astype(dtype), params)
    return tree.map(lambda a: xpcnn.device(device).asarray(a), noise)


def images(xp, n=2, shape=SHAPE, dtype="float64", seed=1):
    return xp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)).astype(dtype))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


def close(dtype):
    return {"rtol": 1e-9, "atol": 1e-12} if dtype == "float64" else {"rtol": 2e-4, "atol": 1e-5}


# ---- features -----------------------------------------------------------------------------------


def test_features_are_every_layers_output_by_name(xp, dtype):
    params, x = drawn(KINDS, device=xp.spec, dtype=dtype), images(xp, dtype=dtype)
    seen = features(KINDS, params, x)
    assert list(seen) == NAMES
    assert all(type(y) is type(x) and y.dtype == x.dtype for y in seen.values())
    logits = xp.to_numpy(KINDS(params, x))
    np.testing.assert_allclose(xp.to_numpy(seen["9"]), logits, **close(dtype))
    host = {name: xp.to_numpy(y) for name, y in seen.items()}
    np.testing.assert_array_equal(host["2"], np.maximum(host["1"], 0))
    np.testing.assert_allclose(host["3"], host["3.body"] + host["2"], **close(dtype))
    np.testing.assert_array_equal(
        host["4"], np.concatenate([host["4.narrow"], host["4.wide.1"]], axis=1)
    )
    gated = host["4"] * host["5.gate"]
    np.testing.assert_allclose(host["5.scaled"], gated, **close(dtype))


def test_a_batch_norm_is_seen_as_the_relu_after_it_is_given_it():
    model = Sequential(BatchNorm(), ReLU())
    assert model.run[0].bounds == (0.0, None)  # the two else run as one
    params, x = drawn(model), images(np)
    norm = ops.batch_norm(
        x, *(params["0"][n] for n in ("running_mean", "running_var", "weight", "bias"))
    )
    seen = features(model, params, x)
    np.testing.assert_allclose(seen["0"], norm, rtol=1e-12)
    np.testing.assert_allclose(seen["1"], np.maximum(norm, 0), rtol=1e-12)
    assert (norm < 0).any()


@pytest.mark.parametrize("name", ["convnet", "googlenet", "mobilenet", "squeezenet"])
def test_models_tell_all_the_layers_that_their_summaries_tell(name):
    """And of branches, what they merged."""
    model = models.MODELS[name](10)
    params, _ = model.init(random.key(0), (3, 32, 32))
    seen = features(model, params, np.zeros((0, 3, 32, 32), np.float32))
    rows = {row.name: row.out_shape for row in model.summary((3, 32, 32)).rows}
    assert list(rows) == [name for name in seen if name in rows]
    assert all(shape == seen[name].shape[1:] for name, shape in rows.items())
    merged = seen.keys() - rows.keys()
    assert all(any(row.startswith(f"{name}.") for row in rows) for name in merged)


def test_features_of_a_single_layer_have_no_name_and_of_no_images_their_shapes(xp):
    layer = Linear(3)
    params = drawn(layer, (4,), xp.spec)
    assert features(layer, params, images(xp, 2, (4,)))[""].shape == (2, 3)
    seen = features(KINDS, drawn(KINDS, device=xp.spec), images(xp, 0))
    assert list(seen) == NAMES and seen["9"].shape == (0, 3)


def test_features_change_nothing():
    params, x = drawn(KINDS), images(np)
    before = x.copy(), [array.copy() for array in tree.leaves(params)]
    features(KINDS, params, x), saliency(KINDS, params, x), grad_cam(KINDS, params, x)
    np.testing.assert_array_equal(x, before[0])
    for now, then in zip(tree.leaves(params), before[1], strict=True):
        np.testing.assert_array_equal(now, then)


# ---- saliency -----------------------------------------------------------------------------------

SMOOTH = Sequential(
    Conv2d(3, 3, padding=1), BatchNorm(), Tanh(), Dropout(0.9),
    Branches(Conv2d(2, 3), Conv2d(1, 3)), Tanh(), Flatten(), Linear(3),
)  # fmt: skip


def test_saliency_is_the_largest_finite_difference_of_a_pixels_channels(xp):
    shape, step = (2, 4, 4), 1e-6
    x, classes = images(xp, 3, shape), [2, 0, 1]
    found = saliency(SMOOTH, drawn(SMOOTH, shape, xp.spec), x, classes)
    params, host = drawn(SMOOTH, shape), xp.to_numpy(x)
    steps = step * np.eye(32).reshape(32, 1, *shape)
    up, down = (
        np.stack([SMOOTH(params, host + sign * one)[range(3), classes] for one in steps])
        for sign in (1, -1)
    )
    slopes = np.abs((up - down) / (2 * step)).T.reshape(3, *shape)
    np.testing.assert_allclose(xp.to_numpy(found), slopes.max(axis=1), rtol=1e-6, atol=1e-8)


def test_saliency_and_grad_cam_are_the_same_on_every_library(xp, dtype):
    params, x = drawn(KINDS, device=xp.spec, dtype=dtype), images(xp, dtype=dtype)
    for attribute in (saliency, grad_cam):
        found = attribute(KINDS, params, x, [0, 2])
        expected = attribute(KINDS, drawn(KINDS), images(np), [0, 2])
        assert type(found) is type(x) and found.dtype == x.dtype
        assert tuple(found.shape) == (2, 6, 7)
        np.testing.assert_allclose(xp.to_numpy(found), expected, **close(dtype))
        assert expected.min() >= 0 and expected.max() > 0


@pytest.mark.parametrize("attribute", [saliency, grad_cam])
def test_an_image_is_seen_as_in_inference_whatever_the_batch(attribute):
    """In training the others would change its statistics, and dropout its numbers."""
    params, x = drawn(KINDS), images(np, 3)
    whole = attribute(KINDS, params, x)
    alone = np.concatenate([attribute(KINDS, params, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(whole, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attribute", [saliency, grad_cam])
def test_by_default_the_class_is_the_predicted_one(xp, attribute):
    params, x = drawn(KINDS, device=xp.spec), images(xp)
    predicted = xp.to_numpy(KINDS(params, x)).argmax(axis=1)
    default, chosen = (
        xp.to_numpy(attribute(KINDS, params, x, classes))
        for classes in (None, xp.asarray(predicted))
    )
    np.testing.assert_array_equal(default, chosen)


@pytest.mark.parametrize("attribute", [saliency, grad_cam])
@pytest.mark.parametrize("classes", [None, []])
def test_no_images_have_no_maps(xp, attribute, classes):
    params = drawn(KINDS, device=xp.spec)
    assert tuple(attribute(KINDS, params, images(xp, 0), classes).shape) == (0, 6, 7)


@pytest.mark.parametrize("attribute", [saliency, grad_cam])
def test_half_precision_comes_back_as_it_is(attribute):
    params, x = drawn(KINDS, dtype="float16"), images(np, dtype="float16")
    found = attribute(KINDS, params, x, [0, 1])
    expected = attribute(KINDS, drawn(KINDS), images(np), [0, 1])
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.02 * expected.max())


def test_gradients_are_taken_within_jax_jit(jax, dtype):
    params, x = (
        drawn(KINDS, device="jax", dtype=dtype),
        jax.numpy.asarray(images(np, dtype=dtype)),
    )
    for attribute in (saliency, grad_cam):
        compiled = jax.jit(lambda params, x, f=attribute: f(KINDS, params, x))(params, x)
        np.testing.assert_allclose(compiled, attribute(KINDS, params, x), **close(dtype))


# ---- Grad-CAM -----------------------------------------------------------------------------------


def test_grad_cam_is_its_definition_on_a_net_of_two_layers(xp):
    """Of a product of averages with weights, a map's weight is its own, over the places."""
    model = Sequential(Conv2d(2, 1, bias=False), GlobalAvgPool(), Linear(2, bias=False))
    device = xpcnn.device(xp.spec)
    params = tree.unflatten({
        "0.weight": device.asarray([[[[1.0]]], [[[-2.0]]]], "float64"),
        "2.weight": device.asarray([[3.0, 1.0], [-1.0, 0.5]], "float64"),
    })  # fmt: skip
    x = xp.asarray(np.asarray([[[[1.0, -1.0], [0.5, 2.0]]]]))
    plane = np.asarray([[1.0, -1.0], [0.5, 2.0]])
    first = np.maximum((3.0 * plane + 1.0 * (-2.0 * plane)) / 4, 0)
    second = np.maximum((-1.0 * plane + 0.5 * (-2.0 * plane)) / 4, 0)
    for number, expected in enumerate((first, second)):
        found = xp.to_numpy(grad_cam(model, params, x, [number], layer="0"))
        np.testing.assert_allclose(found, expected[None], rtol=1e-12)


def test_grad_cam_averages_gradients_over_places_and_is_resized(xp):
    """The gradient at the pool's output, by hand: the rows of the linear layer, as maps."""
    model = Sequential(Conv2d(3, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(4))
    shape = (1, 6, 8)
    params, x = drawn(model, shape, xp.spec), images(xp, 3, shape)
    host = {name: xp.to_numpy(array) for name, array in tree.flatten(params).items()}
    maps = xp.to_numpy(features(model, params, x)["2"])
    classes = [3, 0, 2]
    weights = host["4.weight"][classes].reshape(3, 3, 3, 4).mean(axis=(2, 3), keepdims=True)
    small = np.maximum((weights * maps).sum(axis=1, keepdims=True), 0)
    expected = ops.interpolate(small, size=(6, 8), mode="bilinear")[:, 0]
    found = xp.to_numpy(grad_cam(model, params, x, classes))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "model, last",
    [
        (KINDS, "7.sum"),
        (Sequential(Branches(Conv2d(2, 3), Conv2d(3, 3)), GlobalAvgPool(), Linear(3)), "0"),
        (Sequential(Conv2d(2, 3), Conv2d(3, (4, 5)), Flatten(), Linear(3)), "0"),
    ],
)  # fmt: skip
def test_grad_cam_takes_the_last_layer_of_more_than_one_place(model, last):
    params, x = drawn(model), images(np)
    np.testing.assert_array_equal(
        grad_cam(model, params, x), grad_cam(model, params, x, layer=last)
    )


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("8", "9") and n[:2] != "5."])
def test_grad_cam_of_any_layer_weighs_its_outputs_by_their_gradients(name):
    """Against finite differences: a layer's output is a step along each channel's mean apart."""
    params, x, step = drawn(KINDS), images(np, 1), 1e-6
    outputs, gradients = {}, {}
    _, pull = watched(KINDS, outputs, gradients).vjp(params, x, wrt=("x",))
    pull(np.eye(3)[[1]])
    channels = outputs[name].shape[1]
    slopes = [
        (_nudged(name, c, step)(params, x) - _nudged(name, c, -step)(params, x))[0, 1] / (2 * step)
        for c in range(channels)
    ]
    np.testing.assert_allclose(gradients[name].sum(axis=(0, 2, 3)), slopes, rtol=1e-5, atol=1e-7)
    heat = np.einsum("c,chw->hw", slopes, outputs[name][0]) / outputs[name][0, 0].size
    expected = ops.interpolate(np.maximum(heat, 0)[None, None], size=(6, 7), mode="bilinear")
    found = grad_cam(KINDS, params, x, [1], name)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-6)


@dataclass(frozen=True, repr=False)
class _Nudged(Layer):
    """A step on all places of one channel of what `inner` makes."""

    inner: Layer
    channel: int
    step: float

    def __call__(self, params, x):
        y = self.inner(params, x).copy()
        y[:, self.channel] += self.step
        return y


def _nudged(name, channel, step):
    def change(own, layer, run):
        inner = run if isinstance(run, Combinator) else layer
        return _Nudged(inner, channel, step) if own == name else inner

    return rebuilt(change, KINDS)


# ---- errors -------------------------------------------------------------------------------------

DENSE = Sequential(Flatten(), Linear(3))
IMAGES = Sequential(Conv2d(3, 3))


@pytest.mark.parametrize("attribute", [saliency, grad_cam])
@pytest.mark.parametrize(
    "model, changed, kind, fault",
    [
        (KINDS, {"classes": [0, 3]}, ValueError, "classes must be from 0 to 2; one of them is 3"),
        (KINDS, {"classes": [-1, 0]}, ValueError, "classes must be from 0 to 2; one of them is -1"),
        (KINDS, {"classes": [0]}, ValueError, r"classes must be \(2,\); they are \(1,\)"),
        (KINDS, {"classes": 1}, ValueError, r"classes must be \(2,\); they are \(\)"),
        (KINDS, {"classes": [0.0, 1.0]}, TypeError, "classes must be integers, not float64"),
        (KINDS, {"x": np.ones(SHAPE)}, ValueError, r"x must be \(N, C, H, W\); x is \(2, 6, 7\)"),
        (KINDS, {"x": np.ones((1, *SHAPE), np.uint8)}, TypeError, "x must be floating, not uint8"),
        (IMAGES, {}, ValueError, r"must give logits \(N, K\); for each image it gives \(3, 4, 5\)"),
        ("a net", {}, TypeError, "model must be a layer, such as a classifier's model_"),
    ],
)  # fmt: skip
def test_what_fits_not_is_told_before_any_work(attribute, model, changed, kind, fault):
    class Untouched(dict):
        def get(self, *_):
            raise AssertionError("work was begun")

        __getitem__ = get

    given = {"x": np.ones((2, *SHAPE)), "classes": [0, 1]} | changed
    with pytest.raises(kind, match=f"^{attribute.__name__}: .*{fault}"):
        attribute(model, Untouched(), **given)


@pytest.mark.parametrize(
    "layer, fault",
    [
        ("7", "layer='7' is not there; the layers that give more than one place are 0, 1, 2, 3.bo"),
        ("8", r"layer='8' gives \(6,\) for each image; the layers that give more than one place"),
        ("5.gate", r"layer='5.gate' gives \(5, 1, 1\) for each image"),
    ],
)
def test_grad_cam_names_the_layers_there_are(layer, fault):
    with pytest.raises(ValueError, match=f"^grad_cam: {fault}"):
        grad_cam(KINDS, {}, images(np), layer=layer)


def test_grad_cam_needs_a_layer_of_places():
    with pytest.raises(ValueError, match=r"^grad_cam: no layer of the model gives .* needs one"):
        grad_cam(DENSE, drawn(DENSE), images(np))
    assert saliency(DENSE, drawn(DENSE), images(np)).shape == (2, 6, 7)


def test_features_say_what_is_no_layer():
    with pytest.raises(TypeError, match=r"^features: model must be a layer, .* is a Classifier"):
        features(xpcnn.Classifier(KINDS), {}, images(np))


# ---- scores -------------------------------------------------------------------------------------


def test_scores_are_counted_by_hand(xp):
    labels, said = np.asarray([0, 0, 0, 1, 1, 3]), np.asarray([0, 0, 1, 1, 0, 1])
    matrix = confusion_matrix(xp.asarray(labels), xp.asarray(said), 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    scores = class_scores(xp.asarray(matrix))
    np.testing.assert_allclose(scores.precision, [2 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(scores.recall, [2 / 3, 1 / 2, 0, 0])
    np.testing.assert_allclose(scores.f1, [2 / 3, 2 / 5, 0, 0])
    assert scores.support.tolist() == [3, 2, 0, 1]


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_scores_are_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, said = np.asarray(pairs).T
    matrix = confusion_matrix(labels, said, 5)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(labels, said, labels=range(5)))
    expected = metrics.precision_recall_fscore_support(
        labels, said, labels=range(5), zero_division=0
    )
    for mine, theirs in zip(class_scores(matrix), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_nothing_has_a_matrix_of_zeros():
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]
    assert class_scores(confusion_matrix([], [], 2)).f1.tolist() == [0.0, 0.0]


@given(seed=st.integers(0, 2**16), n=st.integers(0, 12), count=st.integers(1, 15))
def test_the_surest_mistakes_come_first(seed, n, count):
    rng = np.random.default_rng(seed)
    likely = rng.dirichlet(np.ones(3), n).round(1)  # with ties
    labels = rng.integers(0, 3, n)
    wrong = [i for i in range(n) if likely[i].argmax() != labels[i]]
    expected = sorted(wrong, key=lambda i: (-likely[i].max(), i))[:count]
    assert most_confident_mistakes(labels, likely, count).tolist() == expected


def test_mistakes_take_arrays_of_every_library(xp, dtype):
    likely = np.asarray([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]], dtype)
    found = most_confident_mistakes(xp.asarray(np.asarray([0, 1, 1])), xp.asarray(likely), 5)
    assert found.tolist() == [2, 1]


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: confusion_matrix([0], [0, 1], 2), ValueError,
         r"^confusion_matrix: predicted must be \(1,\); they are \(2,\)$"),
        (lambda: confusion_matrix([[0]], [0], 2), ValueError,
         r"^confusion_matrix: labels must be \(N,\); they are \(1, 1\)$"),
        (lambda: confusion_matrix([2], [0], 2), ValueError,
         "^confusion_matrix: labels must be from 0 to 1; one of them is 2$"),
        (lambda: confusion_matrix(["cat"], [0], 2), TypeError,
         "^confusion_matrix: labels must be integers, not <U3$"),
        (lambda: confusion_matrix([0], [0], 0), ValueError,
         "^confusion_matrix: classes=0; give an int of at least 1$"),
        (lambda: class_scores([[1, 2]]), ValueError,
         r"^class_scores: matrix must be \(K, K\), true by predicted; it is \(1, 2\)$"),
        (lambda: class_scores([[-1]]), ValueError,
         "^class_scores: matrix must hold counts; one is -1$"),
        (lambda: class_scores([[0.5]]), TypeError,
         "^class_scores: matrix must hold integers, not float64$"),
        (lambda: most_confident_mistakes([0], [0.5, 0.5], 1), ValueError,
         r"^most_confident_mistakes: probabilities must be \(N, K\); they are \(2,\)$"),
        (lambda: most_confident_mistakes([0], [[1, 0]], 1), TypeError,
         "^most_confident_mistakes: probabilities must be floating, not int64$"),
        (lambda: most_confident_mistakes([2], [[0.5, 0.5]], 1), ValueError,
         "^most_confident_mistakes: labels must be from 0 to 1; one of them is 2$"),
        (lambda: most_confident_mistakes([0], [[0.5, 0.5]], 0), ValueError,
         "^most_confident_mistakes: count=0; give an int of at least 1$"),
    ],
)  # fmt: skip
def test_bad_calls(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
