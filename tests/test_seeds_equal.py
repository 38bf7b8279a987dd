"""One seed gives the same weights, dropout masks and batch order on every library: stored hashes.

The streams themselves are held in test_random.py; here is what is made of them.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import xpcnn
from xpcnn import data, layers, models, random
from xpcnn.layers import tree

WEIGHTS = "8a13568b5f3f224c9e20f90725e90e4e750be1763a1f41c4cf1a0c9d230abf06"
MASKS = {
    (1, 0.5): "20823729c34b58985007fd705b6b554d4d275762d99e29ffa1a60a2a349be78d",
    (2, 0.1): "89262cacfc726463c69b5adaca933cb56631a642c9ca7afc6456f61584157968",
}
ORDER = "028a2cb52c2918b6c9176c59f5e08d2fdd00c1ea7c87d1856253df55fa8eca3a"


def digest(*arrays):
    sha = hashlib.sha256()
    for a in arrays:
        sha.update(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def test_initial_weights(xp):
    params, _ = models.convnet().init(random.key(2026), (1, 8, 8), device=xp.spec)
    flat = sorted(tree.flatten(params).items())
    assert [name for name, _ in flat if name.startswith("0")] == ["0.bias", "0.weight"]
    assert digest(*(xp.to_numpy(a) for _, a in flat)) == WEIGHTS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed, p", MASKS)
def test_dropout_masks(xp, dtype, seed, p):
    x = xpcnn.device(xp.spec).asarray(np.ones((31, 5, 7)), dtype)
    y, _ = xpcnn.vjp(layers.Dropout(p), {}, x, key=random.key(seed))
    assert digest(xp.to_numpy(y) != 0) == MASKS[seed, p]


@pytest.mark.parametrize("seed, p", MASKS)
def test_dropout_masks_under_jit(jax, seed, p):
    @jax.jit
    def noisy(x, key):
        return xpcnn.vjp(layers.Dropout(p), {}, x, key=key)[0]

    y = noisy(jax.numpy.ones((31, 5, 7)), random.key(seed))
    assert digest(np.asarray(y) != 0) == MASKS[seed, p]


def test_a_dropout_layer_within_a_model(xp):
    """Its mask depends on its place alone: layer 9 of the model draws with the ninth fold."""
    x = xp.asarray(np.ones((4, 16)))
    model = layers.Sequential(*(layers.Identity(),) * 9, layers.Dropout(0.5))
    y, _ = model.vjp({}, x, key=random.key(3))
    alone, _ = layers.Dropout(0.5).vjp({}, x, key=random.fold_in(random.key(3), 9))
    np.testing.assert_array_equal(xp.to_numpy(y), xp.to_numpy(alone))


def test_batch_order():
    order = list(data.batches(1797, 64, random.key(2026)))
    assert [len(batch) for batch in order] == [64] * 28 + [5]
    assert digest(*order) == ORDER
