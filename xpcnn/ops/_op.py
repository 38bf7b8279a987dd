"""What makes a function an op: checked arguments, float16 in float32, and a pullback rule.

An op stays a plain function: its signature, docstring and help() are those it was written with.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .._xp import Array, device_of, namespace, require_same

HALF = ("float16", "bfloat16")


def op(function: Callable | None = None, *, integers: Sequence[str] = ()) -> Any:
    """Decorate a function on arrays, and let it carry a pullback rule.

    The parameters annotated `Array` or `Array | None` are the array arguments. Before the
    function runs they are checked: one library, one device, floating (those in `integers` may also
    be integers), one floating dtype. float16 and bfloat16 are computed in float32, rounded once.

    `@f.pullback` attaches the rule: a function of the same signature that returns (y, pull), where
    `pull(dy)` gives one entry per array argument: its gradient, a function that computes it (called
    only if it is wanted), or None.

    Source: JAX's custom_vjp and Thinc's callbacks, without a tape.
    """
    if function is None:
        return functools.partial(op, integers=integers)
    call = function.__name__
    places = _array_parameters(function)
    names = tuple(places)

    @functools.wraps(function)
    def forward(*args, **kwargs):
        args, kwargs, rounded = _prepare(call, places, integers, args, kwargs)
        return rounded(function(*args, **kwargs))

    def vjp_of_op(*args, wrt: Sequence[str] | None = None, **kwargs):
        wanted = _wanted(call, names, wrt)
        args, kwargs, rounded = _prepare(call, places, integers, args, kwargs)
        y, rule = forward.rule(*args, **kwargs)
        cotangent = _cotangent(call, y)

        def pull(dy: Array) -> tuple:
            grads = rule(cotangent(dy))
            return tuple(
                rounded(grad() if callable(grad) else grad) if name in wanted else None
                for name, grad in zip(names, grads, strict=True)
            )

        return rounded(y), pull

    def pullback(rule: Callable) -> Callable:
        forward.rule = rule
        return rule

    forward.arrays = names
    forward.pullback = pullback
    forward.vjp = vjp_of_op
    return forward


def vjp(f: Any, *args: Any, wrt: Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, Callable]:
    """Value and pullback of an op, a loss or a layer: y, pull = vjp(f, *args).

    `pull(dy)` maps the gradient of y (of the first, where f returns several) to a tuple with one
    gradient per array argument of f; for a layer, to (grads, dx). `wrt` names the arguments that
    are wanted: the others are None and cost nothing. A pull is pure and may be called twice.

    Raises TypeError for an f that has no pullback rule, ValueError for a name in `wrt` that f lacks.

    >>> import numpy as np
    >>> from xpcnn import ops
    >>> x, w = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]])
    >>> y, pull = vjp(ops.linear, x, w)
    >>> y, pull(np.ones((1, 1)))
    (array([[11.]]), (array([[3., 4.]]), array([[1., 2.]]), None))

    Source: vector-Jacobian products as in JAX's jax.vjp.
    """
    rule = getattr(f, "vjp", None)
    if rule is None:
        raise TypeError(f"vjp: {f!r} has no pullback; pass an op of xpcnn.ops, a loss or a layer")
    return rule(*args, wrt=wrt, **kwargs)


def _array_parameters(function: Callable) -> dict[str, int]:
    """Names of the array arguments, with their positions."""
    parameters = enumerate(inspect.signature(function).parameters.values())
    return {p.name: place for place, p in parameters if str(p.annotation).startswith("Array")}


def _wanted(call: str, names: tuple[str, ...], wrt: Sequence[str] | None) -> Sequence[str]:
    unknown = set(wrt or ()) - set(names)
    if unknown or isinstance(wrt, str):
        raise ValueError(f"vjp of {call}: wrt={wrt!r}; give a tuple of some of {names}")
    return names if wrt is None else wrt


def _prepare(call, places, integers, args, kwargs):
    """Check the array arguments; upcast half precision and return what rounds results back."""
    given = {
        name: args[place] if place < len(args) else kwargs.get(name)
        for name, place in places.items()
    }
    given = {name: x for name, x in given.items() if x is not None}
    if not given:
        return args, kwargs, _unchanged
    require_same(call, given)
    floating = _one_floating_dtype(call, given, integers)
    if not floating or _dtype_name(floating[1]) not in HALF:
        return args, kwargs, _unchanged
    half = floating[1]
    args = tuple(_float32(x) if i in places.values() else x for i, x in enumerate(args))
    kwargs = {name: _float32(x) if name in places else x for name, x in kwargs.items()}
    return args, kwargs, functools.partial(_round, half)


def _one_floating_dtype(call, given, integers):
    xp = namespace(next(iter(given.values())))
    floating = None
    for name, x in given.items():
        if not xp.isdtype(x.dtype, "real floating"):
            if name in integers and xp.isdtype(x.dtype, "integral"):
                continue
            raise TypeError(
                f"{call}: {name} must be floating, not {_dtype_name(x.dtype)}; "
                "convert it, for example to float32"
            )
        if floating and x.dtype != floating[1]:
            raise TypeError(
                f"{call}: {floating[0]} is {_dtype_name(floating[1])} and {name} is "
                f"{_dtype_name(x.dtype)}; convert one, so that both share a dtype"
            )
        floating = floating or (name, x.dtype)
    return floating


def _dtype_name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def _unchanged(y: Any) -> Any:
    return y


def _float32(x: Any) -> Any:
    xp = namespace(x) if x is not None else None
    return x if x is None or not xp.isdtype(x.dtype, "real floating") else xp.astype(x, xp.float32)


def _round(half: Any, y: Any) -> Any:
    if isinstance(y, tuple):
        return tuple(_round(half, part) for part in y)
    xp = namespace(y) if y is not None else None
    return xp.astype(y, half) if y is not None and y.dtype == xp.float32 else y


def _cotangent(call: str, y: Any) -> Callable:
    """A function that checks a gradient against y; it holds y's shape and dtype, not y."""
    y = y[0] if isinstance(y, tuple) else y
    xp, shape, dtype, device = namespace(y), tuple(y.shape), y.dtype, device_of(y)

    def checked(dy: Any) -> Array:
        if isinstance(dy, int | float):
            dy = xp.asarray(float(dy), dtype=dtype, device=device)
        if tuple(dy.shape) != shape:
            raise ValueError(f"{call}: pull needs the gradient of y {shape}; dy is {tuple(dy.shape)}")
        return dy if dy.dtype == dtype else xp.astype(dy, dtype)

    return checked
