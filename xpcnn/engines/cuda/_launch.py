"""What a runner is asked to run."""

from __future__ import annotations

from typing import Any, NamedTuple

BLOCK = 256
"""Threads of a block."""

GRID_Y = 2**16 - 1
"""Blocks of a grid along y at most."""


class Launch(NamedTuple):
    """A kernel by its name in the table, over how many threads, with which arguments.

    Arguments are arrays, for their addresses, and numbers of NumPy's types; a structure is a NumPy
    array of one element, passed by value. Arrays are of any library that tells where they lie:
    CuPy's on a device, NumPy's in tests.
    """

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[Any, ...]
