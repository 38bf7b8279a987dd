"""Every layer of the table in layer_cases.py: parameters, values, gradients, and being data."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import json

import naive
import numpy as np
import pytest
from layer_cases import BATCH, CASES, read_only

import xpcnn
from xpcnn import layers as L
from xpcnn import random
from xpcnn.layers import build, describe, tree

KEY = random.key(5)


def cases(chosen):
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.repr.split("\n")[0])


every_case = cases(CASES)


def test_the_table_holds_every_layer():
    public = {name: getattr(L, name) for name in L.__all__}
    kinds = {name for name, kind in public.items() if isinstance(kind, type)} - {"Layer"}
    assert {type(case.layer).__name__ for case in CASES} == kinds
    assert set(public) - kinds == {"Layer", "build", "describe", "initializers", "tree"}


# ---- parameters, values, gradients --------------------------------------------------------------


@every_case
def test_float32_from_init_to_gradients(xp, case):
    """All that a layer makes is float32 on the device asked for, in the shapes announced."""
    device = xpcnn.device(xp.spec)

    def shape_of(array):
        assert type(array) is type(xp.asarray(np.zeros(1))) and array.dtype == device.xp.float32
        assert xpcnn._xp.device_of(array) == device.handle
        return tuple(array.shape)

    params, out_shape = case.layer.init(KEY, list(case.in_shape), device=xp.spec)
    flat = tree.flatten(params)
    assert {name: shape_of(a) for name, a in flat.items()} == case.shapes
    assert out_shape == case.out_shape

    x, dy = (device.asarray(a, "float32") for a in (case.x, case.dy))
    assert shape_of(case.layer(params, x)) == (BATCH, *out_shape)
    y, pull = case.layer.vjp(params, x, key=KEY)
    grads, dx = pull(dy)
    assert (shape_of(y), shape_of(dx)) == ((BATCH, *out_shape), (BATCH, *case.in_shape))
    trained = tree.flatten(case.layer.trainable(params))
    assert {name: shape_of(g) for name, g in tree.flatten(grads).items()} == {
        name: case.shapes[name] for name in trained
    }


@every_case
def test_a_batch_of_none_gives_none(case):
    params, out_shape = case.layer.init(KEY, case.in_shape)
    y = case.layer(params, np.zeros((0, *case.in_shape), np.float32))
    assert y.shape == (0, *out_shape)


@every_case
def test_one_key_draws_the_same_weights_on_every_library(xp, case):
    here, _ = case.layer.init(KEY, case.in_shape, device=xp.spec)
    there, _ = case.layer.init(KEY, case.in_shape, dtype="float64", device="cpu")
    for one, other in zip(tree.leaves(here), tree.leaves(there), strict=True):
        np.testing.assert_array_equal(xp.to_numpy(one), other.astype(np.float32))


@functools.cache
def expected_of_torch(case_number):
    """Inference, training, its gradients by name with the next running statistics, and dx."""
    torch, case = importlib.import_module("torch"), CASES[case_number]
    module = case.torch(torch.nn).double()
    weights = {name: torch.tensor(a) for name, a in tree.flatten(case.weights).items()}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected and {name.split(".")[-1] for name in missing} <= {"num_batches_tracked"}
    x = torch.tensor(case.x, requires_grad=True)
    inferred = module.eval()(x)
    y = module.train()(x)
    y.backward(torch.tensor(case.dy))
    grads = {name: p.grad for name, p in module.named_parameters()} | {
        name: b for name, b in module.named_buffers() if tree.is_buffer(name)
    }
    results = (inferred, y, x.grad, *grads.values())
    inferred, y, dx, *rest = (a.detach().numpy() for a in results)
    return inferred, y, dx, dict(zip(grads, rest, strict=True))


@cases([case for case in CASES if case.torch])
def test_torch_agrees(torch, xp, case):
    inferred, y, dx, grads = expected_of_torch(CASES.index(case))
    params = tree.map(xp.asarray, case.weights)
    x, dy = xp.asarray(case.x), xp.asarray(case.dy)
    naive.assert_close(xp.to_numpy(case.layer(params, x)), inferred, case.terms)
    our_y, pull = case.layer.vjp(params, x)
    our_grads, our_dx = pull(dy)
    naive.assert_close(xp.to_numpy(our_y), y, case.terms)
    naive.assert_close(xp.to_numpy(our_dx), dx, case.terms)
    our_grads = tree.flatten(our_grads)
    assert our_grads.keys() == grads.keys()
    for name, grad in grads.items():
        naive.assert_close(xp.to_numpy(our_grads[name]), grad, case.terms)


STEP, SLACK = 1e-5, 1e-6
"""Differences over STEP are off by STEP^2 of a third derivative and by eps / STEP."""


@every_case
def test_gradients_are_slopes(case):
    """Along one direction of all weights and x: for layers that torch has not, too."""
    rng = np.random.default_rng(3)
    weights, buffers = tree.partition(case.weights)
    direction = tree.map(lambda w: rng.standard_normal(w.shape), weights)
    along_x = rng.standard_normal(case.x.shape)

    def loss(t):
        moved = tree.map(lambda w, d: w + t * d, weights, direction)
        y, _ = case.layer.vjp(tree.merge(moved, buffers), case.x + t * along_x, key=KEY)
        return np.sum(y * case.dy)

    _, pull = case.layer.vjp(case.weights, case.x, key=KEY)
    grads, dx = pull(case.dy)
    grads = tree.flatten(tree.partition(grads)[0])
    if not case.layer.trainable(case.weights):
        direction = tree.map(np.zeros_like, direction)
    slope = np.sum(dx * along_x) + sum(np.sum(grads[n] * tree.flatten(direction)[n]) for n in grads)
    assert slope == pytest.approx((loss(STEP) - loss(-STEP)) / (2 * STEP), rel=SLACK, abs=SLACK)


@every_case
def test_a_pull_gives_the_same_twice_and_nothing_is_written(xp, case):
    """NumPy's arrays are read-only here, and the dicts everywhere."""
    given = tree.map(xp.asarray, case.weights)
    params, x, dy = (read_only(a) for a in (given, xp.asarray(case.x), xp.asarray(case.dy)))
    inferred = case.layer(params, x)
    y, pull = case.layer.vjp(params, x, key=KEY)
    before = xp.to_numpy(y).copy()
    (first, dx), (second, dx_again) = pull(dy), pull(dy)
    again, _ = xpcnn.vjp(case.layer, params, x, key=KEY)
    pairs = [
        *zip(tree.leaves(first), tree.leaves(second), strict=True),
        (dx, dx_again),
        (y, again),
        (inferred, case.layer(params, x)),
    ]
    for one, other in pairs:
        np.testing.assert_array_equal(xp.to_numpy(one), xp.to_numpy(other))
    np.testing.assert_array_equal(xp.to_numpy(y), before)
    for array, original in ((x, case.x), (dy, case.dy)):
        np.testing.assert_array_equal(xp.to_numpy(array), original)
    for name, array in tree.flatten(given).items():
        np.testing.assert_array_equal(xp.to_numpy(array), tree.flatten(case.weights)[name])


