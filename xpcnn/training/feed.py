"""Images and labels as batches on a device."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._xp import Array, Device, library
from ..data import batches, is_read_as_needed, prefetch, run_length
from ..ops._layout import channels_first
from ..random import Key
from .loop import Batch
from .ranks import ALONE, Ranks

UINT8_SCALE = 1.0 / 255.0


@dataclass(frozen=True)
class Feed:
    """Images (N, C, ...), laid out as `layout` says, with the places of their labels (N,).

    Images are an array on the host or at `place`; those that are read as they are needed are read
    while the batch before is computed on. Batches are of `dtype`: uint8 is multiplied by `scale`,
    floating images are taken as they are.
    """

    images: Array
    codes: np.ndarray
    place: Device
    dtype: str
    layout: str
    batch_size: int
    scale: float = UINT8_SCALE
    ranks: Ranks = ALONE

    def __len__(self) -> int:
        return self.images.shape[0]

    def batches(self, key: Key | None = None, start: int = 0) -> Generator[Batch]:
        """This rank's part of each batch from number `start` on, in the order that `key` tells."""
        run = run_length(self.images)
        order = batches(len(self), self.batch_size, key, run=run, start=start)
        if is_read_as_needed(self.images):
            fetching: Any = closing(prefetch(self._fetch, order))
        else:
            fetching = nullcontext(map(self._fetch, order))
        with fetching as fetched:
            for images, mine, count in fetched:
                yield Batch(self._moved(images), self.place.asarray(self.codes[mine]), count)

    def _fetch(self, indices: np.ndarray) -> tuple[Array, np.ndarray, int]:
        """The images of this rank's part, its indices, and how many the batch has."""
        mine = self.ranks.part(indices)
        if is_read_as_needed(self.images) or library(self.images) == "numpy":
            return self.images[mine], mine, len(indices)
        taken = self.place.xp.take(self.images, self.place.asarray(mine), axis=0)
        return taken, mine, len(indices)

    def _moved(self, images: Array) -> Array:
        """Images on the device, channels first, scaled if they are uint8."""
        xp = self.place.xp
        x = self.place.asarray(images) if library(images) == "numpy" else images
        x = channels_first("fit", x, self.layout, x.ndim - 2)
        floats = xp.astype(x, getattr(xp, self.dtype))
        return floats * self.scale if x.dtype == xp.uint8 else floats
