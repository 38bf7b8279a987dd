"""An exponential moving average of the weights, around any optimizer."""

from __future__ import annotations

import numpy as np
import pytest

from xpcnn.layers import tree
from xpcnn.optim import SGD, Adam, Averaged, Constant, MixedPrecision, Plateau, Step

RNG = np.random.default_rng(5)
WEIGHTS = {"0": {"weight": RNG.normal(size=(3, 2)), "bias": RNG.normal(size=3)}}
GRADS = [tree.map(lambda w: RNG.normal(size=w.shape), WEIGHTS) for _ in range(15)]


def on(xp, nested, dtype=np.float64):
    return tree.map(lambda a: xp.asarray(a.astype(dtype)), nested)


def flat_on_host(xp, nested):
    return {name: xp.to_numpy(a) for name, a in tree.flatten(nested).items()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(Step(0.1, every=4))], ids=repr)
def test_the_average_is_that_of_its_definition(xp, optimizer, decay):
    averaged, weights = Averaged(optimizer, decay=decay), on(xp, WEIGHTS)
    state, plain = averaged.init(weights), optimizer.init(weights)
    expected, alone = flat_on_host(xp, weights), weights
    for t, grads in enumerate(GRADS):
        weights, state = averaged.update(weights, on(xp, grads), state)
        alone, plain = optimizer.update(alone, on(xp, grads), plain)
        d = min(decay, (1 + t) / (10 + t))
        for name, w in flat_on_host(xp, weights).items():
            np.testing.assert_array_equal(w, xp.to_numpy(tree.flatten(alone)[name]))
            expected[name] = d * expected[name] + (1 - d) * w
    assert state["step"] == len(GRADS) and type(state["step"]) is int
    for name, average in flat_on_host(xp, averaged.averaged(weights, state)).items():
        np.testing.assert_allclose(average, expected[name], rtol=1e-12)


def test_what_does_not_change_is_its_own_average(xp):
    """To the last bit, so that frozen parts are predicted with as they are."""
    optimizer, weights = Averaged(SGD(0.0)), on(xp, WEIGHTS, np.float32)
    state = optimizer.init(weights)
    for grads in GRADS:
        _, state = optimizer.update(weights, on(xp, grads, np.float32), state)
    for name, average in flat_on_host(xp, optimizer.averaged(weights, state)).items():
        np.testing.assert_array_equal(average, flat_on_host(xp, weights)[name], strict=True)


def test_only_what_is_averaged_is_exchanged():
    optimizer, weights = Averaged(SGD(1.0)), {"0": {"weight": np.ones(2)}}
    buffers = {"1": {"running_mean": np.full(2, 7.0)}}
    weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    found = optimizer.averaged(tree.merge(weights, buffers), state)
    assert found["1"]["running_mean"] is buffers["1"]["running_mean"]
    np.testing.assert_allclose(found["0"]["weight"], 0.1)
    assert SGD(1.0).averaged(weights, {"step": 1}) is weights


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_average_has_the_dtype_of_its_weights(dtype):
    weights = {"bias": np.ones(3, dtype)}
    optimizer = Averaged(Adam())
    _, state = optimizer.update(weights, weights, optimizer.init(weights))
    assert state["average"]["bias"].dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_under_jit(jax, dtype):
    xp = jax.numpy
    optimizer = Averaged(Adam(0.1), decay=0.3)
    weights = {name: xp.asarray(a, dtype) for name, a in WEIGHTS["0"].items()}
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    eager = traced = weights, state
    for _ in range(6):
        eager = optimizer.update(eager[0], weights, eager[1])
        traced = update(traced[0], weights, traced[1])
    for name, average in traced[1]["average"].items():
        assert average.dtype.name == dtype
        expected = eager[1]["average"][name]
        np.testing.assert_allclose(average, expected, rtol=1e-12 if dtype == "float64" else 1e-5)


def test_the_rest_is_the_wrapped_optimizers():
    assert Averaged(SGD(Step(1.0, every=2))).rate(3) == SGD(Step(1.0, every=2)).rate(3)
    history = type("History", (), {"column": lambda self, name: [1.0, 1.0]})()
    plateau = Averaged(SGD(Plateau(1.0, patience=0)), decay=0.5)
    assert plateau.after(history) == Averaged(SGD(Constant(0.1)), decay=0.5)
    optimizer, params = Averaged(SGD(0.1)), {"weight": np.ones(2)}
    state = optimizer.init(params)
    assert optimizer.working(params) is params and optimizer.unscaled(params, state) is params
    assert optimizer.loss_scale(state) == 1.0
    given = Averaged(SGD(0.1)).update(params, params, state, lr=0.5)[0]
    np.testing.assert_array_equal(given["weight"], 0.5)


def test_nothing_given_is_changed():
    optimizer, weights = Averaged(SGD(1.0)), {"weight": np.ones(2)}
    state = optimizer.init(weights)
    optimizer.update(weights, weights, state)
    assert state["step"] == 0
    np.testing.assert_array_equal(state["average"]["weight"], 1.0)
    np.testing.assert_array_equal(weights["weight"], 1.0)


W = {"weight": np.ones(2)}


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: Averaged(0.1), TypeError, "Averaged(0.1): give an optimizer, such as Adam()"),
        (
            lambda: Averaged(SGD(), decay=1.0),
            ValueError,
            "Averaged(decay=1.0): decay must lie in [0, 1)",
        ),
        (
            lambda: Averaged(MixedPrecision(Averaged(SGD()))),
            ValueError,
            "Averaged: there is another within; give one alone",
        ),
        (
            lambda: Averaged(SGD()).update(W, W, {"step": 0}),
            ValueError,
            "Averaged.update: the state lacks ['average']; take it from this optimizer's init",
        ),
        (
            lambda: Averaged(SGD()).averaged(W, {"step": 0}),
            ValueError,
            "Averaged.averaged: the state lacks ['average']; take it from this optimizer's init",
        ),
        (
            lambda: Averaged(SGD()).init({"1": {"running_mean": np.ones(2)}}),
            ValueError,
            "SGD.init: weights holds the buffer '1.running_mean'; part it off with tree.partition",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
