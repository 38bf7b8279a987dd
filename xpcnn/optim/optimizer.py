"""What an optimizer is: one that steps tensor by tensor, or one that wraps another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast

from .._xp import Array, namespace
from ..layers import tree
from ..layers.tree import Tree
from ._options import python_number, settle
from .schedules import Schedule

State = dict[str, Any]
"""What an optimizer keeps from step to step."""


class Optimizer(ABC):
    """What a training step asks of an optimizer. Nothing given is changed."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """The learning rate after `step` steps."""

    @abstractmethod
    def after(self, history: Any) -> Optimizer:
        """The optimizer for the epoch that follows `history`: its schedule may heed that."""

    @abstractmethod
    def init(self, weights: Tree) -> State:
        """The state before the first step: "step", 0, and what is kept from step to step.

        Raises ValueError for buffers among the weights.
        """

    @abstractmethod
    def update(
        self, weights: Tree, grads: Tree, state: State, lr: float | Array | None = None
    ) -> tuple[dict[str, Any], State]:
        """One step: the new (weights, state). A given `lr` stands in for the optimizer's own.

        Raises ValueError where the names of weights, gradients and state differ, or for buffers.
        """

    def averaged(self, params: Tree, state: State) -> Tree:
        """The parameters to predict with: `params`, save for what the state has averages of."""
        return params

    def working(self, params: Tree) -> Tree:
        """The parameters as the forward pass takes them: `params`, unless precision is mixed."""
        return params

    def loss_scale(self, state: State) -> float | Array:
        """What the gradient of the loss starts from: 1.0, or a 0-d float32 array."""
        return 1.0

    def unscaled(self, grads: Tree, state: State) -> Tree:
        """The gradients that `update` takes, of those of the scaled loss."""
        return grads


class PerTensor(Optimizer):
    """An optimizer whose `_step` says what it does to one tensor.

    `lr` is a number or a schedule (any function of the number of steps done). `exempt=True` spares
    tensors of rank below 2 from `weight_decay`: biases, and the scales and shifts of norms.
    """

    lr: float | Callable[[int], float]
    weight_decay: float
    exempt: bool

    def __post_init__(self) -> None:
        settle(self, "weight_decay")
        if not callable(self.lr):
            settle(self, "lr")

    def rate(self, step: int) -> float:
        return float(self.lr(step) if callable(self.lr) else self.lr)

    def after(self, history: Any) -> Optimizer:
        if not isinstance(self.lr, Schedule):
            return self
        return replace(cast(Any, self), lr=self.lr.after(history))

    def init(self, weights: Tree) -> State:
        refuse_buffers(f"{type(self).__name__}.init", "weights", tree.flatten(weights))
        return {"step": 0} | {
            name: tree.map(partial(self._first, name), weights) for name in self._kept()
        }

    def update(
        self, weights: Tree, grads: Tree, state: State, lr: float | Array | None = None
    ) -> tuple[dict[str, Any], State]:
        kept = self._kept()
        first, *others = self._flat(weights, grads, state)
        step = python_number(state["step"])
        rate = self.rate(step) if lr is None else python_number(lr)

        def act(w: Array, *rest: Array) -> tuple[Array, ...]:
            return self._step(w, *rest, count=beside(step + 1, w), lr=beside(rate, w))

        new = {name: act(w, *(other[name] for other in others)) for name, w in first.items()}
        weights, *trees = (
            tree.unflatten({name: arrays[i] for name, arrays in new.items()})
            for i in range(1 + len(kept))
        )
        return weights, {"step": step + 1, **dict(zip(kept, trees, strict=True))}

    @abstractmethod
    def _kept(self) -> tuple[str, ...]:
        """The names of the trees in the state."""

    def _first(self, name: str, w: Array) -> Array:
        """What the kept tree `name` starts from for one tensor."""
        return namespace(w).zeros_like(w)

    @abstractmethod
    def _step(self, w: Array, g: Array, *kept: Array, count: Any, lr: Any) -> tuple[Array, ...]:
        """One tensor's new weight and what is kept of it, in the step number `count`, from 1."""

    def _decay(self, w: Array) -> float:
        return 0.0 if self.exempt and w.ndim < 2 else self.weight_decay

    def _flat(self, weights: Tree, grads: Tree, state: State) -> list[dict[str, Array]]:
        """Weights, gradients and what is kept by dotted name."""
        call, expected = f"{type(self).__name__}.update", ("step", *self._kept())
        if set(state) != set(expected):
            raise ValueError(
                f"{call}: the state holds {sorted(state)}, not {sorted(expected)}; "
                "take it from this optimizer's init"
            )
        kept = {f"the state's {name}": state[name] for name in self._kept()}
        flat = tree.flatten_alike(call, {"weights": weights, "grads": grads, **kept})
        refuse_buffers(call, "weights", flat[0])
        return flat


@dataclass(frozen=True)
class Wrapper(Optimizer):
    """An optimizer around another: what it does not say itself is the other's.

    Its state is the other's with more in it, under the names `own`. Raises TypeError for what is no
    optimizer, and ValueError for a wrapper within one of its kind.
    """

    optimizer: Optimizer
    own: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        name, inner = type(self).__name__, self.optimizer
        if not isinstance(inner, Optimizer):
            raise TypeError(f"{name}({inner!r}): give an optimizer, such as Adam()")
        while isinstance(inner, Wrapper):
            if type(inner) is type(self):
                raise ValueError(f"{name}: there is another within; give one alone")
            inner = inner.optimizer

    def rate(self, step: int) -> float:
        return self.optimizer.rate(step)

    def after(self, history: Any) -> Optimizer:
        return replace(self, optimizer=self.optimizer.after(history))

    def averaged(self, params: Tree, state: State) -> Tree:
        return self.optimizer.averaged(params, state)

    def working(self, params: Tree) -> Tree:
        return self.optimizer.working(params)

    def loss_scale(self, state: State) -> float | Array:
        return self.optimizer.loss_scale(state)

    def unscaled(self, grads: Tree, state: State) -> Tree:
        return self.optimizer.unscaled(grads, state)

    def _parted(self, call: str, state: State) -> tuple[State, State]:
        """The state of the wrapped optimizer, and this one's own."""
        if missing := set(self.own) - set(state):
            raise ValueError(
                f"{type(self).__name__}.{call}: the state lacks {sorted(missing)}; "
                "take it from this optimizer's init"
            )
        inner = {name: part for name, part in state.items() if name not in self.own}
        return inner, {name: state[name] for name in self.own}


def beside(number: Any, w: Array) -> Any:
    """A 0-d array in float64 beside such weights, else in float32; what is no array, as it is.

    Not in half precision, in which a step could not be counted beyond 2048.
    """
    if isinstance(number, int | float):
        return number
    xp = namespace(w)
    return xp.astype(number, xp.float64 if w.dtype == xp.float64 else xp.float32)


def decayed(g: Array, w: Array, decay: float) -> Array:
    """The gradient with coupled weight decay."""
    return g + decay * w if decay else g


def refuse_buffers(call: str, title: str, names: Iterable[str]) -> None:
    """Raise ValueError for a buffer's name among `names`."""
    for name in names:
        if tree.is_buffer(name):
            raise ValueError(
                f"{call}: {title} holds the buffer {name!r}; part it off with tree.partition"
            )
