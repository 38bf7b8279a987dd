"""Optimizers and learning rates: pure updates of weight trees, with PyTorch's meaning.

>>> import numpy as np
>>> optimizer = SGD(Cosine(0.1, steps=1000, warmup=50), momentum=0.9, weight_decay=5e-4)
>>> weights, grads = {"0": {"bias": np.ones(2)}}, {"0": {"bias": np.ones(2)}}
>>> state = optimizer.init(weights)
>>> weights, state = optimizer.update(weights, grads, state)

Nothing given is changed. Optimizers see weights alone: `layers.tree.partition` takes the buffers
out of parameters and gradients. A state is a tree as well, {"step": steps done, ...}, of arrays and
that one integer, to save.

`Averaged` and `MixedPrecision` wrap an optimizer, or each other. A step that serves them all (of a
model without buffers; `training.train_step` serves any):

>>> from xpcnn import layers, ops, random, vjp
>>> def step(model, optimizer, params, state, x, y):
...     logits, pull = model.vjp(optimizer.working(params), x)
...     loss, loss_pull = vjp(ops.cross_entropy, logits, y)
...     grads, dx = pull(loss_pull(optimizer.loss_scale(state))[0])
...     return optimizer.update(params, optimizer.unscaled(grads, state), state)
>>> model, optimizer = layers.Linear(2), Averaged(SGD(0.1))
>>> params, _ = model.init(random.key(0), (3,))
>>> x, y = np.ones((1, 3), np.float32), np.asarray([1])
>>> params, state = step(model, optimizer, params, optimizer.init(params), x, y)
>>> state["step"]
1

Predict with `optimizer.averaged(params, state)`. At an epoch's start, `optimizer.after(history)` is
the optimizer whose schedule has seen how training went.

Under jax.jit the step is traced, and a schedule, which counts on the host, cannot be asked: pass
`lr = optimizer.rate(step)` into the jitted function and on to `update(..., lr=lr)`.
"""

from __future__ import annotations

from .adagrad import Adagrad
from .adam import Adam, AdamW, NAdam
from .averaging import Averaged
from .clipping import clip_by_global_norm
from .lars import LARS
from .lion import Lion
from .mixed_precision import MixedPrecision
from .optimizer import Optimizer, PerTensor, State, Wrapper
from .rmsprop import RMSprop
from .schedules import Constant, Cosine, Exponential, OneCycle, Plateau, Schedule, Step
from .sgd import SGD

__all__ = [
    "LARS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Averaged",
    "Constant",
    "Cosine",
    "Exponential",
    "Lion",
    "MixedPrecision",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "PerTensor",
    "Plateau",
    "RMSprop",
    "Schedule",
    "State",
    "Step",
    "Wrapper",
    "clip_by_global_norm",
]
