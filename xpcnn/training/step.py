"""One step of training: a pure function from parameters to parameters."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import partial, reduce
from typing import Any, NamedTuple

from .. import ops
from .._xp import Array, device_of, namespace
from ..layers import Layer, tree
from ..layers.base import pull_last
from ..layers.tree import Tree
from ..ops._op import widened
from ..optim import Optimizer, State, clip_by_global_norm
from ..random import Key, fold_in
from .ranks import ALONE, Ranks


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
    accumulate: int = 1,
    ranks: Ranks = ALONE,
    share: float = 1.0,
) -> StepResult:
    """Forward, backward, update: on a batch x (N, ...) with labels y.

    Labels are integers (N,), or probabilities (N, K) where the loss takes such. `state` is the
    optimizer's, over the trainable weights (`init_state`). `key` feeds dropout, `loss` is an op of
    (logits, y), `max_norm` clips the joint norm of the gradients, `lr` stands in for the
    optimizer's own rate (inside jax.jit it must be given where that is a schedule). `accumulate`
    takes the batch in so many parts, one after another, and adds up their gradients: memory for one
    part alone. `share` is the part of a larger batch that this one is, the rest being those of the
    other `ranks`, who sum up. Nothing given is changed, nothing is read from the device: a loss
    that became NaN is seen when it is read.

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
    scale, working = optimizer.loss_scale(state), optimizer.working(params)

    def found(x: Array, y: Array, key: Key | None, share: float) -> Tree:
        if not x.shape[0]:  # there are more ranks than images
            return _nothing(model.trainable(params), x)
        both, value, correct = _gradients(model, working, x, y, key, loss, share * scale)
        grads, buffers = tree.partition(both)
        both = tree.merge(optimizer.unscaled(grads, state), _times(share, buffers))
        return {"both": both, "loss": value * share, "correct": correct}

    parts = (found(*part) for part in _parts(x, y, key, share, accumulate))
    sums = ranks.sum(reduce(partial(tree.map, operator.add), parts))
    grads, buffers = tree.partition(sums["both"])
    if max_norm is not None:
        grads, _ = clip_by_global_norm(grads, max_norm)
    weights, _ = tree.partition(model.trainable(params))
    weights, state = optimizer.update(weights, grads, state, lr)
    new = tree.flatten(params) | tree.flatten(weights) | tree.flatten(buffers)
    return StepResult(tree.unflatten(new), state, sums["loss"], sums["correct"])


def init_state(model: Layer, optimizer: Optimizer, params: Tree) -> State:
    """The optimizer's first state over the weights that the model trains."""
    return optimizer.init(tree.partition(model.trainable(params))[0])


def count_correct(logits: Array, y: Array) -> Array:
    """How many rows of logits (N, K) are largest at their label: a 0-d integer array.

    Labels are integers (N,), or probabilities (N, K), of which the largest counts.
    """
    xp = namespace(logits)
    best = xp.argmax(logits, axis=1)
    hits = best == (xp.argmax(y, axis=1) if y.ndim > 1 else xp.astype(y, best.dtype))
    return xp.sum(xp.astype(hits, xp.int32), dtype=xp.int32)


def _parts(
    x: Array, y: Array, key: Key | None, share: float, count: int
) -> Iterator[tuple[Array, Array, Key | None, float]]:
    """The batch in `count` parts of neighbours, or fewer that hold an image each."""
    images = x.shape[0]
    count = max(1, min(count, images))
    if count == 1:
        yield x, y, key, share
        return
    for number in range(count):
        start, stop = images * number // count, images * (number + 1) // count
        own = None if key is None else fold_in(key, number)
        here = slice(start, stop)
        yield x[here, ...], y[here, ...], own, share * (stop - start) / images


def _gradients(
    model: Layer, params: Tree, x: Array, y: Array, key: Key | None, loss: Any, scale: Any
) -> tuple[Tree, Array, Array]:
    """Gradients times `scale`, and the loss and the correct answers themselves.

    The loss of half precision is computed, and scaled, in float32. What the pulls hold is let go
    as it is used.
    """
    logits, pull = model.vjp(params, x, key=key, wrt=("params",))
    logits = widened(logits)
    value, loss_pull = loss.vjp(logits, y, wrt=("x",))
    grads, _ = pull_last(pull, loss_pull(scale)[0])
    return grads, value, count_correct(logits, y)


def _nothing(trainable: Tree, x: Array) -> Tree:
    """What a part of no images adds."""
    xp, place = namespace(x), device_of(x)
    return {
        "both": tree.map(xp.zeros_like, trainable),
        "loss": xp.zeros((), dtype=tree.leaves(trainable)[0].dtype, device=place),
        "correct": xp.zeros((), dtype=xp.int32, device=place),
    }


def _times(share: float, buffers: Tree) -> Tree:
    return buffers if share == 1.0 else tree.map(lambda buffer: share * buffer, buffers)
