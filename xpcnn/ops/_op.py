"""What makes a function an op: checked arguments, float16 in float32, and a pullback rule.

An op stays a plain function: its signature, docstring and help() are those it was written with.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

from .. import engines
from .._xp import Array, namespace, place_of, require_same, require_same_place

HALF = ("float16", "bfloat16")


def op(
    function: Callable | None = None, *, integers: Sequence[str] = (), in_engines: bool = False
) -> Any:
    """Decorate a function on arrays, and let it carry a pullback rule.

    The parameters annotated `Array` or `Array | None` are the array arguments. Before the
    function runs they are checked: one library, one device, floating (those in `integers` may also
    be integers), one floating dtype. float16 and bfloat16 are computed in float32, rounded once:
    all arithmetic of an op `in_engines` is done by engines, and one that does so by itself is given
    them as they are.

    `@f.pullback` attaches the rule: a function of the same signature that returns (y, pull), where
    `pull(dy)` gives one entry per array argument: its gradient, a function that computes it (called
    only if it is wanted), or None.

    Source: JAX's custom_vjp and Thinc's callbacks, without a tape.
    """
    if function is None:
        return functools.partial(op, integers=integers, in_engines=in_engines)
    call = function.__name__
    parameters = _array_parameters(function)
    names = tuple(parameters)

    @functools.wraps(function)
    def forward(*args, **kwargs):
        args, kwargs, rounded, _ = _prepare(call, parameters, integers, in_engines, args, kwargs)
        return rounded(function(*args, **kwargs))

    operation: Any = forward

    def vjp_of_op(*args, wrt: Sequence[str] | None = None, **kwargs):
        asked = wanted(call, names, wrt)
        args, kwargs, rounded, floating = _prepare(
            call, parameters, integers, in_engines, args, kwargs
        )
        if not floating:
            raise TypeError(
                f"vjp of {call}: integers have no gradient; convert them, for example to float32"
            )
        y, rule = operation.rule(*args, **kwargs)
        cotangent = _cotangent(call, y)

        def pull(dy: Array) -> tuple:
            grads = rule(cotangent(dy))
            return tuple(
                rounded(grad() if callable(grad) else grad) if name in asked else None
                for name, grad in zip(names, grads, strict=True)
            )

        return rounded(y), pull

    def pullback(rule: Callable) -> Callable:
        operation.rule = rule
        return rule

    operation.arrays = names
    operation.pullback = pullback
    operation.vjp = vjp_of_op
    return operation


def vjp(
    f: Any, *args: Any, wrt: Sequence[str] | None = None, **kwargs: Any
) -> tuple[Any, Callable]:
    """Value and pullback of an op, a loss or a layer: y, pull = vjp(f, *args).

    `pull(dy)` maps the gradient of y (of the first, where f returns several) to a tuple with one
    gradient per array argument of f; for a layer, to (grads, dx). `wrt` names the arguments that
    are wanted: the others are None and cost nothing. A pull is pure and may be called twice.

    Raises TypeError for an f without a pullback rule, ValueError for a name in `wrt` that f lacks.

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
        name = getattr(f, "__name__", repr(f))
        raise TypeError(f"vjp: {name} has no pullback; pass an op of xpcnn.ops, a loss or a layer")
    return rule(*args, wrt=wrt, **kwargs)


def wanted(call: str, names: tuple[str, ...], wrt: Sequence[str] | None) -> Collection[str]:
    """What `wrt` asks of `names`: all, unless it names some.

    Raises ValueError for anything else.
    """
    if wrt is None:
        return names
    if isinstance(wrt, str) or not isinstance(wrt, Collection) or not set(names).issuperset(wrt):
        raise ValueError(f"vjp of {call}: wrt={wrt!r}; give a tuple of some of {names}")
    return wrt


def _array_parameters(function: Callable) -> dict[str, tuple[int, bool]]:
    """The array arguments by name: (position, whether they may be None)."""
    parameters = enumerate(inspect.signature(function).parameters.values())
    return {
        p.name: (place, "None" in str(p.annotation))
        for place, p in parameters
        if str(p.annotation).startswith("Array")
    }


