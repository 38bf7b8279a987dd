"""A model's rehearsal: run on a batch of no images, to see what it would hold of a real one.

A model runs the same code on any batch, and holds the same arrays for as long. Those of no images
have all their shapes but no numbers: they cost nothing, and nothing needs to be known here of what
a layer does. NumPy tells of the arrays it makes of others (`Followed`), layers are wrapped to tell
of theirs (`_Watched`), and their pulls, which are closures, of what is held for gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ... import ops, random
from ..._xp import Array
from .. import tree
from .._walk import rebuilt
from ..activation import CLIPS
from ..base import Layer, Shape, pull_last, wanted
from ..combinators import Combinator
from ..norm import BatchNorm, GroupNorm
from ..tree import Tree
from ._field import Fields, fields_after, fields_of_input, merged
from ._memory import Memory, owner_of

CLIPPING = tuple(CLIPS)
"""Layers of which NumPy, too, makes no array but the result: it writes over those in between."""


@dataclass(frozen=True)
class Seen:
    """A layer at work: bytes that it `made`, and `kept` for gradients when nobody had before."""

    layer: Layer
    params: Tree
    in_shape: Shape
    out_shape: Shape
    fields: Fields
    made: int
    kept: int = 0


@dataclass(frozen=True)
class Rehearsed:
    """Layers seen, by name, and bytes without parameters.

    Those of the batch, those that all keep for gradients, the most at once in inference, and the
    most in training, with gradients but before the update.
    """

    seen: dict[str, Seen]
    batch: int
    kept: int
    inference: int
    training: int


def rehearse(
    model: Layer, params: Tree, in_shape: Shape, dtype: str, images: int, kernels: bool
) -> Rehearsed:
    """Run a model forward and back, and count as if there were so many images.

    `kernels` tells whether an engine has them for what is between convolutions. They make no arrays
    in between; but threads that wait for the next hold the last one's arrays.
    """
    rehearsal = Rehearsal(Memory(images), kernels)
    watched, memory = rebuilt(rehearsal.watched, model), rehearsal.memory
    x = rehearsal.passed_on(np.zeros((0, *in_shape), dtype), fields_of_input(in_shape))
    batch = memory.now
    with np.errstate(all="ignore"):  # averages over no images
        watched(params, x)
        rehearsal.lingering = ()
        inference, memory.most = memory.most, memory.now
        y, pull = watched.vjp(params, x, key=random.key(0), wrt=("params",))
        rest = memory.hold(pull)
        pull_last(pull, np.zeros(y.shape, y.dtype))
    kept = rest + sum(seen.kept for seen in rehearsal.seen.values())
    return Rehearsed(rehearsal.seen, batch, kept, inference, memory.most)


class Followed(np.ndarray):
    """A batch of no images: what NumPy makes of it is counted, and followed in turn."""

    rehearsal: Rehearsal
    fields: Fields

    def __array_finalize__(self, origin: Any) -> None:
        if isinstance(origin, Followed):
            self.rehearsal, self.fields = origin.rehearsal, origin.fields

    def __array_ufunc__(self, ufunc, method, *args, **options):
        return self.rehearsal.follow(getattr(ufunc, method), args, options)

    def __array_function__(self, function, types, args, options):
        return self.rehearsal.follow(function, args, options)


class Rehearsal:
    """The memory in use, and the layers seen at work, by name."""

    def __init__(self, memory: Memory, kernels: bool) -> None:
        self.memory, self.kernels = memory, kernels
        self.seen: dict[str, Seen] = {}
        self.lingering: tuple[Array, ...] = ()
        self._last: tuple[Fields, Shape]

    def watched(self, name: str, layer: Layer, run: Layer) -> Layer:
        """What behaves as `run`, and tells what it does in the place of `layer`."""
        return run if isinstance(run, Combinator) else _Watched(layer, run, name, self)

    def followed(self, array: Array, fields: Fields) -> Followed:
        """The array, counted and followed."""
        self.memory.count(array)
        view = _plain(array).view(Followed)
        view.rehearsal, view.fields = self, fields
        return view

    def follow(self, function: Callable, args: tuple, options: dict) -> Any:
        """What NumPy makes of followed arrays."""
        result = function(*_plain(args), **_plain(options))
        if not isinstance(result, np.ndarray):
            return result
        return self.followed(result, merged(array.fields for array in _followed_in(args)))

    def passed_on(self, y: Array, fields: Fields) -> Followed:
        """What a layer made, followed."""
        self._last = fields, tuple(y.shape[1:])
        return self.followed(y, fields)

    def given(self, x: Array) -> Followed:
        """What a layer is given: if not followed, an engine made it of what was passed on last."""
        if isinstance(x, Followed):
            return x
        fields, shape = self._last
        return self.followed(x, fields_after(None, fields, shape, tuple(x.shape[1:])))

    def linger(self, given: Array, made: Array) -> None:
        """Hold what a kernel was given and made until the next has what it needs."""
        if self.kernels and owner_of(given) is not owner_of(made):
            self.lingering = given, made


@dataclass(frozen=True, repr=False)
class _Watched(Layer):
    """`inner`, which tells a rehearsal what it does in place of `layer`."""

    layer: Layer
    inner: Layer
    name: str
    rehearsal: Rehearsal

    def __call__(self, params: Tree, x: Array) -> Array:
        x = self.rehearsal.given(x)
        y = self.inner(params, self._seen_by_inner(x))
        shapes = tuple(x.shape[1:]), tuple(y.shape[1:])
        fields = fields_after(self.layer, x.fields, *shapes)
        made = 0 if owner_of(y) is owner_of(x) else self.rehearsal.memory.size(y)
        self.rehearsal.seen[self.name] = Seen(self.layer, params, *shapes, fields, made)
        y = self.rehearsal.passed_on(y, fields)
        self.rehearsal.linger(x, y)
        return y

    def vjp(self, params, x, *, key=None, wrt=None):
        asked, seen = wanted(self, wrt), self.rehearsal.seen
        memory, x = self.rehearsal.memory, self.rehearsal.given(x)
        shape, dtype, inner = x.shape, x.dtype, _stand_in(self.inner)
        y, pull = inner.vjp(params, self._seen_by_inner(x), key=key, wrt=wrt)
        y = self.rehearsal.passed_on(y, seen[self.name].fields)
        self.rehearsal.linger(x, y)
        seen[self.name] = replace(seen[self.name], kept=memory.hold(pull))
        # filters and matrices have gradients of their own size, though there are no images
        costly = any(len(array.shape) > 1 for array in tree.leaves(params))

        def back(dy: Array) -> tuple[Tree, Array]:
            dy = self.rehearsal.given(dy)
            dx = np.zeros(shape, dtype) if costly else pull(self._seen_by_inner(dy))[1]
            memory.take(sum(trained_bytes(self.inner, params)) if "params" in asked else 0)
            if "x" not in asked:
                return {}, None
            dx = self.rehearsal.followed(dx, ())
            self.rehearsal.linger(dy, dx)
            return {}, dx

        return y, back

    def trainable(self, params: Tree) -> Tree:
        return self.inner.trainable(params)

    def _seen_by_inner(self, x: Followed) -> Array:
        """x, without being followed where nothing is made in between."""
        in_one_pass = (*CLIPPING, BatchNorm) if self.rehearsal.kernels else CLIPPING
        return _plain(x) if isinstance(self.inner, in_one_pass) else x


@dataclass(frozen=True, repr=False)
class _Clipped(Layer):
    """`inner`, and then a clip."""

    inner: Layer

    def vjp(self, params, x, *, key=None, wrt=None):
        y, pull = self.inner.vjp(params, x, wrt=wrt)
        y, clipped = ops.relu.vjp(y)
        return y, lambda dy: pull(*clipped(dy))


def _stand_in(layer: Layer) -> Layer:
    """What makes and holds as much in training, without needing a batch's statistics."""
    if not isinstance(layer, BatchNorm):
        return layer
    norm = GroupNorm(1, affine=layer.affine)
    return norm if layer.bounds is None else _Clipped(norm)


def trained_bytes(layer: Layer, params: Tree) -> list[int]:
    """Bytes of each tensor that a layer trains."""
    weights, _ = tree.partition(layer.trainable(params))
    return [array.nbytes for array in tree.leaves(weights)]


def _plain(given: Any) -> Any:
    """An argument of NumPy's, with arrays that are not followed."""
    if isinstance(given, Followed):
        return given.view(np.ndarray)
    if isinstance(given, tuple | list):
        return type(given)(map(_plain, given))
    return {name: _plain(one) for name, one in given.items()} if isinstance(given, dict) else given


def _followed_in(given: Any) -> Iterator[Followed]:
    if isinstance(given, Followed):
        yield given
    elif isinstance(given, tuple | list):
        for one in given:
            yield from _followed_in(one)
