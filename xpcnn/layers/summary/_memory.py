"""Bytes that arrays without images would take if they had some, while Python keeps them alive."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from ..._xp import Array, product


class Memory:
    """Bytes as if batches were of so many images: those alive `now`, and the `most` there were.

    Only what grows with the batch is counted, and each array's memory once, whoever views it.
    """

    def __init__(self, images: int) -> None:
        self.images, self.now, self.most = images, 0, 0
        self._alive: dict[int, weakref.ref] = {}
        self._held: set[int] = set()

    def size(self, array: Array) -> int:
        """Bytes of the memory that a batch's array lies in, 0 of any other."""
        owner = owner_of(array)
        if owner.size:
            return 0
        return owner.itemsize * product(n or self.images for n in owner.shape)

    def count(self, array: Array) -> None:
        """Count an array, unless it is, until Python lets it go."""
        owner, size = owner_of(array), self.size(array)
        if size and id(owner) not in self._alive:
            self._alive[id(owner)] = weakref.ref(owner, partial(self._forget, id(owner), size))
            self.take(size)

    def take(self, size: int) -> None:
        """Count so many bytes, for good."""
        self.now += size
        self.most = max(self.most, self.now)

    def hold(self, pull: Any) -> int:
        """Count what a pull holds; how many bytes of it none had held before."""
        owners = {id(owner_of(array)): array for array in arrays_in(pull)}
        new = [array for number, array in owners.items() if number not in self._held]
        self._held |= owners.keys()
        for array in new:
            self.count(array)
        return sum(map(self.size, new))

    def _forget(self, number: int, size: int, _: weakref.ref) -> None:
        del self._alive[number]
        self.now -= size


def owner_of(array: Array) -> np.ndarray:
    """The array whose memory this one is a view of.

    >>> x = np.zeros((2, 3))
    >>> owner_of(x.T[1:]) is x
    True
    """
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_in(pull: Any) -> Iterator[np.ndarray]:
    """All arrays that a pull holds: a closure, or what is made of closures.

    >>> pull = (lambda held: lambda dy: dy * held)(np.zeros(3))
    >>> [array.shape for array in arrays_in(pull)]
    [(3,)]
    """
    known, things = set(), [pull]
    while things:
        thing = things.pop()
        if id(thing) in known:
            continue
        known.add(id(thing))
        match thing:
            case np.ndarray():
                yield thing
            case FunctionType():
                things += [cell.cell_contents for cell in thing.__closure__ or ()]
            case MethodType():
                things.append(thing.__self__)
            case partial():
                things += [thing.func, *thing.args, *thing.keywords.values()]
            case tuple() | list():
                things += thing
            case dict():
                things += thing.values()
            case _ if callable(thing) and not isinstance(thing, type):
                things += getattr(thing, "__dict__", {}).values()
