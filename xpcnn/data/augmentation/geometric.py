"""Steps that move pixels: shifts, turns, changes of size, reflections."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from ... import random
from ..._check import is_int
from ..._xp import Array
from .affine import resample
from .step import Step, draw, settle, settle_fill


class Geometric(Step):
    """A step that is an affine map about each image's middle; `Augment` joins neighbours."""

    fill: float | str | None = None
    """What lies outside; None where nothing does."""

    @abstractmethod
    def maps(self, key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
        """Maps (N, 3, 3), as `affine` has them, for images of the shape (N, C, H, W)."""

    def change(self, key: random.Key, x: Array) -> Array:
        return resample(x, self.maps(key, x.shape), self.fill or 0.0)


@dataclass(frozen=True)
class Shift(Geometric):
    """Move each image by up to `share` of its height and of its width, by whole pixels.

    Pixels move as they are. What comes in is `fill`, or with "edge" the nearest pixel. See
    `Augment` for what it is called with. Raises ValueError for a share outside [0, 1].

    >>> x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    >>> Shift(0.34)(random.key(1), x)[0, 0]
    array([[0., 0., 0.],
           [1., 2., 3.],
           [4., 5., 6.]])

    Source: torchvision's RandomAffine(degrees=0, translate=(share, share)).
    """

    share: float = 0.1
    fill: float | str = 0.0

    def __post_init__(self) -> None:
        settle(self, "share", 0.0, 1.0)
        settle_fill(self)

    def maps(self, key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
        images, _, height, width = shape
        most = self.share * np.asarray([width, height])
        return _shifted(np.rint(most * draw(key, (images, 2))))


@dataclass(frozen=True)
class Crop(Geometric):
    """Cut images of x's size out of x with `padding` pixels all around, anywhere in that.

    The padding is `fill`, or with "edge" the nearest pixel; pixels move as they are. See `Augment`
    for what it is called with. Raises ValueError for a negative padding, TypeError for one that is
    no integer.

    >>> x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    >>> Crop(1)(random.key(3), x)[0, 0]
    array([[5., 6., 0.],
           [8., 9., 0.],
           [0., 0., 0.]])

    Source: the crops of CIFAR-10's images in Lee et al., "Deeply-supervised nets", 2015.
    """

    padding: int = 4
    fill: float | str = 0.0

    def __post_init__(self) -> None:
        call = f"Crop(padding={self.padding!r})"
        if not is_int(self.padding):
            raise TypeError(f"{call}: padding must be an integer")
        if self.padding < 0:
            raise ValueError(f"{call}: padding must be at least 0")
        object.__setattr__(self, "padding", int(self.padding))
        settle_fill(self)

    def maps(self, key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
        corner = np.floor((2 * self.padding + 1) * random.uniform(key, (shape[0], 2)))
        return _shifted(corner - self.padding)


@dataclass(frozen=True)
class Rotate(Geometric):
    """Turn each image about its middle by up to `degrees`, one way or the other.

    Bilinear. Outside lies `fill`, or with "edge" the nearest pixel. See `Augment` for what it is
    called with. Raises ValueError for degrees outside [0, 180].

    >>> x = np.zeros((1, 1, 3, 3)) + np.asarray([0.0, 1.0, 0.0])
    >>> Rotate(45)(random.key(1), x)[0, 0].round(2)
    array([[0.13, 0.86, 0.  ],
           [0.01, 1.  , 0.01],
           [0.  , 0.86, 0.13]])

    Source: torchvision's RandomRotation with InterpolationMode.BILINEAR.
    """

    degrees: float = 15.0
    fill: float | str = 0.0

    def __post_init__(self) -> None:
        settle(self, "degrees", 0.0, 180.0)
        settle_fill(self)

    def maps(self, key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
        return _turned(self.degrees * draw(key, (shape[0],)))


@dataclass(frozen=True)
class Scale(Geometric):
    """Make each image larger or smaller about its middle, by a factor of 1/`factor` to `factor`.

    The factor's logarithm is uniform: half of them grow. Bilinear. Outside lies `fill`, or with
    "edge" the nearest pixel. See `Augment` for what it is called with. Raises ValueError for a
    factor outside [1, 100].

    >>> x = np.ones((1, 1, 1, 5))
    >>> Scale(2)(random.key(2), x)[0, 0].round(2)
    array([[0., 1., 1., 1., 0.]])

    Source: torchvision's RandomAffine(degrees=0, scale=...), with a uniform logarithm.
    """

    factor: float = 1.2
    fill: float | str = 0.0

    def __post_init__(self) -> None:
        settle(self, "factor", 1.0, 100.0)
        settle_fill(self)

    def maps(self, key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
        factors = np.exp(math.log(self.factor) * draw(key, (shape[0],)))
        return _stretched(np.stack([1.0 / factors] * 2, axis=1))


@dataclass(frozen=True)
class Flip(Geometric):
    """Swap left and right of an image with the chance `p`, top and bottom with `vertical`.

    Pixels move as they are. See `Augment` for what it is called with. Raises ValueError for chances
    outside [0, 1].

    >>> Flip(1.0)(random.key(0), np.asarray([[[[1.0, 2.0, 3.0]]]]))
    array([[[[3., 2., 1.]]]])

    Source: torchvision's RandomHorizontalFlip and RandomVerticalFlip.
    """

    p: float = 0.5
    vertical: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "p", 0.0, 1.0)
        settle(self, "vertical", 0.0, 1.0)

    def maps(self, key: random.Key, shape: tuple[int, ...]) -> np.ndarray:
        flipped = random.uniform(key, (shape[0], 2)) < np.asarray([self.p, self.vertical])
        return _stretched(np.where(flipped, -1.0, 1.0))


def _shifted(pixels: np.ndarray) -> np.ndarray:
    """Maps that read (N, 2) pixels further right and down."""
    maps = np.tile(np.eye(3), (len(pixels), 1, 1))
    maps[:, :2, 2] = pixels
    return maps


def _stretched(rates: np.ndarray) -> np.ndarray:
    """Maps that read (N, 2) times as far from the middle."""
    return np.concatenate([rates, np.ones((len(rates), 1))], axis=1)[:, :, None] * np.eye(3)


def _turned(degrees: np.ndarray) -> np.ndarray:
    """Maps of images turned anticlockwise by (N,) degrees, rows being counted downwards."""
    angles = np.deg2rad(degrees)
    cosine, sine = np.cos(angles), np.sin(angles)
    maps = np.tile(np.eye(3), (len(angles), 1, 1))
    maps[:, 0, 0], maps[:, 0, 1] = cosine, -sine
    maps[:, 1, 0], maps[:, 1, 1] = sine, cosine
    return maps
