"""Mixed precision: weights in float32, forward and backward in half, and a scaled loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from .._xp import Array, device_of, namespace
from ..layers import tree
from ..layers.tree import Tree
from ..ops._op import HALF
from ._options import python_number, settle, settle_count
from .optimizer import State, Wrapper

LEAST, LARGEST = 2.0**-126, 2.0**127
"""What the scale stays between: a normal float32, never 0 or infinite."""


@dataclass(frozen=True)
class MixedPrecision(Wrapper):
    """An optimizer of float32 weights whose forward and backward passes are in half precision.

    `working` rounds the parameters to `dtype`, "float16" or "bfloat16", but not the buffers, whose
    small changes it would lose. The loss is computed in float32 and its gradient multiplied by
    `loss_scale`, so that small gradients do not become 0; `unscaled` divides by it again, in
    float32. A step whose gradients are not all finite changes neither weights nor what the wrapped
    optimizer keeps, its count of steps included, and multiplies the scale by `backoff_factor`;
    `growth_interval` finite steps in a row multiply it by `growth_factor`. Nothing is read from the
    device. The state's "step", which schedules go by, counts every step; "taken" those that were
    not skipped.

    Raises ValueError for options out of range, TypeError for weights that are not float32 and for
    a `dtype` that their library lacks.

    >>> import numpy as np
    >>> from xpcnn.optim import SGD
    >>> optimizer = MixedPrecision(SGD(1.0), init_scale=8.0)
    >>> weights = {"0": {"bias": np.ones(2, np.float32)}}
    >>> state = optimizer.init(weights)
    >>> optimizer.working(weights)["0"]["bias"].dtype, optimizer.loss_scale(state)
    (dtype('float16'), array(8., dtype=float32))
    >>> grads = {"0": {"bias": np.asarray([np.inf, 1.0], np.float16)}}
    >>> grads = optimizer.unscaled(grads, state)
    >>> weights, state = optimizer.update(weights, grads, state)
    >>> weights["0"]["bias"], state["step"], state["taken"], optimizer.loss_scale(state)
    (array([1., 1.], dtype=float32), 1, array(0, dtype=int32), array(4., dtype=float32))

    Source: Micikevicius et al., "Mixed precision training", 2018; torch.amp.GradScaler.
    """

    dtype: str = "float16"
    init_scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    own = ("taken", "scale", "streak")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in HALF:
            raise ValueError(f"MixedPrecision(dtype={self.dtype!r}): give 'float16' or 'bfloat16'")
        settle(self, "init_scale", least=LEAST, below=LARGEST)
        settle(self, "growth_factor", least=1.0)
        settle(self, "backoff_factor", least=LEAST, below=1.0)
        settle_count(self, "growth_interval", least=1)

    def init(self, weights: Tree) -> State:
        state, flat = self.optimizer.init(weights), tree.flatten(weights)
        for name, w in flat.items():
            if w.dtype != namespace(w).float32:
                raise TypeError(
                    f"MixedPrecision.init: {name!r} is {w.dtype}; give weights in float32, of "
                    "which `working` makes half precision"
                )
        if not flat:
            raise ValueError("MixedPrecision.init: weights holds no array; pass at least one")
        xp, device = namespace(w), device_of(w)
        return state | {
            "taken": xp.zeros((), dtype=xp.int32, device=device),
            "scale": xp.full((), self.init_scale, dtype=xp.float32, device=device),
            "streak": xp.zeros((), dtype=xp.int32, device=device),
        }

    def working(self, params: Tree) -> Tree:
        flat = tree.flatten(self.optimizer.working(params))
        return tree.unflatten(
            {name: w if tree.is_buffer(name) else self._rounded(w) for name, w in flat.items()}
        )

    def loss_scale(self, state: State) -> Array:
        _, own = self._parted("loss_scale", state)
        return own["scale"]

    def unscaled(self, grads: Tree, state: State) -> Tree:
        _, own = self._parted("unscaled", state)
        xp = namespace(own["scale"])
        return tree.map(lambda g: xp.astype(g, xp.float32) / own["scale"], grads)

    def update(
        self, weights: Tree, grads: Tree, state: State, lr: float | Array | None = None
    ) -> tuple[dict[str, Any], State]:
        inner, own = self._parted("update", state)
        step = python_number(state["step"])
        lr = self.rate(step) if lr is None else lr
        taken = inner | {"step": own["taken"]}
        new_weights, new = self.optimizer.update(weights, grads, taken, lr)

        xp, finite = namespace(own["scale"]), _all_finite(grads)

        def choose(new: Array, old: Array) -> Array:
            return xp.where(finite, new, old)

        kept = {name: tree.map(choose, new[name], inner[name]) for name in inner if name != "step"}
        own = {"taken": choose(own["taken"] + 1, own["taken"])} | self._adapted(own, finite)
        return tree.map(choose, new_weights, weights), {"step": step + 1, **kept, **own}

    def _adapted(self, own: State, finite: Array) -> State:
        """The scale after a step, and how many finite ones in a row it has seen."""
        scale, streak = own["scale"], own["streak"] + 1
        xp, grows = namespace(scale), streak == self.growth_interval
        grown = xp.clip(scale, max=LARGEST / self.growth_factor) * self.growth_factor
        shrunk = xp.clip(scale * self.backoff_factor, min=LEAST)
        zero = xp.zeros_like(own["streak"])
        return {
            "scale": xp.where(finite, xp.where(grows, grown, scale), shrunk),
            "streak": xp.where(finite & ~grows, streak, zero),
        }

    def _rounded(self, w: Array) -> Array:
        xp = namespace(w)
        if not hasattr(xp, self.dtype):
            raise TypeError(
                f"MixedPrecision(dtype={self.dtype!r}): {xp.__name__} has no {self.dtype}; "
                "train in float32 there"
            )
        return xp.astype(w, getattr(xp, self.dtype))


def _all_finite(grads: Tree) -> Array:
    """Whether all entries are finite: a 0-d array on their device."""
    leaves = tree.leaves(grads)
    xp = namespace(leaves[0])
    return reduce(xp.logical_and, (xp.all(xp.isfinite(g)) for g in leaves))
