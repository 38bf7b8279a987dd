"""Run by test_jax.py with JAX_ENABLE_X64=0: a convolution and a pooling, eagerly and under jit."""

from __future__ import annotations

import jax
import numpy as np

import xpcnn
from xpcnn import ops


def forward_and_back(x, w):
    y, pull_conv = xpcnn.vjp(ops.conv2d, x, w, stride=2, padding="same")
    (z, indices), pull_pool = xpcnn.vjp(ops.max_pool2d, y, 2, return_indices=True)
    (dy,) = pull_pool(z)
    return z, indices, pull_conv(dy)[1]


rng = np.random.default_rng(0)
x = rng.standard_normal((2, 3, 9, 8), np.float32)
w = rng.standard_normal((4, 3, 3, 3), np.float32)
expected = forward_and_back(x, w)
for f in (forward_and_back, jax.jit(forward_and_back)):
    results = f(jax.numpy.asarray(x), jax.numpy.asarray(w))
    for result, exact in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-4)
try:
    xpcnn.device("jax").asarray([1.0], "float64")
except TypeError as error:
    assert "JAX makes float64 float32; set jax_enable_x64" in str(error), error
else:
    raise AssertionError("float64 became float32 in silence")
print(*(result.dtype for result in results))
