"""How ops that are no sums of products are tested: by PyTorch, and by differences without it.

PyTorch differentiates in float64. Its formulas differ from ours by some roundings of the largest
entry, and sums by the square root of their length: naive.py's tolerance. Central differences of
step h err by h**2 (times a third derivative) and by eps / h: with h = 1e-5 both are near 1e-10, and
SLOPE_TOLERANCE leaves ten times that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import naive
import numpy as np
import pytest
from checks import adopt, host, vjp_of

import xpcnn

STEP, SLOPE_TOLERANCE = 1e-5, 1e-9


@dataclass(frozen=True)
class Case:
    """A call of `op`, differentiated by `arrays`, with other arguments `fixed`; its torch twin."""

    id: str
    op: Callable
    torch: Callable  # of torch.nn.functional and the tensors of `arrays`, then of arrays in `fixed`
    arrays: dict[str, np.ndarray]
    fixed: dict[str, Any] = field(default_factory=dict)

    def on(self, xp=None, dtype=np.float64) -> Partly:
        fixed = {name: _put(xp, value, dtype) for name, value in self.fixed.items()}
        return Partly(self.op, tuple(self.arrays), fixed)

    def inputs(self, dtype=np.float64) -> list[np.ndarray]:
        return [a.astype(dtype) for a in self.arrays.values()]

    @property
    def terms(self) -> int:
        return max(a.size for a in self.arrays.values())


def _put(xp, value, dtype):
    if not isinstance(value, np.ndarray):
        return value
    return adopt(xp, value.astype(dtype) if value.dtype.kind == "f" else value)


class Partly:
    """An op as a function of the arrays `names` alone, which `vjp_of` and `xpcnn.vjp` take."""

    def __init__(self, op: Callable, names: tuple[str, ...], fixed: dict[str, Any]):
        self.op, self.names, self.fixed = op, names, fixed

    def __call__(self, *arrays):
        return self.op(**dict(zip(self.names, arrays, strict=True)), **self.fixed)

    def vjp(self, *arrays, wrt=None):
        given = dict(zip(self.names, arrays, strict=True))
        y, pull = xpcnn.vjp(self.op, **given, **self.fixed, wrt=wrt)
        places = [self.op.arrays.index(name) for name in self.names]
        return y, lambda dy: tuple(pull(dy)[place] for place in places)


def gradient_for(y) -> np.ndarray:
    """A gradient of y's shape and dtype, without symmetry or zeros."""
    y = np.asarray(_first(y))
    return (1.1 + np.cos(np.arange(y.size))).reshape(y.shape).astype(y.dtype)


def by_cases(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


def check_like_torch(xp, torch, case: Case, dtype=np.float64) -> None:
    """Value and gradients on xp's arrays of this dtype are those of torch in float64."""
    arrays = case.inputs(dtype)
    dy = gradient_for(case.on(None, dtype)(*arrays))
    y, grads = vjp_of(case.on(xp, dtype), arrays, dy, xp=xp)
    tensors = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    others = [
        torch.tensor(v.astype(dtype).astype(np.float64) if v.dtype.kind == "f" else v)
        for v in case.fixed.values()
        if isinstance(v, np.ndarray)
    ]
    expected = case.torch(torch.nn.functional, *tensors, *others)
    expected.backward(torch.tensor(dy.astype(np.float64)))
    naive.assert_close(y, expected.detach().numpy(), case.terms)
    for grad, tensor in zip(grads, tensors, strict=True):
        naive.assert_close(grad, tensor.grad.numpy(), case.terms)


def check_slopes(case: Case) -> None:
    """The gradients predict how y changes along a direction, on NumPy in float64."""
    op, arrays = case.on(), case.inputs()
    dy = gradient_for(op(*arrays))
    _, grads = vjp_of(op, arrays, dy)
    for i, grad in enumerate(grads):
        direction = np.random.default_rng(i).standard_normal(grad.shape)

        ahead, behind = (
            _first(op(*arrays[:i], arrays[i] + step * direction, *arrays[i + 1 :]))
            for step in (STEP, -STEP)
        )
        slope = np.sum(dy * (ahead - behind)) / (2 * STEP)
        size = np.abs(dy).sum() + np.abs(grad * direction).sum()
        assert abs(np.sum(grad * direction) - slope) <= SLOPE_TOLERANCE * size


def check_torch_autograd(torch, case: Case) -> None:
    """PyTorch, differentiating our forward, finds the gradients of our pull."""
    arrays, dy, grads = _expected(case)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    _first(case.on(torch)(*tensors)).backward(torch.tensor(dy))
    for tensor, grad in zip(tensors, grads, strict=True):
        naive.assert_close(tensor.grad.numpy(), grad, case.terms)


def check_jax(jax, case: Case) -> None:
    """Inside jax.jit our pull gives what it gives outside, and so does JAX through our forward."""
    arrays, dy, grads = _expected(case)
    op = case.on(jax.numpy)

    @jax.jit
    def both(dy, *given):
        ours = op.vjp(*given)[1](dy)
        return ours, jax.vjp(lambda *a: _first(op(*a)), *given)[1](dy)

    for found in both(dy, *arrays):
        for one, grad in zip(found, grads, strict=True):
            naive.assert_close(one, grad, case.terms)


def _expected(case: Case):
    arrays = case.inputs()
    dy = gradient_for(case.on()(*arrays))
    return arrays, dy, vjp_of(case.on(), arrays, dy)[1]


def _first(y):
    return y[0] if isinstance(y, tuple) else y


def check_half(xp, case: Case) -> None:
    """float16 is computed in float32 and rounded once, forward and backward."""
    if xp.name == "strict":
        pytest.skip("array-api-strict has no float16")
    halves = case.inputs(np.float16)
    floats = [a.astype(np.float32) for a in halves]
    rounded = {
        k: v.astype(np.float16).astype(np.float32) if _is_float(v) else v
        for k, v in case.fixed.items()
    }
    exact = Case(case.id, case.op, case.torch, case.arrays, rounded).on(xp, np.float32)
    dy = gradient_for(case.on(None, np.float16)(*halves))
    y, grads = vjp_of(case.on(xp, np.float16), halves, dy, xp=xp)
    y32, pull = exact.vjp(*map(xp.asarray, floats))
    np.testing.assert_array_equal(y, host(xp, _first(y32)).astype(np.float16))
    for grad, one in zip(grads, pull(xp.asarray(dy.astype(np.float32))), strict=True):
        np.testing.assert_array_equal(grad, host(xp, one).astype(np.float16))


def _is_float(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