@every_case
def test_wrt_asks_for_a_part(case):
    y, pull = case.layer.vjp(case.weights, case.x, key=KEY)
    grads, _ = pull(case.dy)
    y_alone, pull_params = case.layer.vjp(case.weights, case.x, key=KEY, wrt=("params",))
    grads_alone, no_dx = pull_params(case.dy)
    np.testing.assert_array_equal(y_alone, y)
    assert no_dx is None
    np.testing.assert_equal(tree.flatten(grads_alone), tree.flatten(grads))

    inferred, pull_x = case.layer.vjp(case.weights, case.x, key=KEY, wrt=("x",))
    no_grads, dx = pull_x(case.dy)
    np.testing.assert_array_equal(inferred, case.layer(case.weights, case.x))
    assert no_grads == {} and dx.shape == case.x.shape
    assert case.layer.vjp(case.weights, case.x, key=KEY, wrt=())[1](case.dy) == ({}, None)


@every_case
def test_wrt_of_another_name_is_refused(case):
    kind = type(case.layer).__name__
    for wrt in (("weight",), "x"):
        message = f"vjp of {kind}: wrt={wrt!r}; give a tuple of some of ('params', 'x')"
        with pytest.raises(ValueError) as caught:
            case.layer.vjp(case.weights, case.x, wrt=wrt)
        assert str(caught.value) == message


# ---- a layer is data ----------------------------------------------------------------------------


@every_case
def test_copies_are_equal(case):
    layer = case.layer
    copies = [copy.copy(layer), copy.deepcopy(layer), dataclasses.replace(layer)]
    copies.append(build(json.loads(json.dumps(describe(layer)))))
    for other in copies:
        assert type(other) is type(layer) and other == layer and hash(other) == hash(layer)
        assert repr(other) == repr(layer) == case.repr


def test_the_layers_of_the_table_differ():
    assert len({case.layer for case in CASES}) == len(CASES)


