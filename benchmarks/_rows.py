"""What a row of the benchmark is, and the arrays that it computes with."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""Where PyTorch may have the channels of an image in memory, by name."""

TOLERANCE = 5e-4
"""Of the largest entry: well above float32's rounding and Winograd's, well below any mistake."""

MOST_BYTES, MOST_FLOP = 600e6, 64e9
"""Of a row's input and output, and of its forward pass: larger batches are left out."""

Compute = Callable[[], Any]


class Case(NamedTuple):
    """One computation, by us and by them; each gives an array or a tuple of them.

    `compared` are the two to compare instead where the results do not lend themselves to it;
    `elsewhere` makes the computation of another library, by its name.
    """

    task: str
    ours: Compute
    theirs: Compute
    compared: tuple[Compute, Compute] | None = None
    tolerance: float = TOLERANCE
    elsewhere: Callable[[str], Compute] | None = None


class Draw:
    """Normal numbers in float32, always the same, as an array of ours and a tensor of theirs.

    With another `dtype` theirs are the same numbers in it.
    """

    def __init__(self, layout: str = "contiguous", dtype: torch.dtype = torch.float32) -> None:
        self.numbers = np.random.default_rng(0)
        self.format, self.dtype = LAYOUTS[layout], dtype

    def array(self, *shape: int, scale: float = 1.0) -> tuple[np.ndarray, torch.Tensor]:
        """An array in C order, for both; of rank 4 theirs is in their layout."""
        ours = self.numbers.standard_normal(shape, np.float32) * np.float32(scale)
        theirs = torch.from_numpy(ours).to(self.dtype)
        return ours, theirs.to(memory_format=self.format) if len(shape) == 4 else theirs

    def images(self, *shape: int) -> tuple[np.ndarray, torch.Tensor]:
        """An array (N, C, H, W), with channels last in our memory as between our layers.

        Up to 3 channels it is a first layer's input, and in C order for both.
        """
        ours, theirs = self.array(*shape)
        if shape[1] > 3:
            ours = np.moveaxis(np.ascontiguousarray(np.moveaxis(ours, 1, -1)), -1, 1)
        return ours, theirs


class Row:
    """A layer and its size. `families` are the kinds over which its ratios are averaged."""

    name: str
    families: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    taps: int = 1
    """Inputs that go into one output."""
    quick: bool = False
    """Whether a quick run has it."""

    def batches(self, asked: Collection[int]) -> list[int]:
        """Those of the batches asked for that are not too large."""
        ins, outs = math.prod(self.in_shape), math.prod(self.out_shape)
        return [
            n
            for n in asked
            if 4 * n * (ins + outs) <= MOST_BYTES and 2 * n * outs * self.taps <= MOST_FLOP
        ]

    def cases(self, batch: int, tasks: Collection[str], draw: Draw) -> Iterator[Case]:
        """What to compute, at least the tasks asked for."""
        raise NotImplementedError
