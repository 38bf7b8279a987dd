"""Under jax.jit and jax.grad, and with JAX's 64-bit types off (in a process of its own)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import naive
import pytest
from cases import ALL

# each shape costs JAX seconds to compile, so: those that differ in what they trace
COMPILED = {
    "conv2d-pointwise", "conv2d-same_lower, even, strided", "conv2d-pairs",
    "conv2d-dilated, grouped", "conv2d-depthwise", "conv1d-1-d", "conv3d-3-d",
    "conv_transpose2d-transposed, all options", "max_pool2d-max",
    "max_pool2d-max, overlapping, padded", "max_pool2d-max, ceil", "avg_pool2d-avg",
    "avg_pool2d-avg, ceil", "avg_pool2d-avg, same, padding apart",
    "adaptive_max_pool2d-adaptive max", "adaptive_avg_pool2d-adaptive avg",
    "interpolate-nearest, by size", "interpolate-bilinear", "multiply-gate",
    "linear-linear", "locally_connected2d-locally connected", "unfold-unfold",
    "correlate-correlate 1-d",
}  # fmt: skip
CASES = [case for case in ALL if f"{case.op}-{case.id}" in COMPILED]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{c.id}")
def test_jit_and_grad(jax, case):
    y, dy, grads = case.expected
    arrays = [jax.numpy.asarray(a) for a in case.arrays]

    @jax.jit
    def ours(arrays, dy):
        result, pull = case.vjp(*arrays)
        return result, pull(dy)

    @jax.jit
    @jax.grad
    def theirs(arrays, dy):
        return jax.numpy.sum(case.call(*arrays) * dy)

    result, our_grads = ours(arrays, jax.numpy.asarray(dy))
    their_grads = theirs(arrays, jax.numpy.asarray(dy))
    naive.assert_close(result, y, case.terms)
    for our, their, grad in zip(our_grads, their_grads, grads, strict=True):
        naive.assert_close(our, grad, case.terms)
        naive.assert_close(their, grad, case.terms)


def test_without_64_bit_types(jax):
    """Everything is float32 and int32 then, and a warning about a wider type is an error."""
    del jax  # only where JAX is chosen
    script = Path(__file__).with_name("jax_32_bit.py")
    environment = {**os.environ, "JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["float32", "int32", "float32"]


def test_every_compiled_case_exists():
    assert len(CASES) == len(COMPILED)
