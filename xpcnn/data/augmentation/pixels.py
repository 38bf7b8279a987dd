"""Steps that change pixels where they are: colours, and squares that are cut out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import random
from ..._xp import Array, device_of, namespace
from .step import Step, draw, settle, settle_fill

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue look: ITU-R BT.601."""


@dataclass(frozen=True)
class Colour(Step):
    """Change each image's brightness, contrast and saturation, by factors of 1 +- the options.

    In that order: pixels times a factor; their distance from the image's mean grey times one; their
    distance from their own grey times one. Saturation is of images of three channels, red, green
    and blue, whose grey is 0.299 R + 0.587 G + 0.114 B; others have none, and their mean grey is
    that of all their pixels, which libraries round differently in the last place. Nothing is
    clipped, for images may be of any range. See `Augment` for what it is called with. Raises
    ValueError for options outside [0, 1].

    >>> x = np.asarray([[[[0.2, 0.4]]]])
    >>> Colour(brightness=0.5, contrast=0.0)(random.key(0), x).round(3)
    array([[[[0.22, 0.44]]]])

    Source: torchvision's ColorJitter, in one order, unclipped.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            settle(self, name, 0.0, 1.0)

    def change(self, key: random.Key, x: Array) -> Array:
        most = np.asarray([self.brightness, self.contrast, self.saturation])
        if not most.any():
            return x
        xp = namespace(x)
        bright, contrast, colour = (1.0 + most * draw(key, (x.shape[0], 3))).T

        def each(factors: np.ndarray) -> Array:
            """One number an image, over its channels and pixels."""
            numbers = xp.asarray(factors, dtype=x.dtype, device=device_of(x))
            return xp.reshape(numbers, (-1, 1, 1, 1))

        if x.shape[1] != len(LUMA):
            mean = xp.mean(x, axis=(1, 2, 3), keepdims=True)
            return each(bright * contrast) * x + each(bright * (1.0 - contrast)) * mean
        grey = sum(share * x[:, i : i + 1, ...] for i, share in enumerate(LUMA))
        mean = xp.mean(grey, axis=(1, 2, 3), keepdims=True)
        greyed = each(bright * contrast * (1.0 - colour)) * grey
        greyed = greyed + each(bright * (1.0 - contrast)) * mean
        return each(bright * contrast * colour) * x + greyed


@dataclass(frozen=True)
class CutOut(Step):
    """Set a square in each image to `fill`, its side a share `size` of the image's shorter one.

    The square's middle is any pixel, so that part of it may lie outside. See `Augment` for what it
    is called with. Raises ValueError for a size outside [0, 1].

    >>> CutOut(0.5)(random.key(0), np.ones((1, 1, 4, 4)))[0, 0]
    array([[1., 1., 1., 1.],
           [1., 1., 0., 0.],
           [1., 1., 0., 0.],
           [1., 1., 1., 1.]])

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with
    cutout", 2017.
    """

    size: float = 0.25
    fill: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "size", 0.0, 1.0)
        settle_fill(self, edge=False)

    def change(self, key: random.Key, x: Array) -> Array:
        xp, (images, _, height, width) = namespace(x), x.shape
        side = round(self.size * min(height, width))
        middles = np.floor(random.uniform(key, (images, 2)) * np.asarray([height, width]))
        starts = middles.astype(np.int32) - side // 2

        def inside(axis: int, start: np.ndarray) -> Array:
            shape = tuple(-1 if i == axis else 1 for i in range(4))
            here = xp.arange(x.shape[axis], dtype=xp.int32, device=device_of(x))
            first = xp.reshape(xp.asarray(start, device=device_of(x)), (-1, 1, 1, 1))
            here = xp.reshape(here, shape)
            return (here >= first) & (here < first + side)

        fill = xp.full((1, 1, 1, 1), self.fill, dtype=x.dtype, device=device_of(x))
        return xp.where(inside(2, starts[:, 0]) & inside(3, starts[:, 1]), fill, x)
