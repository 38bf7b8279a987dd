"""Graph: any DAG against PyTorch's autograd and the combinators it generalises; what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import json
import weakref
from dataclasses import dataclass

import naive
import numpy as np
import pytest
import test_combinators as combinators
from hypothesis import given
from hypothesis import strategies as st

import xpcnn
from xpcnn import layers as L
from xpcnn import optim, random
from xpcnn.layers import tree
from xpcnn.layers.base import pull_last

KEY = random.key(11)
IMAGE = (3, 4, 3)
TERMS = 10_000
"""More than the longest sum in a drawn graph, several layers deep."""


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def names_of(source):
    return (source,) if isinstance(source, str) else source[1:]


def weights_of(model, in_shape):
    """Not as `init` draws them: a norm's differ too, and no product of many layers grows large."""
    params, _ = model.init(KEY, in_shape, dtype="float64")
    flat = tree.flatten(params)
    noise = {n: abs(numbers(*a.shape, seed=i)) for i, (n, a) in enumerate(flat.items())}
    moved = {name: 0.3 * array + 0.1 * noise[name] for name, array in flat.items()}
    return tree.unflatten(moved)


def part_of(params, name):
    return params.get(name, {})


# ---- any graph is what PyTorch differentiates ---------------------------------------------------

LAYERS = (
    L.Conv2d(3, 3, padding=1), L.Tanh(), L.BatchNorm(0.1), L.ReLU(), L.Identity(),
    L.MaxPool2d(3, 1, 1), L.AdaptiveAvgPool2d(1), L.Frozen(L.Conv2d(3, 1)),
)  # fmt: skip


@st.composite
def graphs(draw):
    """Up to six drawn nodes, and a last one that is fed whatever they leave over."""
    nodes, pooled = [], {"input": False}
    for number in range(draw(st.integers(1, 6))):
        how = draw(st.sampled_from(["of one", "of one", "sum", "concat", "product"]))
        first = draw(st.sampled_from(list(pooled))) if number else "input"
        alike = [n for n in pooled if how == "product" or pooled[n] == pooled[first]]
        others = draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2))
        source = first if how == "of one" else (how, first, *others)
        layer = draw(st.sampled_from(LAYERS[:: len(LAYERS) - 1] if how == "concat" else LAYERS))
        nodes.append((f"n{number}", layer, source))
        small = layer == L.AdaptiveAvgPool2d(1) or all(pooled[n] for n in names_of(source))
        pooled[f"n{number}"] = small
    used = {name for *_, source in nodes for name in names_of(source)}
    loose = [name for name, *_ in nodes if name not in used]
    nodes.append(("last", L.Tanh(), ("product", *loose) if len(loose) > 1 else loose[0]))
    return L.Graph(*nodes)


def run_by_torch(torch, model, weights, x, training):
    values = {"input": x}
    for (name, layer), source in zip(model.children, model.inputs, strict=True):
        parts = [values[n] for n in names_of(source)]
        how = "sum" if isinstance(source, str) else source[0]
        if how == "concat":
            joined = torch.cat(parts, 1)
        else:
            joined = functools.reduce(torch.add if how == "sum" else torch.mul, parts)
        values[name] = of_torch(torch, layer, part_of(weights, name), joined, training)
    return values["last"]


def of_torch(torch, layer, w, x, training):
    f = torch.nn.functional
    layer = getattr(layer, "inner", layer)
    if isinstance(layer, L.Conv2d):
        return f.conv2d(x, w["weight"], w["bias"], padding=layer.padding)
    if isinstance(layer, L.BatchNorm):
        running = [None if training else w[name].detach() for name in sorted(tree.BUFFERS)]
        return f.batch_norm(x, *running, w["weight"], w["bias"], training, eps=layer.eps)
    return {
        L.Tanh: torch.tanh, L.ReLU: torch.relu, L.Identity: lambda x: x,
        L.MaxPool2d: lambda x: f.max_pool2d(x, 3, 1, 1),
        L.AdaptiveAvgPool2d: lambda x: f.adaptive_avg_pool2d(x, 1),
    }[type(layer)](x)  # fmt: skip


