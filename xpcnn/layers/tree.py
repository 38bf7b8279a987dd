"""Functions on parameter trees: nested dicts of arrays, by layer and name.

Flattened, names are dotted as in PyTorch: "features.0.weight". Trees are matched by name, never by
the order of a dict, which jax.jit sorts ("10" before "2"); an empty dict holds nothing and is
dropped. No function changes a tree or copies an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._xp import Array

Tree = Mapping[str, Any]
"""A nested dict of arrays."""

BUFFERS = frozenset({"running_mean", "running_var"})
"""The names of what a layer keeps but no optimizer trains."""


def flatten(tree: Tree) -> dict[str, Array]:
    """The arrays by dotted name, in the tree's own order.

    Raises ValueError for a name that is empty, no string or has a dot of its own, TypeError for
    what is no dict.

    >>> flatten({"0": {"weight": 1.0, "bias": 2.0}, "2": {"weight": 3.0}})
    {'0.weight': 1.0, '0.bias': 2.0, '2.weight': 3.0}
    """
    if not isinstance(tree, Mapping):
        raise TypeError(
            f"flatten: a tree is a dict of arrays and such dicts; this is a {type(tree).__name__}"
        )
    flat: dict[str, Array] = {}
    _collect(tree, "", flat)
    return flat


def _collect(tree: Tree, path: str, flat: dict[str, Array]) -> None:
    for name, node in tree.items():
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"flatten: {name!r} is no name; use a string without a dot")
        if isinstance(node, Mapping):
            _collect(node, f"{path}{name}.", flat)
        else:
            flat[path + name] = node


def unflatten(flat: Mapping[str, Array]) -> dict[str, Any]:
    """The tree of arrays by dotted name: the inverse of `flatten`.

    Raises ValueError where one name is both an array and a layer.

    >>> unflatten({"0.weight": 1.0, "0.bias": 2.0, "2.weight": 3.0})
    {'0': {'weight': 1.0, 'bias': 2.0}, '2': {'weight': 3.0}}
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"unflatten: {name!r} lies below the name of an array")
        if last in node:
            raise ValueError(f"unflatten: {name!r} names an array and a layer")
        node[last] = leaf
    return tree


def map(f: Callable[..., Array], tree: Tree, *rest: Tree) -> dict[str, Any]:
    """The tree of f(leaf, ...), of the leaves that bear one name in all trees; the first's order.

    Raises ValueError naming what one tree holds and another lacks.

    >>> map(lambda w, g: w - g, {"0": {"weight": 3.0}}, {"0": {"weight": 1.0}})
    {'0': {'weight': 2.0}}
    """
    titles = {f"tree {i}": one for i, one in enumerate((tree, *rest), 1)}
    first, *others = flatten_alike("map", titles)
    return unflatten(
        {name: f(leaf, *(other[name] for other in others)) for name, leaf in first.items()}
    )


def leaves(tree: Tree) -> list[Array]:
    """The arrays, sorted by dotted name, so that a sum over them is the same on every library.

    >>> leaves({"2": {"weight": 3.0}, "0": {"weight": 1.0, "bias": 2.0}})
    [2.0, 1.0, 3.0]
    """
    return [leaf for _, leaf in sorted(flatten(tree).items(), key=lambda item: item[0])]


def partition(tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a tree into (weights, buffers): what is trained, and what bears a name of `BUFFERS`.

    >>> partition({"1": {"weight": 1.0, "running_mean": 0.5}})
    ({'1': {'weight': 1.0}}, {'1': {'running_mean': 0.5}})
    """
    flat = flatten(tree)
    buffers = {name: leaf for name, leaf in flat.items() if is_buffer(name)}
    weights = {name: leaf for name, leaf in flat.items() if name not in buffers}
    return unflatten(weights), unflatten(buffers)


def merge(weights: Tree, buffers: Tree) -> dict[str, Any]:
    """Join what `partition` parted.

    Raises ValueError for a name that both hold.

    >>> merge({"1": {"weight": 1.0}}, {"1": {"running_mean": 0.5}})
    {'1': {'weight': 1.0, 'running_mean': 0.5}}
    """
    first, second = flatten(weights), flatten(buffers)
    if both := first.keys() & second.keys():
        raise ValueError(f"merge: both trees hold {_quoted(both)}; a name may be in one alone")
    return unflatten(first | second)


def is_buffer(name: str) -> bool:
    """Whether a dotted name is a buffer's.

    >>> is_buffer("1.running_mean"), is_buffer("1.weight")
    (True, False)
    """
    return name.rpartition(".")[2] in BUFFERS


def flatten_alike(call: str, trees: Mapping[str, Tree]) -> list[dict[str, Array]]:
    """Flatten `trees` (by what to call them), which must hold the same names.

    Raises ValueError naming what one holds and another lacks.

    >>> flatten_alike("update", {"weights": {"0": 1.0}, "grads": {"0": 2.0}})
    [{'0': 1.0}, {'0': 2.0}]
    """
    flat = [flatten(tree) for tree in trees.values()]
    (first, names), *others = zip(trees, (one.keys() for one in flat), strict=True)
    for title, other in others:
        if missing := names - other:
            raise ValueError(f"{call}: {title} lacks {_quoted(missing)}, which {first} holds")
        if extra := other - names:
            raise ValueError(f"{call}: {title} holds {_quoted(extra)}, which {first} lacks")
    return flat


def _quoted(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first!r} and {len(rest)} more" if rest else repr(first)
