"""Twenty training steps from the same weights on the same batches leave PyTorch's parameters."""

from __future__ import annotations

import numpy as np
import pytest
from reference import twenty_steps as reference

from xpcnn import layers as L
from xpcnn import optim
from xpcnn.layers import tree
from xpcnn.training import train_step
from xpcnn.training.step import init_state

MODEL = L.Sequential(
    L.Conv2d(4, 3, padding=1, bias=False),
    L.BatchNorm(),
    L.ReLU(),
    L.MaxPool2d(2),
    L.Conv2d(6, 3, bias=False),
    L.BatchNorm(),
    L.ReLU(),
    L.MaxPool2d(2),
    L.Flatten(),
    L.Linear(reference.CLASSES),
)
EQUAL = 1e-9
"""Of a tensor's largest entry. What float64 makes of the twenty steps is below 1e-13."""

each_optimizer = pytest.mark.parametrize("name", reference.OPTIMIZERS)


def optimizer_of(name):
    kind, options = reference.OPTIMIZERS[name]
    return getattr(optim, kind)(**options)


def assert_equal_to(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == np.float64
        slack = EQUAL * np.max(np.abs(array))
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=slack, err_msg=name)


def train(name, step, asarray, to_numpy):
    """What `reference.train` returns, by xpcnn."""
    start = {k: asarray(a) for k, a in reference.stored("start").items()}
    params, losses = tree.unflatten(start), []
    state = init_state(MODEL, optimizer_of(name), params)
    for x, y in reference.batches():
        params, state, loss, _ = step(params, state, asarray(x), asarray(y))
        losses.append(float(loss))
    trained = {k: to_numpy(a) for k, a in tree.flatten(params).items()}
    return trained | {"loss": np.asarray(losses)}


@each_optimizer
def test_twenty_steps_leave_pytorchs_parameters(xp, name):
    def step(*args):
        return train_step(MODEL, optimizer_of(name), *args)

    assert_equal_to(train(name, step, xp.asarray, xp.to_numpy), reference.stored(name))


@each_optimizer
def test_twenty_compiled_steps_leave_pytorchs_parameters(jax, name):
    @jax.jit
    def step(*args):
        return train_step(MODEL, optimizer_of(name), *args)

    assert_equal_to(train(name, step, jax.numpy.asarray, np.asarray), reference.stored(name))


@each_optimizer
def test_the_stored_reference_is_what_pytorch_does(torch, name):
    del torch  # the reference imports it: here it is only required
    live = reference.train(name, reference.stored("start"), reference.batches())
    assert_equal_to(live, reference.stored(name))


def test_the_steps_are_worth_comparing():
    """They move every tensor far beyond the tolerance, and learn."""
    start = reference.stored("start")
    for name in reference.OPTIMIZERS:
        trained = reference.stored(name)
        for key, array in start.items():
            assert np.max(np.abs(trained[key] - array)) > 1e-3
        assert trained["loss"][-5:].mean() < trained["loss"][:5].mean()
    assert reference.STORED.stat().st_size < 40_000


def test_no_two_pixels_tie():
    images = np.concatenate([x for x, _ in reference.batches()])
    assert len(np.unique(images)) == images.size
