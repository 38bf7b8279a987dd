"""Activation layers, each one op. Only PReLU has parameters."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ops
from .base import Layer, OpLayer, Parameter, Shape


@dataclass(frozen=True, repr=False)
class ReLU(OpLayer):
    """max(x, 0): `ops.relu`."""

    op = staticmethod(ops.relu)


@dataclass(frozen=True, repr=False)
class ReLU6(OpLayer):
    """x clipped to [0, 6]: `ops.relu6`."""

    op = staticmethod(ops.relu6)


CLIPS: dict[type[Layer], tuple[float, float | None]] = {ReLU: (0.0, None), ReLU6: (0.0, 6.0)}
"""The bounds to which these layers clip, and nothing else."""


@dataclass(frozen=True, repr=False)
class LeakyReLU(OpLayer):
    """x, or negative_slope * x below 0: `ops.leaky_relu`."""

    negative_slope: float = 0.01

    op = staticmethod(ops.leaky_relu)


@dataclass(frozen=True, repr=False)
class ELU(OpLayer):
    """x, or alpha * (exp(x) - 1) below 0: `ops.elu`."""

    alpha: float = 1.0

    op = staticmethod(ops.elu)


@dataclass(frozen=True, repr=False)
class SELU(OpLayer):
    """ELU scaled to keep mean and variance: `ops.selu`."""

    op = staticmethod(ops.selu)


@dataclass(frozen=True, repr=False)
class GELU(OpLayer):
    """x * Phi(x); approximate="tanh" by tanh: `ops.gelu`."""

    approximate: str = "none"

    op = staticmethod(ops.gelu)


@dataclass(frozen=True, repr=False)
class SiLU(OpLayer):
    """x * sigmoid(x): `ops.silu`."""

    op = staticmethod(ops.silu)


@dataclass(frozen=True, repr=False)
class Mish(OpLayer):
    """x * tanh(softplus(x)): `ops.mish`."""

    op = staticmethod(ops.mish)


@dataclass(frozen=True, repr=False)
class Softplus(OpLayer):
    """log(1 + exp(beta * x)) / beta: `ops.softplus`."""

    beta: float = 1.0
    threshold: float = 20.0

    op = staticmethod(ops.softplus)


@dataclass(frozen=True, repr=False)
class Hardswish(OpLayer):
    """x * relu6(x + 3) / 6: `ops.hardswish`."""

    op = staticmethod(ops.hardswish)


@dataclass(frozen=True, repr=False)
class Hardsigmoid(OpLayer):
    """relu6(x + 3) / 6: `ops.hardsigmoid`."""

    op = staticmethod(ops.hardsigmoid)


@dataclass(frozen=True, repr=False)
class Sigmoid(OpLayer):
    """1 / (1 + exp(-x)): `ops.sigmoid`."""

    op = staticmethod(ops.sigmoid)


@dataclass(frozen=True, repr=False)
class Tanh(OpLayer):
    """tanh(x): `ops.tanh`."""

    op = staticmethod(ops.tanh)


@dataclass(frozen=True, repr=False)
class Softmax(OpLayer):
    """exp(x) over its sum along dim: `ops.softmax`."""

    dim: int = 1

    op = staticmethod(ops.softmax)


@dataclass(frozen=True, repr=False)
class LogSoftmax(OpLayer):
    """logarithm of the softmax along dim: `ops.log_softmax`."""

    dim: int = 1

    op = staticmethod(ops.log_softmax)


@dataclass(frozen=True, repr=False)
class PReLU(OpLayer):
    """x, or weight * x below 0, with weight (num_parameters,) learned: `ops.prelu`.

    `num_parameters` is 1 or the number of channels.

    Source: torch.nn.PReLU; He et al., "Delving deep into rectifiers", 2015.
    """

    num_parameters: int = 1
    start: float = 0.25

    op = staticmethod(ops.prelu)
    weights = ("weight",)
    own = ("num_parameters", "start")

    def parameters(self, in_shape: Shape) -> dict[str, Parameter]:
        return {"weight": Parameter((self.num_parameters,), self.start)}
