"""Optimizers and learning rates: pure updates of weight trees, with PyTorch's meaning.

    optimizer = SGD(Cosine(0.1, steps=1000, warmup=50), momentum=0.9, weight_decay=5e-4)
    state = optimizer.init(weights)
    weights, state = optimizer.update(weights, grads, state)

Nothing given is changed. Optimizers see weights alone: `layers.tree.partition` takes the buffers
out of parameters and gradients. A state is a tree as well, {"step": steps done, ...}, to save.

Under jax.jit the step is traced, and a schedule, which counts on the host, cannot be asked: pass
`lr = optimizer.rate(step)` into the jitted function and on to `update(..., lr=lr)`.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from ._xp import Array, namespace
from .layers import tree
from .layers.tree import Tree
from .ops._offered import offered

State = dict[str, Any]

_Whole = int | np.integer
_Real = _Whole | float | np.floating


@dataclass(frozen=True)
class Schedule:
    """A learning rate by step: called with the number of steps done, it returns a Python float.

    The first `warmup` steps climb evenly: step t takes (t + 1) / (warmup + 1) of what the schedule
    has without. Steps count from 0, the warm-up's among them.

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017 (warm-up).
    """

    lr: float
    _: KW_ONLY
    warmup: int = 0

    def __post_init__(self) -> None:
        _settle(self, "lr")
        _settle_count(self, "warmup", least=0)

    def __call__(self, step: int) -> float:
        """The rate after `step` steps."""
        return self._plain(step) * min(1.0, (step + 1) / (self.warmup + 1))

    def _plain(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate always, after the warm-up.

    >>> [Constant(1.0, warmup=3)(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """


@dataclass(frozen=True)
class Step(Schedule):
    """The rate times `factor` after each `every` steps.

    >>> [Step(1.0, every=2, factor=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _settle(self, "factor")
        _settle_count(self, "every", least=1)

    def _plain(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `lr` at the end of the warm-up to `final` at step `steps`, and on.

    >>> [round(Cosine(1.0, steps=4)(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """

    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _settle(self, "final")
        _settle_count(self, "steps", least=1)
        if self.steps <= self.warmup:
            raise ValueError(
                f"Cosine(steps={self.steps}, warmup={self.warmup}): the warm-up takes all steps; "
                "steps counts them all, so it must be more than warmup"
            )

    def _plain(self, step: int) -> float:
        done = (step - self.warmup) / (self.steps - self.warmup)
        share = 0.5 + 0.5 * math.cos(math.pi * min(max(done, 0.0), 1.0))
        return self.final + (self.lr - self.final) * share


