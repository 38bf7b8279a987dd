"""Image files that look like an array, and are read when it is indexed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from .._check import is_int
from ..io.images import read_image

BLOCK = 1024  # items that wait for a thread at a time: memory

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False, repr=False)
class Pictures:
    """Image files as uint8 (N, C, H, W): like an array, but each is read when it is indexed.

    `in_shape` (C, H, W) and `resize` are those of `read_image`. So many `threads` read, where that
    is None one for each processor.

    >>> Pictures(("cat.jpg", "dog.png"), (3, 224, 224))
    Pictures((2, 3, 224, 224), resize='crop')
    """

    paths: tuple[str, ...]
    in_shape: tuple[int, int, int]
    resize: str = "crop"
    threads: int | None = None

    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    ndim: ClassVar[int] = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self), *self.in_shape)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Pictures({self.shape}, resize={self.resize!r})"

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        """The image at an integer, uint8 (C, H, W), or those that are chosen: uint8 (n, C, H, W).

        They are chosen by a slice, by integers (n,) or by a mask, bool (N,). Raises what
        `read_image` does, which names the file.
        """
        if isinstance(index, slice):
            return self._read(self.paths[index])
        if is_int(index):
            return self._read([self.paths[index]])[0]
        return self._read([self.paths[place] for place in self._places(np.asarray(index))])

    def _places(self, index: np.ndarray) -> np.ndarray:
        """Integers as they are, a mask as those that it stands for."""
        if index.dtype != np.bool_:
            return index
        if index.shape != (len(self),):
            raise IndexError(f"Pictures: a mask must be ({len(self)},); it is {index.shape}")
        return np.flatnonzero(index)

    def _read(self, paths: Sequence[str]) -> np.ndarray:
        images = np.empty((len(paths), *self.in_shape), np.uint8)

        def read(place: int) -> None:
            images[place] = read_image(paths[place], self.in_shape, self.resize)

        for _ in in_threads(read, range(len(paths)), self.threads):
            pass
        return images


def in_threads(function: Callable[[T], R], items: Sequence[T], threads: int | None) -> Iterator[R]:
    """What the function makes of each item, in order. The threads end with the iterator.

    >>> list(in_threads(abs, [-1, -2], threads=None))
    [1, 2]
    """
    with ThreadPoolExecutor(_processors() if threads is None else threads) as pool:
        for start in range(0, len(items), BLOCK):
            yield from pool.map(function, items[start : start + BLOCK])


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
