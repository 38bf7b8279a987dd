"""`explain` tells what a call takes: the engines asked, their algorithms, the gradients' too."""

from __future__ import annotations

import re

import numpy as np
import pytest

import xpcnn
from xpcnn import layers as L
from xpcnn import ops, random

X, W = np.ones((2, 16, 20, 20), np.float32), np.ones((32, 16, 3, 3), np.float32)

CONVOLUTIONS = {
    "Winograd's": (X, W, {"padding": 1}, "winograd", "36 products a channel pair"),
    "few channels": (X[:, :3], W[:, :3], {}, "direct", "pays from 16 channels on"),
    "few tiles": (X[:1, :, :14, :14], W, {}, "direct", "pays from 16 tiles on"),
    "a kernel of one": (X, W[..., :1, :1], {}, "direct", "takes kernels of 3x3 and 5x5"),
    "strided": (X, W, {"stride": 2}, "direct", "takes no stride, dilation or groups"),
    "grouped": (X, W[:, :8], {"groups": 2}, "direct", "takes no stride, dilation or groups"),
    "float64": (X.astype(float), W.astype(float), {}, "direct", "takes float32"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_numba_tells_the_algorithm_and_the_reason(name):
    pytest.importorskip("numba")
    x, w, options, algorithm, why = CONVOLUTIONS[name]
    told = xpcnn.explain(ops.conv2d, x, w, **options)
    assert [choice.verb for choice in told] == ["conv", "conv_dx", "conv_dw"]
    forward, _, by_weights = told  # a strided convolution's data gradient is of several parts
    for choice in (forward, by_weights):
        assert (choice.engine, choice.algorithm) == ("numba", algorithm)
        assert why in choice.why


def test_settings_hold():
    pytest.importorskip("numba")
    with xpcnn.use(winograd=False):
        told = xpcnn.explain(ops.conv2d, X, W)
    assert {choice.algorithm for choice in told} == {"direct"}
    assert "winograd=True" in told[0].why


@pytest.mark.parametrize("name", ["numpy", "generic"])
def test_a_forced_engine_is_told(name):
    with xpcnn.use(name):
        told = xpcnn.explain(ops.conv2d, X, W, np.ones(32, np.float32))
    taken = [choice[:2] for choice in told if choice.verb.startswith("conv")]
    assert taken == [("conv", name), ("conv_dx", name), ("conv_dw", name)]


def test_every_library_has_engines_of_its_own(xp):
    x, w = xp.asarray(np.ones((1, 2, 5, 5))), xp.asarray(np.ones((3, 2, 3, 3)))
    own = {"numpy": {"numba", "numpy"}, "torch": {"torch"}, "jax": {"jax"}}
    told = xpcnn.explain(ops.conv2d, x, w)
    assert {choice.engine for choice in told} <= own.get(xp.name, {"generic"})
    with xpcnn.use("generic"):
        told = xpcnn.explain(ops.max_pool2d, x, 2, return_indices=True)
    assert [choice[:2] for choice in told] == [("max_pool", "generic"), ("max_pool_dx", "generic")]


def test_a_layer_is_explained_with_all_it_holds():
    model = L.Sequential(L.Conv2d(4, 3), L.MaxPool2d(2), L.Dropout(0.5), L.Flatten(), L.Linear(3))
    params, _ = model.init(random.key(0), (2, 8, 8))
    x = np.ones((2, 2, 8, 8), np.float32)
    with xpcnn.use("generic"):
        told = xpcnn.explain(model, params, x, key=random.key(1))
        given = xpcnn.explain(model, params, x, key=random.key(1), wrt=("params",))
    verbs = ["conv", "max_pool", "max_pool_dx", "conv_dx", "conv_dw"]
    assert [choice.verb for choice in told] == verbs
    assert [choice.verb for choice in given] == [verb for verb in verbs if verb != "conv_dx"]


def test_a_loss_is_explained_and_so_is_what_has_no_gradient():
    scores, labels = np.ones((4, 3)), np.asarray([0, 1, 2, 0])
    assert xpcnn.explain(ops.cross_entropy, scores, labels) == ()
    with xpcnn.use("generic"):
        integers = xpcnn.explain(ops.max_pool2d, np.ones((1, 1, 4, 4), np.int64), 2)
        function = xpcnn.explain(lambda x: ops.avg_pool2d(x, 2), np.ones((1, 1, 4, 4)))
    assert [tuple(choice) for choice in integers] == [("max_pool", "generic", "", "")]
    assert [tuple(choice) for choice in function] == [("avg_pool", "generic", "", "")]


def test_it_is_shown_as_a_table():
    from xpcnn.ops._explain import Choice, Explanation

    told = Explanation(
        [Choice("conv", "numba", "winograd", "so few"), Choice("max_pool", "numpy", "", "")]
    )
    assert repr(told) == "conv      numba  winograd  so few\nmax_pool  numpy"
    assert repr(Explanation()) == "no engine is asked: Array API code alone"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: xpcnn.explain(X, W), TypeError,
         "explain: ndarray objects cannot be called; pass an op of xpcnn.ops, a loss or a layer, "
         "and its arguments"),
        (lambda: xpcnn.explain(ops.max_pool2d, [[1, 2]], 2), TypeError,
         "max_pool2d: x: list is no array; pass one of NumPy, CuPy, PyTorch, JAX or "
         "array-api-strict"),
        (lambda: xpcnn.explain(ops.max_pool2d, X[0], 2), ValueError,
         "max_pool2d: x must be (N, C, H, W); x is (16, 20, 20): pass x[None, ...] for a batch of "
         "one"),
    ],
    ids=["no function", "no array", "a bad shape"],
)  # fmt: skip
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()
