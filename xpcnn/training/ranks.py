"""Who takes part in a training run: one process, unless `parallel` says otherwise."""

from __future__ import annotations

import numpy as np

from .._xp import Device
from .._xp import device as find_device
from ..layers.tree import Tree


class Ranks:
    """One process alone: its part of each batch is all of it, and sums are what it has.

    A subclass speaks for several processes, each of which runs the same program: `rank` is the
    number of this one, of `size`. What is called on one must be called on all.
    """

    rank, size = 0, 1

    def device(self, spec: str | Device) -> Device:
        """Find this rank's device by name."""
        return find_device(spec)

    def part(self, indices: np.ndarray) -> np.ndarray:
        """This rank's part of a batch: neighbours, as many as the others have, give or take one."""
        return indices

    def sum(self, arrays: Tree) -> Tree:
        """A tree whose leaves are added up over the ranks, the same on all of them."""
        return arrays

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return flag


ALONE = Ranks()