def _prepare(call, parameters, integers, in_engines, args, kwargs):
    """Check the array arguments; upcast half precision and say what rounds results back.

    The last of the four results is whether any argument is floating.
    """
    given = {}
    for name, (place, optional) in parameters.items():
        x = args[place] if place < len(args) else kwargs.get(name)
        if x is not None:
            given[name] = x
        elif not optional:
            raise TypeError(f"{call}: {name} is missing or None; pass an array")
    require_same(call, given)
    dtype, dtype_name = _floating_dtype(call, given, integers)
    if dtype_name not in HALF:
        return args, kwargs, _unchanged, dtype is not None
    if in_engines and engines.takes_half(next(iter(given.values()))):
        return args, kwargs, functools.partial(_round_value, dtype), True
    places = [place for place, _ in parameters.values()]
    args = tuple(_float32(x) if i in places else x for i, x in enumerate(args))
    kwargs = {name: _float32(x) if name in parameters else x for name, x in kwargs.items()}
    return args, kwargs, functools.partial(_round_value, dtype), True


def _floating_dtype(call: str, given: dict[str, Array], integers: Sequence[str]) -> tuple[Any, str]:
    """The one dtype of the floating arrays, and its name; (None, "") where all are integers."""
    first, found, found_name = "", None, ""
    for name, x in given.items():
        if found is not None and x.dtype == found:
            continue
        kind, dtype_name = _kind_and_name(namespace(x), x.dtype)
        if kind == "integral" and name in integers:
            continue
        if kind != "real floating":
            raise TypeError(
                f"{call}: {name} must be floating{' or integer' * (name in integers)}, not "
                f"{dtype_name}; convert it, for example to float32"
            )
        if found is None:
            first, found, found_name = name, x.dtype, dtype_name
        else:
            raise TypeError(
                f"{call}: {first} is {found_name} and {name} is {dtype_name}; "
                "convert one, so that both share a dtype"
            )
    return found, found_name


@functools.lru_cache
def _kind_and_name(xp: Any, dtype: Any) -> tuple[str, str]:
    """("real floating", "integral" or "", and a name such as "float32")."""
    name = str(dtype).rpartition(".")[2]
    if name in HALF:  # NumPy does not know that ml_dtypes' bfloat16 is floating
        return "real floating", name
    kinds = (kind for kind in ("real floating", "integral") if xp.isdtype(dtype, kind))
    return next(kinds, ""), name


def in_float32(f: Callable, x: Array, *rest: Any) -> Any:
    """f(x, *rest), in float32 and rounded once where x is of half precision."""
    wide = widened(x)
    if wide is x:
        return f(x, *rest)
    others = (_float32(part) if getattr(part, "dtype", None) == x.dtype else part for part in rest)
    return _round(x.dtype, f(wide, *others))


def widened(x: Array) -> Array:
    """x in float32 where it is of half precision, else x itself."""
    return _float32(x) if _kind_and_name(namespace(x), x.dtype)[1] in HALF else x


def _unchanged(y: Any) -> Any:
    return y


def _float32(x: Any) -> Any:
    if x is None:
        return None
    xp = namespace(x)
    kind, _ = _kind_and_name(xp, x.dtype)
    return xp.astype(x, xp.float32) if kind == "real floating" else x


def _round(half: Any, y: Any) -> Any:
    if isinstance(y, tuple):
        return tuple(_round(half, part) for part in y)
    if y is None:
        return None
    xp = namespace(y)
    return xp.astype(y, half) if y.dtype == xp.float32 else y


def _round_value(half: Any, y: Any) -> Any:
    """A value in half precision; what an op gives beside it, a variance say, may not fit there."""
    return (_round(half, y[0]), *y[1:]) if isinstance(y, tuple) else _round(half, y)


def _cotangent(call: str, y: Any) -> Callable:
    """A function that checks a gradient against y; it holds what y is like, not y."""
    y = y[0] if isinstance(y, tuple) else y
    xp, shape, dtype, here = namespace(y), tuple(y.shape), y.dtype, place_of(call, "y", y)

    def checked(dy: Any) -> Array:
        if isinstance(dy, int | float):
            dy = xp.asarray(float(dy), dtype=dtype, device=here[1])
        require_same_place(call, ("y", here), ("dy", place_of(call, "dy", dy)))
        if tuple(dy.shape) != shape:
            raise ValueError(
                f"{call}: pull needs the gradient of y {shape}; dy is {tuple(dy.shape)}"
            )
        if dy.dtype == dtype:
            return dy
        _floating_dtype(call, {"dy": dy}, ())
        return xp.astype(dy, dtype)

    return checked
