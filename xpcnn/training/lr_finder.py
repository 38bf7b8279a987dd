"""Which learning rate? Train a few steps with an ever larger one, and look at the loss."""

from __future__ import annotations

import math
from itertools import chain, count, islice
from typing import NamedTuple

from .. import random
from .._xp import Array
from .classifier import Classifier
from .trainer import ORDER

SMOOTHING = 0.9  # of the running mean of losses
MARGIN = 10.0  # below the rate from which on the loss grows
DIVERGED = 4.0  # times the least loss: the rate is too large by now


class Rates(NamedTuple):
    """Learning rates, growing, the smoothed loss at each, and the one suggested."""

    rates: list[float]
    losses: list[float]
    suggested: float


def find_lr(
    net: Classifier,
    x: Array,
    y: Array,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> Rates:
    """Train fresh weights for some steps at rates from `lowest` to `highest`, growing evenly.

    The classifier stays as it is. The rate suggested is a tenth of the one where the loss is least.
    It ends early when the loss has grown to four times its least. Raises ValueError for rates that
    do not grow, and what `fit` raises for data that do not fit.

    >>> import xpcnn
    >>> x, y = xpcnn.data.digits().train
    >>> found = find_lr(xpcnn.Classifier(xpcnn.models.classic(), device="cpu"), x, y)
    >>> 1e-4 < found.suggested < 1.0
    True

    Source: Smith, "Cyclical learning rates for training neural networks", 2017; Howard and Gugger,
    "fastai: a layered API for deep learning", 2020 (the tenth).
    """
    if not 0.0 < lowest < highest < math.inf or steps < 3:
        raise ValueError(
            f"find_lr(lowest={lowest!r}, highest={highest!r}, steps={steps!r}): rates must grow, "
            "from above 0, in 3 steps or more"
        )
    trainer, card = net.prepare(x, y)
    run = trainer.start(net.draw(trainer.model, card.in_shape, trainer.feed.place))
    params, state = run.params, run.state
    orders = (random.fold_in(random.fold_in(trainer.key, ORDER), epoch) for epoch in count(1))
    batches = chain.from_iterable(map(trainer.feed.batches, orders))
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for number, batch in enumerate(islice(batches, steps), 1):
        rates.append(lowest * (highest / lowest) ** ((number - 1) / (steps - 1)))
        result = trainer.step(trainer.optimizer, params, state, batch, lr=rates[-1])
        params, state = result.params, result.state
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * float(result.loss)
        losses.append(mean / (1.0 - SMOOTHING**number))
        if not losses[-1] <= DIVERGED * min(losses):  # NaN too
            break
    return Rates(rates, losses, rates[losses.index(min(losses))] / MARGIN)
