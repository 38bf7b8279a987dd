"""Two threads train two models as if each were alone, and a setting of one is not the other's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xpcnn
from xpcnn import layers as L
from xpcnn import ops, optim, random
from xpcnn.engines import settings
from xpcnn.layers import tree
from xpcnn.training import train_step
from xpcnn.training.step import init_state

MODEL = L.Sequential(
    L.Conv2d(4, 3, padding=1),
    L.BatchNorm(),
    L.ReLU(),
    L.MaxPool2d(2),
    L.Flatten(),
    L.Dropout(0.2),
    L.Linear(3),
)
PATIENCE = 60.0
"""Seconds to wait for the other thread before a test fails."""


def train(spec, seed, engine=None):
    """Parameters, as bytes by name, after a few steps; everything depends on the seed."""
    device, key = xpcnn.device(spec), random.key(seed)
    params, _ = MODEL.init(key, (2, 6, 6), device=device)
    optimizer = optim.Adam(0.01)
    state = init_state(MODEL, optimizer, params)
    x = device.asarray(random.normal(random.fold_in(key, 1), (6, 2, 6, 6)), "float32")
    y = device.asarray(np.arange(6) % 3)
    with xpcnn.use(engine):
        for number in range(8):
            noise = random.fold_in(key, number)
            params, state, *_ = train_step(MODEL, optimizer, params, state, x, y, key=noise)
    return {name: device.to_numpy(a).tobytes() for name, a in tree.flatten(params).items()}


def together(*calls):
    """The calls' results, each in a thread of its own, started at once."""
    start = threading.Barrier(len(calls), timeout=PATIENCE)

    def run(call):
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls, timeout=PATIENCE))


def test_two_threads_train_two_models(xp):
    alone = [train(xp.spec, 1), train(xp.spec, 2)]
    assert alone[0] != alone[1]
    assert together(lambda: train(xp.spec, 1), lambda: train(xp.spec, 2)) == alone


def test_two_threads_share_one_model_and_its_parameters(xp):
    device = xpcnn.device(xp.spec)
    params, _ = MODEL.init(random.key(0), (2, 6, 6), device=device)
    x = device.asarray(random.normal(random.key(1), (6, 2, 6, 6)), "float32")

    def gradients(seed):
        y, pull = MODEL.vjp(params, x, key=random.key(seed))
        grads, dx = pull(y)
        return [device.to_numpy(a).tobytes() for a in (y, dx, *tree.leaves(grads))]

    alone = [gradients(seed) for seed in (1, 2, 3)]
    assert together(*(lambda seed=seed: gradients(seed) for seed in (1, 2, 3))) == alone


def test_two_engines_at_once():
    alone = [train("cpu", 1, "generic"), train("cpu", 1, "numpy")]
    assert alone[0] != alone[1]  # their sums are rounded in another order
    calls = (lambda: train("cpu", 1, "generic"), lambda: train("cpu", 1, "numpy"))
    assert together(*calls) == alone


def test_use_holds_in_its_own_thread_alone():
    inside, looked = (threading.Barrier(2, timeout=PATIENCE) for _ in range(2))
    default = settings.current()

    def set_them():
        with xpcnn.use("generic", workspace=7):
            inside.wait()
            looked.wait()
            return settings.current()

    def look():
        inside.wait()
        seen = settings.current()
        looked.wait()
        return seen

    assert together(set_them, look) == [settings.Settings("generic", 7), default]
    assert settings.current() == default


def test_a_thread_started_within_use_starts_afresh():
    with xpcnn.use("generic", workspace=7), ThreadPoolExecutor(1) as pool:
        assert pool.submit(settings.current).result(PATIENCE) == settings.Settings()


def test_an_error_within_use_restores_the_settings():
    before = settings.current()
    with pytest.raises(ValueError, match="max_pool2d"), xpcnn.use("generic", workspace=7):
        ops.max_pool2d(np.zeros((3, 3)), 2)
    assert settings.current() == before
