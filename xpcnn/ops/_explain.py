"""Which engine takes a call, by which algorithm, and why."""

from __future__ import annotations

from typing import Any

from .. import engines
from .._xp import namespace
from ..engines.settings import Choice


class Explanation(tuple[Choice, ...]):
    """The choices a call takes, in order: tuples (verb, engine, algorithm, why), shown as a table.

    It is empty where everything is Array API code, of which engines know nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        if not self:
            return "no engine is asked: Array API code alone"
        widths = [max(map(len, column)) for column in zip(*self, strict=True)]
        lines = (zip(choice, widths, strict=True) for choice in self)
        return "\n".join("  ".join(s.ljust(n) for s, n in line).rstrip() for line in lines)


def explain(f: Any, *args: Any, **options: Any) -> Explanation:
    """Run a call of an op, a loss or a layer once, and tell which engine took each verb, and why.

    The gradients are run too, where there are any: not for integers, nor for other functions. Give
    what `vjp` takes: explain(ops.conv2d, x, w, padding=1), explain(model, params, x, key=key). The
    settings of `use` hold, so that it shows what they change.

    Raises TypeError for what cannot be called, and whatever the call raises.

    >>> import numpy as np, xpcnn
    >>> with xpcnn.use("generic"):
    ...     xpcnn.explain(xpcnn.ops.conv1d, np.ones((1, 1, 4)), np.ones((1, 1, 3)))
    conv     generic
    conv_dx  generic
    conv_dw  generic

    Source: SQL's EXPLAIN.
    """
    if not callable(f):
        raise TypeError(
            f"explain: {type(f).__name__} objects cannot be called; pass an op of xpcnn.ops, a "
            "loss or a layer, and its arguments"
        )
    rule = getattr(f, "vjp", None)
    with engines.noted() as choices:
        if rule and any(map(_is_floating, (*args, *options.values()))):
            y, pull = rule(*args, **options)
            y = y[0] if isinstance(y, tuple) else y
            pull(namespace(y).ones_like(y))
        else:
            f(*args, **options)
    return Explanation(choices)


def _is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and namespace(x).isdtype(x.dtype, "real floating")