class Optimizer(ABC):
    """What optimizers share; their `_step` says what each does to a tensor.

    `lr` is a number or a schedule (any function of the number of steps done). `exempt=True` spares
    tensors of rank below 2 from `weight_decay`: biases, and the scales and shifts of norms.
    """

    lr: float | Callable[[int], float]
    weight_decay: float
    exempt: bool

    def __post_init__(self) -> None:
        _settle(self, "weight_decay")
        if not callable(self.lr):
            _settle(self, "lr")

    def rate(self, step: int) -> float:
        """The learning rate after `step` steps."""
        return float(self.lr(step) if callable(self.lr) else self.lr)

    def init(self, weights: Tree) -> State:
        """The state before the first step: "step", 0, and a tree of zeros for each average kept.

        Raises ValueError for buffers among the weights.
        """
        _refuse_buffers(f"{type(self).__name__}.init", "weights", tree.flatten(weights))
        zeros = {name: tree.map(_zeros_like, weights) for name in self._averages()}
        return {"step": 0, **zeros}

    def update(
        self, weights: Tree, grads: Tree, state: State, lr: float | Array | None = None
    ) -> tuple[dict[str, Any], State]:
        """One step: the new (weights, state). A given `lr` stands in for the optimizer's own.

        Raises ValueError where the names of weights, gradients and state differ, or for buffers.
        """
        averages = self._averages()
        first, *others = self._flat(weights, grads, state)
        step = _python_number(state["step"])
        rate = self.rate(step) if lr is None else _python_number(lr)
        act = partial(self._step, count=step + 1, lr=rate)
        new = {name: act(w, *(other[name] for other in others)) for name, w in first.items()}
        weights, *trees = (
            tree.unflatten({name: arrays[i] for name, arrays in new.items()})
            for i in range(1 + len(averages))
        )
        return weights, {"step": step + 1, **dict(zip(averages, trees, strict=True))}

    @abstractmethod
    def _averages(self) -> tuple[str, ...]:
        """The names of the trees in the state."""

    @abstractmethod
    def _step(self, w: Array, g: Array, *averages: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        """The new weight and averages of one tensor, in the step number `count`, from 1."""

    def _decay(self, w: Array) -> float:
        return 0.0 if self.exempt and w.ndim < 2 else self.weight_decay

    def _flat(self, weights: Tree, grads: Tree, state: State) -> list[dict[str, Array]]:
        """Weights, gradients and averages by dotted name."""
        call, expected = f"{type(self).__name__}.update", ("step", *self._averages())
        if set(state) != set(expected):
            raise ValueError(
                f"{call}: the state holds {sorted(state)}, not {sorted(expected)}; "
                "take it from this optimizer's init"
            )
        averages = {f"the state's {name}": state[name] for name in self._averages()}
        flat = tree.flatten_alike(call, {"weights": weights, "grads": grads, **averages})
        _refuse_buffers(call, "weights", flat[0])
        return flat


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, w = w - lr v, with v = g in the first step.

    `nesterov` goes by g + momentum v instead of v. Decay is coupled: g + weight_decay w is the
    gradient. Raises ValueError for options out of range and for nesterov without momentum.

    >>> optimizer, weights = SGD(0.5, momentum=0.5), {"0": {"weight": np.ones((1, 2))}}
    >>> state = optimizer.init(weights)
    >>> for _ in range(2):
    ...     weights, state = optimizer.update(weights, weights, state)
    >>> weights["0"]["weight"], state["step"]
    (array([[0., 0.]]), 2)

    Source: PyTorch's torch.optim.SGD; Sutskever et al., "On the importance of initialization and
    momentum in deep learning", 2013 (nesterov).
    """

    lr: float | Callable[[int], float] = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    exempt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _settle(self, "momentum", below=1.0)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD(nesterov=True): momentum is 0; give one, such as momentum=0.9")

    def _averages(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _step(self, w: Array, g: Array, *averages: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        velocity = averages[0] if averages else None
        new = _sgd(w, g, velocity, lr, self.momentum, self.nesterov, self._decay(w))
        return new[: 1 + len(averages)]


@offered("sgd")
def _sgd(
    w: Array, g: Array, velocity: Array | None, lr: Any, momentum: float, nesterov: bool,
    decay: float,
) -> tuple[Array, Array | None]:  # fmt: skip
    g = _decayed(g, w, decay)
    if velocity is None:
        return w - lr * g, None
    v = momentum * velocity + g
    return w - lr * (g + momentum * v if nesterov else v), v


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps by the gradient's running mean over the root of its running square.

    Both are corrected for starting at zero; `eps` is added outside the corrected root. Decay is
    coupled, as in SGD. Raises ValueError for options out of range.

    >>> optimizer, weights = Adam(0.5), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"]
    array([0.5, 0.5])

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015; torch.optim.Adam.
    """

    lr: float | Callable[[int], float] = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    exempt: bool = False
    _decoupled = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _settle(self, "eps")
        betas = self.betas if isinstance(self.betas, tuple | list) else ()
        if len(betas) != 2 or not all(isinstance(b, _Real) and 0 <= b < 1 for b in betas):
            raise ValueError(
                f"{type(self).__name__}(betas={self.betas!r}): "
                "betas must be two numbers in [0, 1), such as (0.9, 0.999)"
            )
        object.__setattr__(self, "betas", tuple(float(b) for b in betas))

    def _averages(self) -> tuple[str, ...]:
        return ("mean", "square")

    def _step(self, w: Array, g: Array, *averages: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        decay, decoupled = self._decay(w), self._decoupled
        return _adam(w, g, *averages, lr, *self.betas, self.eps, count, decay, decoupled)


@offered("adam")
def _adam(
    w: Array, g: Array, mean: Array, square: Array, lr: Any, beta1: float, beta2: float,
    eps: float, count: Any, decay: float, decoupled: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if decoupled:
        w = w * (1.0 - lr * decay) if decay else w
    else:
        g = _decayed(g, w, decay)
    mean = beta1 * mean + (1.0 - beta1) * g
    square = beta2 * square + (1.0 - beta2) * g * g
    root = namespace(w).sqrt(square) / (1.0 - beta2**count) ** 0.5
    return w - lr / (1.0 - beta1**count) * (mean / (root + eps)), mean, square


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled decay: w shrinks by 1 - lr weight_decay, and the averages do not see it.

    >>> optimizer, weights = AdamW(0.5, weight_decay=0.5), {"0": {"bias": np.ones(2)}}
    >>> weights, state = optimizer.update(weights, weights, optimizer.init(weights))
    >>> weights["0"]["bias"]
    array([0.25, 0.25])

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; torch.optim.AdamW.
    """

    weight_decay: float = 0.01
    _decoupled = True


def clip_by_global_norm(grads: Tree, max_norm: float) -> tuple[dict[str, Any], Array]:
    """Scale all gradients to a joint 2-norm of at most `max_norm`; also the norm they had, 0-d.

    Gradients within the norm stay the same, bit for bit. The norm stays on its device. (PyTorch
    divides by norm + 1e-6.) Raises ValueError for an empty tree, for buffers, and unless
    max_norm > 0.

    >>> grads, norm = clip_by_global_norm({"0": {"bias": np.array([3.0, 4.0])}}, 1.0)
    >>> grads["0"]["bias"], float(norm)
    (array([0.6, 0.8]), 5.0)

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent networks", 2013.
    """
    if not isinstance(max_norm, _Real) or not 0 < max_norm < math.inf:
        raise ValueError(
            f"clip_by_global_norm(max_norm={max_norm!r}): max_norm must be a finite number > 0"
        )
    _refuse_buffers("clip_by_global_norm", "grads", tree.flatten(grads))
    leaves = tree.leaves(grads)
    if not leaves:
        raise ValueError("clip_by_global_norm: grads holds no array; pass at least one")
    xp, limit = namespace(leaves[0]), float(max_norm)
    norm = xp.sqrt(reduce(operator.add, (xp.sum(g * g) for g in leaves)))
    scale = limit / xp.clip(norm, min=limit)
    return tree.map(lambda g: g * scale, grads), norm


def _decayed(g: Array, w: Array, decay: float) -> Array:
    return g + decay * w if decay else g


def _zeros_like(w: Array) -> Array:
    return namespace(w).zeros_like(w)


def _python_number(x: Any) -> Any:
    """x, or for a NumPy scalar or 0-d array the Python number, which leaves float32 alone."""
    return x.item() if isinstance(x, np.generic | np.ndarray) else x


def _refuse_buffers(call: str, title: str, names: Iterable[str]) -> None:
    for name in names:
        if tree.is_buffer(name):
            raise ValueError(
                f"{call}: {title} holds the buffer {name!r}; part it off with tree.partition"
            )


def _settle(record: Any, name: str, below: float = math.inf) -> None:
    """Hold an option as a Python float, once it is known to lie in [0, below)."""
    value = getattr(record, name)
    call = f"{type(record).__name__}({name}={value!r})"
    if not isinstance(value, _Real):
        raise TypeError(f"{call}: {name} must be a number")
    if not 0 <= value < below:
        raise ValueError(f"{call}: {name} must lie in [0, {below:g})")
    object.__setattr__(record, name, float(value))


def _settle_count(record: Any, name: str, least: int) -> None:
    value = getattr(record, name)
    call = f"{type(record).__name__}({name}={value!r})"
    if not isinstance(value, _Whole):
        raise TypeError(f"{call}: {name} must be an integer")
    if value < least:
        raise ValueError(f"{call}: {name} must be at least {least}")
    object.__setattr__(record, name, int(value))
