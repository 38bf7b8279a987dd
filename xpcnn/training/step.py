"""One step of training: a pure function from parameters to parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import ops
from .._xp import Array, namespace
from ..layers import Layer, tree
from ..layers.base import pull_last
from ..layers.tree import Tree
from ..optim import Optimizer, State, clip_by_global_norm
from ..random import Key


class StepResult(NamedTuple):
    """What a step leaves: new parameters and optimizer state; loss and correct answers, 0-d."""

    params: Tree
    state: State
    loss: Array
    correct: Array


def train_step(
    model: Layer,
    optimizer: Optimizer,
    params: Tree,
    state: State,
    x: Array,
    y: Array,
    *,
    key: Key | None = None,
    loss: Any = ops.cross_entropy,
    max_norm: float | None = None,
    lr: float | Array | None = None,
) -> StepResult:
    """Forward, backward, update: on a batch x (N, ...) with integer labels y (N,).

    `state` is the optimizer's, over the trainable weights (`init_state`). `key` feeds dropout,
    `loss` is an op of (logits, y), `max_norm` clips the joint norm of the gradients, `lr` stands in
    for the optimizer's own rate (inside jax.jit it must be given where that is a schedule). Nothing
    given is changed, nothing is read from the device: a loss that became NaN is seen when it is
    read.

    >>> import numpy as np
    >>> from xpcnn import layers, optim, random
    >>> model, sgd = layers.Sequential(layers.Linear(2)), optim.SGD(0.1)
    >>> params, _ = model.init(random.key(0), (3,))
    >>> x, y = np.ones((4, 3), np.float32), np.asarray([0, 1, 1, 1])
    >>> done = train_step(model, sgd, params, init_state(model, sgd, params), x, y)
    >>> done.state["step"], done.loss.dtype
    (1, dtype('float32'))

    Source: the update that torch.optim's step() makes.
    """
    logits, value, both = _gradients(model, params, x, y, key, loss)
    grads, buffers = tree.partition(both)
    if max_norm is not None:
        grads, _ = clip_by_global_norm(grads, max_norm)
    weights, _ = tree.partition(model.trainable(params))
    weights, state = optimizer.update(weights, grads, state, lr)
    new = tree.flatten(params) | tree.flatten(weights) | tree.flatten(buffers)
    return StepResult(tree.unflatten(new), state, value, count_correct(logits, y))


def _gradients(
    model: Layer, params: Tree, x: Array, y: Array, key: Key | None, loss: Any
) -> tuple[Array, Array, Tree]:
    """Logits, loss, and gradients. What the pulls hold is let go as it is used."""
    logits, pull = model.vjp(params, x, key=key, wrt=("params",))
    value, loss_pull = loss.vjp(logits, y, wrt=("x",))
    return logits, value, pull_last(pull, loss_pull(1.0)[0])[0]


def init_state(model: Layer, optimizer: Optimizer, params: Tree) -> State:
    """The optimizer's first state over the weights that the model trains."""
    return optimizer.init(tree.partition(model.trainable(params))[0])


def count_correct(logits: Array, y: Array) -> Array:
    """How many rows of logits (N, K) are largest at their label: a 0-d integer array."""
    xp = namespace(logits)
    best = xp.argmax(logits, axis=1)
    hits = best == xp.astype(y, best.dtype)
    return xp.sum(xp.astype(hits, xp.int32))