@given(model=graphs())
def test_a_random_graph_is_what_torch_differentiates(torch, model):
    params, x = weights_of(model, IMAGE), numbers(3, *IMAGE)
    tensors = tree.map(lambda a: torch.tensor(a, requires_grad=True), params)
    given_x = torch.tensor(x, requires_grad=True)
    inferred = run_by_torch(torch, model, tensors, given_x, training=False)
    naive.assert_close(model(params, x), inferred.detach().numpy(), TERMS)

    expected = run_by_torch(torch, model, tensors, given_x, training=True)
    dy = numbers(*expected.shape, seed=1)
    expected.backward(torch.tensor(dy))
    y, pull = model.vjp(params, x, key=KEY)
    grads, dx = pull(dy)
    naive.assert_close(y, expected.detach().numpy(), TERMS)
    naive.assert_close(dx, given_x.grad.numpy(), TERMS)
    weights, buffers = tree.partition(grads)
    trained, running = tree.partition(model.trainable(params))
    assert tree.flatten(weights).keys() == tree.flatten(trained).keys()
    assert tree.flatten(buffers).keys() == tree.flatten(running).keys()
    for name, grad in tree.flatten(weights).items():
        naive.assert_close(grad, tree.flatten(tensors)[name].grad.numpy(), TERMS)


@given(model=graphs())
def test_what_is_asked_of_a_random_graph(model):
    """Twice the same, with nothing written, in parts, and for the last time."""
    params = combinators.read_only(weights_of(model, IMAGE))
    x = combinators.read_only(numbers(3, *IMAGE))
    y, pull = model.vjp(params, x)
    dy = combinators.read_only(numbers(*y.shape, seed=1))
    (grads, dx), again = pull(dy), pull(dy)
    np.testing.assert_equal(again, (grads, dx))
    np.testing.assert_equal(pull_last(pull, dy), (grads, dx))
    alone, no_dx = model.vjp(params, x, wrt=("params",))[1](dy)
    assert no_dx is None
    np.testing.assert_equal(alone, grads)
    inferred, pull_x = model.vjp(params, x, wrt=("x",))
    np.testing.assert_array_equal(inferred, model(params, x))
    assert pull_x(dy)[0] == {} and pull_x(dy)[1].shape == x.shape
    assert model.vjp(params, x, wrt=())[1](dy) == ({}, None)


@given(model=graphs())
def test_a_random_graph_is_data(model):
    assert L.build(json.loads(json.dumps(L.describe(model)))) == model
    assert dataclasses.replace(model, layers=list(model.layers)) == model


# ---- what other combinators compute -------------------------------------------------------------


def chain(*layers):
    """The graph that is a Sequential."""
    names = [str(number) for number in range(len(layers))]
    return L.Graph(layers=layers, inputs=("input", *names[:-1]))


