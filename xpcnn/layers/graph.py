"""Layers at the nodes of any directed graph without cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np

from .._xp import Array
from .base import Layer, Shape, wanted
from .combinators import Combinator, JoinedPull, Pulls, at, fold_key, learns, occupied
from .merge import MERGES, Spread, merge, merge_vjp
from .norm import norms_clipping
from .tree import Tree

INPUT = "input"
"""What the graph's own input is called."""

CALL = "Graph: the sources"

Source = str | tuple[str, ...]
"""The name of the node that feeds another, or ("sum", name, name, ...): a merge of several."""


class _Feed(NamedTuple):
    """What a node is fed with, and which values nobody asks for after it."""

    merge: str | None
    sources: tuple[str, ...]
    spent: tuple[str, ...]


@dataclass(frozen=True, repr=False, init=False)
class Graph(Combinator):
    """Layers at the nodes of any directed graph without cycles: nodes (name, layer, source).

    A source is the name of the node whose value the layer is given, "input" for the graph's own
    input, or a merge of several: ("sum", ...), ("concat", ...) of channels, or ("product", ...),
    where what has size 1 repeats, followed by their names. A value may be used any number of times;
    the gradients of its uses are summed. Nodes stand after those that feed them, and the last one's
    value is the output. Parameters have the nodes' names. As data a graph is its `layers`, their
    `names`, and `inputs`, their sources.

    A BatchNorm that feeds nothing but a ReLU or ReLU6 is run as one with it.

    Raises ValueError for a cycle, a node before one that feeds it, a name that no node has, and a
    node other than the last whose value is not used.

    >>> from xpcnn import random
    >>> from xpcnn.layers import Conv2d, ReLU
    >>> model = Graph(
    ...     ("conv", Conv2d(3, 3, padding=1), "input"),
    ...     ("act", ReLU(), ("sum", "conv", "input")),
    ... )
    >>> model
    Graph(
      (conv <- input): Conv2d(out_channels=3, kernel_size=(3, 3), padding=(1, 1))
      (act <- sum(conv, input)): ReLU()
    )
    >>> params, out_shape = model.init(random.key(0), (3, 8, 8))
    >>> list(params), out_shape
    (['conv'], (3, 8, 8))

    Source: Keras' functional models; torch.fx.
    """

    inputs: tuple[Source, ...]

    def __init__(
        self,
        *nodes: tuple[str, Layer, Any],
        layers: Sequence[Layer] = (),
        names: Sequence[str] = (),
        inputs: Sequence[Any] = (),
    ) -> None:
        for node in nodes:
            if not isinstance(node, tuple | list) or len(node) != 3:
                raise TypeError(f"Graph: {node!r} is no node; give (name, layer, source)")
        names, layers, inputs = (
            (*(node[part] for node in nodes), *others)
            for part, others in enumerate((names, layers, inputs))
        )
        sources = (tuple(source) if isinstance(source, list) else source for source in inputs)
        object.__setattr__(self, "inputs", tuple(sources))
        super().__init__(layers=layers, names=names)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers or len(self.inputs) != len(self.layers):
            raise ValueError(
                f"Graph: {len(self.layers)} layers with {len(self.inputs)} sources; give at least "
                "one layer, and a source for each"
            )
        names = [name for name, _ in self.children]
        if INPUT in names:
            raise ValueError(
                f"Graph: {INPUT!r} is the graph's own input; give the node another name"
            )
        for name, source in zip(names, self.inputs, strict=True):
            _require_source(name, source)
        self._require_order(names)
        used = {source for feed in self._feeds for source in feed.sources}
        if unused := [name for name in names[:-1] if name not in used]:
            raise ValueError(
                f"Graph: nothing uses node {unused[0]}, which is not the last; feed it to one, or "
                "leave it out"
            )

    def _require_order(self, names: list[str]) -> None:
        """Every source is the input or an earlier node."""
        every, known = {INPUT, *names}, {INPUT}
        for name, feed in zip(names, self._feeds, strict=True):
            for source in feed.sources:
                if source not in every:
                    raise ValueError(f"Graph: node {name}: there is no node {source!r}")
                if source not in known:
                    self._require_no_cycle(names)
                    raise ValueError(
                        f"Graph: node {name} stands before {source}, which feeds it; give nodes "
                        "after those that feed them"
                    )
            known.add(name)

    def _require_no_cycle(self, names: list[str]) -> None:
        feeds = zip(names, self._feeds, strict=True)
        try:
            TopologicalSorter({name: feed.sources for name, feed in feeds}).prepare()
        except CycleError as error:
            raise ValueError(
                f"Graph: nodes feed each other in a cycle: {' -> '.join(error.args[1])}"
            ) from None

    @cached_property
    def _feeds(self) -> tuple[_Feed, ...]:
        split = [(None, (s,)) if isinstance(s, str) else (s[0], s[1:]) for s in self.inputs]
        last = {source: place for place, (_, sources) in enumerate(split) for source in sources}
        return tuple(
            _Feed(how, sources, tuple(s for s in dict.fromkeys(sources) if last[s] == place))
            for place, (how, sources) in enumerate(split)
        )

    @cached_property
    def run(self) -> tuple[Layer, ...]:
        run, place_of = list(self.layers), {n: i for i, (n, _) in enumerate(self.children)}
        uses = Counter(source for feed in self._feeds for source in feed.sources)
        for place, source in enumerate(self.inputs):
            if isinstance(source, str) and source != INPUT and uses[source] == 1:
                above = place_of[source]
                run[above], run[place] = norms_clipping((run[above], run[place]))
        return tuple(run)

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        planned, values = {}, {INPUT: np.zeros((0, *in_shape))}
        for feed, (name, layer) in zip(self._feeds, self.children, strict=True):
            shape = at(name, _merged, feed, values).shape[1:]
            planned[name], out_shape = at(name, layer.plan, tuple(shape))
            values[name] = np.zeros((0, *out_shape))
        return occupied(planned), out_shape

    def __call__(self, params: Tree, x: Array) -> Array:
        values = {INPUT: x}
        for feed, (name, layer, own) in zip(self._feeds, self.parts(params), strict=True):
            values[name] = at(name, layer, own, at(name, _merged, feed, values))
        return values[name]

    def vjp(self, params, x, *, key=None, wrt=None):
        asked, values, pulls = wanted(self, wrt), {INPUT: x}, []
        needed = {INPUT: "x" in asked}
        nodes = zip(self._feeds, self.parts(params), strict=True)
        for number, (feed, (name, layer, own)) in enumerate(nodes):
            above = [needed[source] for source in feed.sources]
            names = ("params",) * ("params" in asked) + ("x",) * any(above)
            x, spread = at(name, _merged_vjp, feed, values, above)
            x, pull = at(name, layer.vjp, own, x, key=fold_key(key, number), wrt=names)
            values[name] = x
            needed[name] = any(above) or learns(layer, own, asked)
            if needed[name]:
                pulls += [(name, spread), (name, pull)]
        sources = {name: f.sources for f, (name, _) in zip(self._feeds, self.children, strict=True)}

        def back(dy: Array, pulls: Pulls) -> tuple[Tree, Array]:
            grads, shares = {}, {name: dy}
            for (node, pull), (_, spread) in zip(pulls, pulls, strict=True):
                grads[node], dx = pull(shares.pop(node))
                for source, share in zip(sources[node], spread(dx), strict=True):
                    if share is not None:  # a sum is a new array: pulls may hold its parts
                        shares[source] = shares[source] + share if source in shares else share
            return occupied(grads), shares.get(INPUT)

        return x, JoinedPull(pulls, back)

    def _labels(self) -> list[str]:
        labels = []
        for (name, _), feed in zip(self.children, self._feeds, strict=True):
            sources = ", ".join(feed.sources)
            labels.append(f"{name} <- {f'{feed.merge}({sources})' if feed.merge else sources}")
        return labels


def _merged(feed: _Feed, values: dict[str, Array]) -> Array:
    """What a node is given."""
    parts = _taken(feed, values)
    return merge(CALL, feed.merge, parts) if feed.merge else parts[0]


def _merged_vjp(
    feed: _Feed, values: dict[str, Array], needed: Sequence[bool]
) -> tuple[Array, Spread]:
    parts = _taken(feed, values)
    if feed.merge:
        return merge_vjp(CALL, feed.merge, parts, needed)
    return parts[0], lambda dy: [dy]


def _taken(feed: _Feed, values: dict[str, Array]) -> list[Array]:
    """The values a node is fed with; those that nobody else asks for are let go."""
    parts = [values[source] for source in feed.sources]
    for source in feed.spent:
        del values[source]
    return parts


def _require_source(name: str, source: Any) -> None:
    several = isinstance(source, tuple)
    strings = all(isinstance(word, str) for word in (source if several else (source,)))
    if not strings or (several and (len(source) < 3 or source[0] not in MERGES)):
        raise ValueError(
            f"Graph: node {name} cannot be fed {source!r}; give a node's name, or several after "
            f"one of {', '.join(MERGES)}: ('sum', 'a', 'b')"
        )
