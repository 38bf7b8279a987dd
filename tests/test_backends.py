"""The same calls on every array library give what the definition gives, forward and backward."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from cases import ALL
from checks import vjp_of

import xpcnn

every_case = pytest.mark.parametrize("case", ALL, ids=lambda c: f"{c.op}-{c.id}")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@every_case
def test_values_and_gradients(xp, case, dtype):
    if xp.name == "jax" and dtype == np.float64:
        pytest.skip("test_jax.py holds float64, compiled once a case instead of once an operation")
    y, dy, grads = case.expected
    arrays = [a.astype(dtype) for a in case.arrays]
    op = getattr(xpcnn.ops, case.op)
    actual, actual_grads = vjp_of(op, arrays, dy.astype(dtype), xp=xp, **case.options)
    naive.assert_close(actual, y, case.terms)
    for actual_grad, grad in zip(actual_grads, grads, strict=True):
        naive.assert_close(actual_grad, grad, case.terms)


@every_case
def test_torch_autograd_through_our_forward(torch, case):
    y, dy, grads = case.expected
    arrays = [torch.tensor(a, requires_grad=True) for a in case.arrays]
    result = case.call(*arrays)
    result.backward(torch.tensor(dy))
    naive.assert_close(result.detach().numpy(), y, case.terms)
    for array, grad in zip(arrays, grads, strict=True):
        naive.assert_close(array.grad.numpy(), grad, case.terms)