BODY = (L.Conv2d(3, 3, padding=1, bias=False), L.BatchNorm(), L.ReLU(), L.Dropout(0.3), L.Tanh())
SIDES = L.Sequential(*BODY), L.Conv2d(3, 1)
DOWN = L.Identity()
PAIRS = {
    "Sequential": (L.Sequential(*BODY), chain(*BODY)),
    "Residual": (
        L.Residual(SIDES[0]),
        L.Graph(("body", SIDES[0], "input"), ("sum", DOWN, ("sum", "body", "input"))),
    ),
    **{
        merge: (
            L.Branches(*SIDES, merge=merge),
            L.Graph(("0", SIDES[0], "input"), ("1", SIDES[1], "input"),
                    ("2", DOWN, (merge, "0", "1"))),
        )
        for merge in ("concat", "sum", "product")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_graph_is_the_combinator_of_the_same_network(xp, name):
    """To the bit, weights, dropout and running statistics among them."""
    results = []
    for model in PAIRS[name]:
        params, out_shape = model.init(KEY, IMAGE, dtype="float64", device=xp.spec)
        x, dy = (xp.asarray(numbers(3, *shape)) for shape in (IMAGE, out_shape))
        y, pull = model.vjp(params, x, key=KEY)
        grads, dx = pull(dy)
        flat = tree.flatten(params) | {f"d{n}": g for n, g in tree.flatten(grads).items()}
        results.append({"y": y, "dx": dx, "inferred": model(params, x), **flat})
    ours, expected = ({n: xp.to_numpy(a) for n, a in result.items()} for result in results)
    assert ours.keys() == expected.keys() and len(ours) == 3 + 2 * len(tree.flatten(params))
    for key, array in expected.items():
        np.testing.assert_array_equal(ours[key], array)


MODEL = L.Graph(
    ("conv", L.Conv2d(4, 3, padding=1, bias=False), "input"),
    ("norm", L.BatchNorm(), "conv"),
    ("act", L.ReLU(), "norm"),
    ("gate", L.Sequential(L.AdaptiveAvgPool2d(1), L.Conv2d(4, 1), L.Sigmoid()), "act"),
    ("scaled", L.Dropout(0.2), ("product", "act", "gate")),
    ("wide", L.Conv2d(3, 1), ("concat", "input", "scaled", "conv")),
    ("sum", L.Tanh(), ("sum", "wide", "input", "wide")),
    ("flat", L.Flatten(), "sum"),
    ("head", L.Linear(2), "flat"),
)


def results_of(params, x, dy):
    y, pull = MODEL.vjp(params, x, key=KEY)
    grads, dx = pull(dy)
    return {"y": y, "dx": dx, "inferred": MODEL(params, x), **tree.flatten(grads)}


def test_every_library_computes_the_same(xp):
    params = weights_of(MODEL, IMAGE)
    x, dy = numbers(5, *IMAGE), numbers(5, 2)
    expected = results_of(params, x, dy)
    ours = results_of(tree.map(xp.asarray, params), xp.asarray(x), xp.asarray(dy))
    assert ours.keys() == expected.keys()
    for key, array in expected.items():
        naive.assert_close(xp.to_numpy(ours[key]), array, 1000)


def test_under_jit(jax):
    arrays = jax.tree.map(jax.numpy.asarray, (weights_of(MODEL, IMAGE), numbers(5, *IMAGE)))
    dy = jax.numpy.asarray(numbers(5, 2))
    expected = results_of(*arrays, dy)
    for key, array in jax.jit(results_of)(*arrays, dy).items():
        naive.assert_close(array, expected[key], 1000)


def test_a_gate_of_averages_scales_channels(xp):
    model, x = L.SqueezeExcitation(2), numbers(2, 4, 3, 5)
    w = tree.flatten(weights_of(model, (4, 3, 5)))
    squeezed = x.mean((2, 3)) @ w["fc1.weight"][:, :, 0, 0].T + w["fc1.bias"]
    opened = np.maximum(squeezed, 0) @ w["fc2.weight"][:, :, 0, 0].T + w["fc2.bias"]
    expected = x / (1 + np.exp(-opened))[:, :, None, None]
    params = tree.unflatten({name: xp.asarray(array) for name, array in w.items()})
    naive.assert_close(xp.to_numpy(model(params, xp.asarray(x))), expected, x.size)


def test_a_block_is_made_once_for_each_number_of_channels():
    made = []

    class Noted(L.SqueezeExcitation):
        def inside(self, channels):
            made.append((self.ratio, channels))
            return super().inside(channels)

    for _ in range(3):
        for ratio, channels in [(2, 4), (2, 8), (4, 4)]:
            model, x = Noted(ratio), numbers(2, channels, 3, 5)
            params = weights_of(model, x.shape[1:])
            expected = L.SqueezeExcitation(ratio)(params, x)
            np.testing.assert_array_equal(model(params, x), expected)
            np.testing.assert_array_equal(model.vjp(params, x)[0], expected)
    assert made == [(2, 4), (2, 8), (4, 4)]


def test_parameters_have_the_nodes_names():
    planned, out_shape = MODEL.plan(IMAGE)
    assert out_shape == (2,)
    assert list(tree.flatten(planned)) == [
        "conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "gate.1.weight", "gate.1.bias", "wide.weight", "wide.bias", "head.weight", "head.bias",
    ]  # fmt: skip


def test_each_dropout_of_a_graph_has_a_mask_of_its_own():
    model = L.Graph(
        ("a", L.Dropout(), "input"), ("b", L.Dropout(), "input"),
        ("both", L.Identity(), ("concat", "a", "b")),
    )  # fmt: skip
    first, second = np.split(model.vjp({}, np.ones((40, 40)), key=KEY)[0], 2, axis=1)
    assert np.any(first != second)


def test_a_norm_runs_the_clip_that_it_feeds_alone():
    assert dict(zip(MODEL.names, MODEL.run, strict=True)) == {
        **dict(MODEL.children), "norm": L.BatchNorm(bounds=(0.0, None)), "act": L.Identity(),
    }  # fmt: skip
    shared = L.Graph(
        ("norm", L.BatchNorm(), "input"), ("act", L.ReLU(), "norm"),
        ("last", L.Identity(), ("sum", "act", "norm")),
    )  # fmt: skip
    assert shared.run == shared.layers
    x = numbers(5, 3)
    params, _ = shared.init(KEY, (3,), dtype="float64")
    normal = L.BatchNorm()(params["norm"], x)
    np.testing.assert_allclose(shared(params, x), normal + np.maximum(normal, 0))


@dataclass(frozen=True, repr=False)
class Wrapped(L.Layer):
    """A layer inside another that is none of xpcnn's."""

    inner: L.Layer

    def plan(self, in_shape):
        return self.inner.plan(in_shape)

    def __call__(self, params, x):
        return self.inner(params, x)

    def vjp(self, params, x, *, key=None, wrt=None):
        return self.inner.vjp(params, x, key=key, wrt=wrt)


def test_layers_may_be_replaced_by_what_wraps_them():
    wrapped = dataclasses.replace(MODEL, layers=[Wrapped(layer) for layer in MODEL.layers])
    params, x = weights_of(MODEL, IMAGE), numbers(5, *IMAGE)
    np.testing.assert_allclose(wrapped(params, x), MODEL(params, x), rtol=1e-12)
    np.testing.assert_allclose(
        wrapped.vjp(params, x, key=KEY)[0], MODEL.vjp(params, x, key=KEY)[0], rtol=1e-12
    )


def test_a_model_of_all_that_is_new_learns_and_comes_back_from_its_file(tmp_path):
    images = np.concatenate([numbers(24, 1, 6, 6), 2.0 + numbers(24, 1, 6, 6, seed=1)])
    labels = np.repeat([0, 1], 24)
    model = L.Sequential(
        L.SeparableConv2d(4, 3, padding=1),
        L.SqueezeExcitation(2),
        L.PoolUnpool(L.MaxPool2d(2), L.Conv2d(4, 1)),
        L.Upsample((7, 5), mode="bilinear"),
        L.Dropout2d(0.1),
        L.Branches(L.Conv2d(3, 1), L.Conv2d(1, 1), merge="product"),
        MODEL,
    )
    net = xpcnn.Classifier(model, optimizer=optim.Adam(0.01), batch_size=8, device="cpu", seed=0)
    images = images.astype("f")
    net.fit(images, labels, 5)
    assert net.score(images, labels) > 0.9
    net.save(tmp_path / "model.safetensors")
    loaded = xpcnn.load(tmp_path / "model.safetensors", device="cpu")
    assert loaded.model == model
    np.testing.assert_array_equal(loaded.predict_proba(images), net.predict_proba(images))


# ---- what is not asked is not computed, and what is used is let go ------------------------------

W = combinators.Watched


@pytest.mark.parametrize(
    ("nodes", "computed"),
    [
        ([("a", W(), "input"), ("b", L.ReLU(), "a")], ["dw"]),
        ([("a", W(), "input"), ("b", W(), "a")], ["dx", "dw", "dw"]),
        ([("a", L.ReLU(), "input"), ("b", W(), ("sum", "a", "input"))], ["dw"]),
        ([("a", L.Frozen(W()), "input"), ("b", W(), ("product", "a", "input"))], ["dw"]),
        ([("a", W(), "input"), ("b", L.Frozen(W()), "input"), ("c", W(), ("concat", "a", "b"))],
         ["dx", "dw", "dw"]),
        ([("a", W(), "input"), ("b", L.Frozen(W()), "a"), ("c", L.ReLU(), ("sum", "a", "b"))],
         ["dx", "dw"]),
        ([("a", L.Frozen(W()), "input"), ("b", L.ReLU(), ("sum", "a", "input"))], []),
    ],
)  # fmt: skip
def test_training_computes_no_gradient_that_nobody_asks(nodes, computed):
    model, x = L.Graph(*nodes), numbers(4, 3)
    params, out_shape = model.init(KEY, (3,), dtype="float64")
    combinators.log.clear()
    _, pull = model.vjp(params, x, wrt=("params",))
    _, dx = pull(numbers(4, *out_shape))
    assert combinators.log == computed and dx is None


def test_a_factor_without_a_gradient_takes_none(monkeypatch):
    """A gate on the images themselves: of the product, only the gate's gradient is asked."""
    seen = []
    rule = xpcnn.ops.multiply.vjp
    monkeypatch.setattr(
        xpcnn.ops.multiply, "vjp", lambda *a, wrt, **k: seen.append(wrt) or rule(*a, wrt=wrt, **k)
    )
    model = L.Graph(
        ("gate", L.Conv2d(3, 1), "input"), ("a", L.Tanh(), ("product", "input", "gate", "input"))
    )
    params, _ = model.init(KEY, IMAGE, dtype="float64")
    model.vjp(params, numbers(1, *IMAGE), wrt=("params",))
    model.vjp(params, numbers(1, *IMAGE))
    assert seen == [("y",), ("x",), ("x", "y"), ("x", "y")]


class Alive(L.Layer):
    """Adds 1; notes how many of the values that such layers made are still there."""

    def __call__(self, params, x):
        counts.append(len(made))
        y = x + 1.0
        made.append(y)
        return y


class Values(list):
    """Arrays, of which it holds but weak references."""

    def append(self, array):
        super().append(weakref.ref(array))

    def __len__(self):
        return sum(reference() is not None for reference in self)


made, counts = Values(), []


def test_inference_lets_values_go_with_their_last_use():
    a = Alive()
    chain_of_five = chain(a, a, a, a, a)
    chain_of_five({}, np.zeros((1, 3)))
    skip = L.Graph(
        ("a", a, "input"), ("b", a, "a"), ("c", a, "b"), ("d", a, ("sum", "c", "a")), ("e", a, "d")
    )
    assert counts == [0, 1, 1, 1, 1]
    counts.clear()
    made.clear()
    skip({}, np.zeros((1, 3)))
    assert counts == [0, 1, 2, 0, 1]  # the sum of c and a is no value of such a layer


def test_the_last_pull_lets_go_of_what_was_used(monkeypatch):
    monkeypatch.setattr(combinators, "seen", [])
    held = combinators.Held()
    model = L.Graph(
        ("a", held, "input"), ("b", L.Sequential(held, held), "a"), ("c", held, ("sum", "b", "a"))
    )
    _, pull = model.vjp({}, np.ones((1, 3)))
    pull(np.ones((1, 3)))
    pull_last(pull, np.ones((1, 3)))
    assert combinators.seen == [4, 4, 4, 4, 4, 3, 2, 1]
    with pytest.raises(RuntimeError, match="let go what it held"):
        pull(np.ones((1, 3)))


def test_a_frozen_beginning_is_not_held():
    held = combinators.Held()
    one = L.Sequential(L.Frozen(held), L.Linear(2))
    other = L.Graph(("a", L.Frozen(held), "input"), ("b", L.Linear(2), "a"))
    for model in (one, other):
        last, _ = model.children[1]
        params = {last: weights_of(L.Linear(2), (3,))}
        _, pull = model.vjp(params, np.ones((1, 3)), wrt=("params",))
        assert len(combinators.held) == 0
        assert pull(np.ones((1, 2)))[0].keys() == {last}


# ---- errors -------------------------------------------------------------------------------------

R = L.ReLU()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: L.Graph(), ValueError,
         "Graph: 0 layers with 0 sources; give at least one layer, and a source for each"),
        (lambda: L.Graph(layers=(R, R), inputs=("input",)), ValueError,
         "Graph: 2 layers with 1 sources; give at least one layer, and a source for each"),
        (lambda: L.Graph(("a", R)), TypeError,
         "Graph: ('a', ReLU()) is no node; give (name, layer, source)"),
        (lambda: L.Graph(R), TypeError,
         "Graph: ReLU() is no node; give (name, layer, source)"),
        (lambda: L.Graph(("a", "ReLU", "input")), TypeError,
         "Graph: 'ReLU' is no layer; pass layers of xpcnn.layers"),
        (lambda: L.Graph(("a", R, "input"), ("a", R, "a")), ValueError,
         "Graph: 2 layers need as many different names; names=('a', 'a')"),
        (lambda: L.Graph(("a.b", R, "input")), ValueError,
         "Graph: names=('a.b',) must be strings, not empty, without a dot"),
        (lambda: L.Graph(("input", R, "input")), ValueError,
         "Graph: 'input' is the graph's own input; give the node another name"),
        (lambda: L.Graph(("a", R, "b")), ValueError, "Graph: node a: there is no node 'b'"),
        (lambda: L.Graph(("a", R, "b"), ("b", R, "input"), ("c", R, "a")), ValueError,
         "Graph: node a stands before b, which feeds it; give nodes after those that feed them"),
        (lambda: L.Graph(("a", R, ("sum", "input", "c")), ("b", R, "a"), ("c", R, "b")),
         ValueError, "Graph: nodes feed each other in a cycle: a -> b -> c -> a"),
        (lambda: L.Graph(("a", R, "a")), ValueError,
         "Graph: nodes feed each other in a cycle: a -> a"),
        (lambda: L.Graph(("a", R, "input"), ("b", R, "input"), ("c", R, "a")), ValueError,
         "Graph: nothing uses node b, which is not the last; feed it to one, or leave it out"),
        *(
            (lambda source=source: L.Graph(("a", R, source)), ValueError,
             f"Graph: node a cannot be fed {source!r}; give a node's name, or several after one of "
             "concat, sum, product: ('sum', 'a', 'b')")
            for source in (3, None, (), ("input",), ("sum", "input"), ("mean", "input", "input"),
                           ("sum", "input", 3), ("sum", ("sum", "input", "input"), "input"))
        ),
        (lambda: L.Graph(("a", L.Conv2d(2, 1), "input"), ("b", R, ("sum", "a", "input")))
         .plan(IMAGE), ValueError,
         "layer b: Graph: the sources must agree in shape to sum; they give [(2, 4, 3), "
         "(3, 4, 3)]"),
        (lambda: L.Graph(("a", L.MaxPool2d(2), "input"), ("b", R, ("concat", "a", "input")))
         .plan(IMAGE), ValueError,
         "layer b: Graph: the sources must agree in all but channels to concat; they give "
         "[(3, 2, 1), (3, 4, 3)]"),
        (lambda: L.Graph(("a", L.MaxPool2d(2), "input"), ("b", R, ("product", "a", "input")))
         .plan(IMAGE), ValueError,
         "layer b: Graph: the sources must agree in every size that is not 1 to multiply; they "
         "give [(3, 2, 1), (3, 4, 3)]"),
        (lambda: L.Graph(("a", L.GlobalAvgPool(), "input"), ("b", R, ("product", "a", "input")))
         .plan(IMAGE), ValueError,
         "layer b: Graph: the sources must agree in every size that is not 1 to multiply; they "
         "give [(3,), (3, 4, 3)]"),
        (lambda: L.Branches(L.MaxPool2d(2), L.Identity(), merge="product").plan(IMAGE), ValueError,
         "Branches: branches must agree in every size that is not 1 to multiply; they give "
         "[(3, 2, 1), (3, 4, 3)]"),
        (lambda: MODEL.plan((3, 4)), ValueError,
         "layer conv: Conv2d: in_shape must be (C, H, W), without a batch axis; it is (3, 4)"),
        (lambda: MODEL.vjp(weights_of(MODEL, IMAGE), numbers(2, *IMAGE)), ValueError,
         "layer scaled: Dropout: training needs a key; call vjp(..., key=xpcnn.random.key(0))"),
        (lambda: MODEL({}, numbers(2, *IMAGE)), ValueError,
         "layer conv: Conv2d: params must hold weight, as `init` draws them, not nothing"),
        (lambda: L.build({"layer": "Graph", "layers": [{"layer": "ReLU"}], "inputs": [["sum"]]}),
         ValueError,
         "Graph: node 0 cannot be fed ('sum',); give a node's name, or several after one of "
         "concat, sum, product: ('sum', 'a', 'b')"),
        (lambda: L.SeparableConv2d(4, 3, depth_multiplier=0), ValueError,
         "SeparableConv2d: depth_multiplier=0; give an int of at least 1"),
        (lambda: L.SqueezeExcitation(0.5), TypeError,
         "SqueezeExcitation: ratio=0.5; give an int of at least 1"),
        (lambda: L.Sequential(L.SqueezeExcitation()).plan((3,)), ValueError,
         "layer 0: SqueezeExcitation: in_shape must be (C, H, W), without a batch axis; it is "
         "(3,)"),
        (lambda: L.SeparableConv2d(4, 5).plan((3, 4, 4)), ValueError,
         "layer depthwise: conv2d: along H a kernel of 5 (dilation 1, so spanning 5) does not fit "
         "4 elements padded by (0, 0); it needs at least 5"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value) == message