@every_case
def test_a_layer_cannot_be_changed(case):
    for field in dataclasses.fields(case.layer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(case.layer, field.name, None)


@pytest.mark.parametrize(
    "one, other",
    [
        (L.Conv1d(8, 3), L.Conv1d(8, (3,))),
        (L.Conv2d(8, 3), L.Conv2d(8, (3, 3))),
        (L.Conv2d(8, 3, 2, 1), L.Conv2d(8, [3, 3], (2, 2), [1, 1], dilation=[1, 1])),
        (L.Conv2d(8, 3), L.Conv2d(np.int64(8), np.int32(3))),
        (L.Conv2d(8, 3, padding=[[0, 1], [1, 0]]), L.Conv2d(8, 3, padding=((0, 1), (1, 0)))),
        (
            L.ConvTranspose3d(2, 2, output_padding=0),
            L.ConvTranspose3d(2, 2, output_padding=(0,) * 3),
        ),
        (L.LocallyConnected2d(2, 3), L.LocallyConnected2d(2, (3, 3), (1, 1), (0, 0), (1, 1))),
        (L.MaxPool2d(2), L.MaxPool2d((2, 2), None, (0, 0), (1, 1))),
        (L.AvgPool3d(2, 1), L.AvgPool3d((2, 2, 2), (1, 1, 1))),
        (L.AdaptiveAvgPool2d(2), L.AdaptiveAvgPool2d((2, 2))),
        (L.AdaptiveMaxPool2d(2), L.AdaptiveMaxPool2d([2, 2])),
        (L.LayerNorm(4), L.LayerNorm((4,))),
        (L.Pad([1, 2]), L.Pad((1, 2))),
        (L.Sequential(L.ReLU()), L.Sequential(layers=[L.ReLU()])),
        (L.Residual(L.ReLU()), L.Residual(L.ReLU(), L.Identity(), names=["body", "shortcut"])),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_two_ways_to_write_one_layer(one, other):
    assert one == other and hash(one) == hash(other) and repr(one) == repr(other)
    assert describe(one) == describe(other)


@pytest.mark.parametrize(
    "one, other",
    [
        (L.Conv2d(8, 3), L.Conv2d(8, 3, padding=1)),
        (L.Conv2d(8, 3), L.LocallyConnected2d(8, 3)),
        (L.ReLU(), L.ReLU6()),
        (L.Sequential(L.ReLU()), L.Sequential(L.ReLU(), names=("act",))),
        (L.Branches(L.ReLU()), L.Branches(L.ReLU(), merge="sum")),
        (L.Residual(L.ReLU()), L.Branches(L.ReLU(), L.Identity(), merge="sum")),
        (L.Frozen(L.ReLU()), L.ReLU()),
    ],
)
def test_other_layers_are_not_equal(one, other):
    assert one != other and describe(one) != describe(other)


@pytest.mark.parametrize(
    "layer, change, expected",
    [
        (L.Conv2d(8, 3), {"stride": 2}, L.Conv2d(8, 3, stride=(2, 2))),
        (L.MaxPool2d(2), {"kernel_size": 3}, L.MaxPool2d(3)),
        (L.Sequential(L.ReLU()), {"layers": [L.Tanh()]}, L.Sequential(L.Tanh())),
        (L.Sequential(L.ReLU()), {"names": ["a"]}, L.Sequential(L.ReLU(), names=("a",))),
        (
            L.Branches(L.ReLU(), L.Tanh(), names=("a", "b")),
            {"merge": "sum"},
            L.Branches(L.ReLU(), L.Tanh(), merge="sum", names=("a", "b")),
        ),
        (L.Residual(L.ReLU()), {"layers": (L.Tanh(), L.ReLU())}, L.Residual(L.Tanh(), L.ReLU())),
        (L.Frozen(L.ReLU()), {"inner": L.Tanh()}, L.Frozen(L.Tanh())),
    ],
)
def test_replace(layer, change, expected):
    before = repr(layer)
    changed = dataclasses.replace(layer, **change)
    assert changed == expected and type(changed) is type(layer) and repr(layer) == before


@pytest.mark.parametrize(
    "description, message",
    [
        (None, "build: None describes no layer; it needs a key 'layer'"),
        ({"p": 0.5}, "build: {'p': 0.5} describes no layer; it needs a key 'layer'"),
        ({"layer": 3}, "build: {'layer': 3} describes no layer; it needs a key 'layer'"),
        ({"layer": "Conv4d"}, "build: no layer is called 'Conv4d' in xpcnn.layers"),
        ({"layer": "Layer"}, "build: no layer is called 'Layer' in xpcnn.layers"),
        ({"layer": "build"}, "build: no layer is called 'build' in xpcnn.layers"),
        (
            {"layer": "Sequential", "layers": [{"layer": "os.system"}]},
            "build: no layer is called 'os.system' in xpcnn.layers",
        ),
    ],
)
def test_a_description_of_no_layer(description, message):
    with pytest.raises(ValueError) as caught:
        build(description)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "description, found",
    [
        ({"layer": "ReLU", "inplace": True}, "ReLU.*'inplace'"),
        ({"layer": "Conv2d", "out_channels": 8}, "Conv2d.*'kernel_size'"),
        ({"layer": "Sequential", "layers": [{"layer": "ReLU", "p": 1}]}, "ReLU.*'p'"),
        ({"layer": "Sequential", "layers": ["ReLU"]}, "'ReLU' is no layer"),
        ({"layer": "Branches", "layers": [], "merge": "sum"}, "needs layers"),
        ({"layer": "Dropout", 3: 1}, "Dropout"),
    ],
)
def test_a_description_with_wrong_options(description, found):
    with pytest.raises(ValueError, match=found):
        build(description)
