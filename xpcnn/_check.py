"""What sizes and shapes must be, and how it is said where they are not.

Messages restate the call, say what is wrong and then what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real

Ints = tuple[int, ...]
Size = int | Sequence[int]

AXES = {1: ("W",), 2: ("H", "W"), 3: ("D", "H", "W")}
"""Names of the spatial axes."""


def require_axes(call: str, name: str, shape: Ints, axes: Sequence[str]) -> None:
    """Raise ValueError unless the array `name` has these axes; only N, the batch, may be empty.

    >>> require_axes("conv2d", "x", (0, 3, 8, 8), "NCHW")
    """
    if len(shape) != len(axes):
        hint = batch_hint(shape, len(axes)) if axes[0] == "N" else ""
        raise ValueError(
            f"{call}: {name} must be ({', '.join(axes)}); {name} is {tuple(shape)}{hint}"
        )
    if 0 in shape and (
        empty := [a for a, n in zip(axes, shape, strict=True) if a != "N" and not n]
    ):
        raise ValueError(
            f"{call}: {name} {named(axes, shape)} is empty along {empty[0]}; only N may be 0"
        )


def sizes(call: str, name: str, value: Size, rank: int, least: int = 1) -> Ints:
    """One int per axis, from one for all or one for each.

    Raises TypeError for what is no int, ValueError for one below `least` or a wrong number of them.

    >>> sizes("conv2d", "stride", 2, 2), sizes("conv2d", "stride", (2, 1), 2)
    ((2, 2), (2, 1))
    """
    found = entries(value, rank)
    if len(found) == rank and all(is_int(n) and n >= least for n in found):
        return tuple(map(int, found))
    raise kind_of(found)(
        f"{call}: {name}={value!r}; give an int of at least {least}, or one per axis "
        f"({', '.join(AXES[rank])})"
    )


def require_count(call: str, name: str, value: int) -> None:
    """Raise TypeError for what is no int, ValueError for one below 1.

    >>> require_count("conv2d", "groups", 2)
    """
    if not is_int(value) or value < 1:
        raise kind_of([value])(f"{call}: {name}={value!r}; give an int of at least 1")


def require_share(call: str, name: str, value: float) -> None:
    """Raise TypeError for what is no number, ValueError for one outside [0, 1].

    >>> require_share("dropout", "p", 0.5)
    """
    if not isinstance(value, Real) or not 0.0 <= value <= 1.0:
        kind = ValueError if isinstance(value, Real) else TypeError
        raise kind(f"{call}: {name} must lie in [0, 1]; it is {value!r}")


def require_channels(call: str, shape: Ints, axis: str = "C") -> None:
    """Raise ValueError unless x is (N, C, *space), with one channel or more.

    >>> require_channels("group_norm", (0, 3))
    """
    if len(shape) < 2 or not shape[1]:
        raise ValueError(
            f"{call}: x must be (N, {axis}, *space); x is {tuple(shape)}{batch_hint(shape, 2)}"
        )


def is_int(value: object) -> bool:
    """Whether `value` is an integer, of Python or NumPy, and neither a bool nor an array.

    >>> is_int(2), is_int(2.0), is_int(True)
    (True, False, False)
    """
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def entries(value: object, count: int) -> tuple:
    """An int `count` times; the entries of a sequence; anything else by itself."""
    if is_int(value):
        return (value,) * count
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def kind_of(entries: Sequence) -> type[Exception]:
    return ValueError if all(map(is_int, entries)) else TypeError


def batch_hint(x_shape: Ints, rank: int) -> str:
    unbatched = len(x_shape) == rank - 1 and 0 not in x_shape
    return ": pass x[None, ...] for a batch of one" if unbatched else ""


def named(axes: Sequence[str], shape: Ints) -> str:
    return f"({', '.join(f'{axis}={n}' for axis, n in zip(axes, shape, strict=True))})"
