"""Image files as arrays, by OpenCV (the extra `images`)."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from types import ModuleType

import numpy as np

from .._check import require_count
from ._decode import Measure, decode

RESIZES = ("stretch", "crop")


def read_image(
    path: str | os.PathLike[str], in_shape: tuple[int, int, int], resize: str = "stretch"
) -> np.ndarray:
    """Read an image file as uint8 of `in_shape` (C, H, W): grey for C = 1, RGB for C = 3.

    It is turned upright as its EXIF orientation asks. Then "stretch" brings all of it to H x W,
    "crop" the largest part in its middle that has these proportions; each axis is averaged where it
    shrinks and interpolated where it grows. 16 bits a channel become 8. A transparent image is laid
    over white, as a page shows it. Of several frames the first is taken. A JPEG of four times the
    size or more is shrunk by 2, 4 or 8 as it is decoded, which is quicker.

    Raises FileNotFoundError, IsADirectoryError, ValueError naming file and cause for what is no
    whole image of 8 or 16 bits, and ImportError where OpenCV is missing.

    >>> read_image("nowhere.png", (1, 28, 28))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.png'

    Source: OpenCV, https://docs.opencv.org; to decode at a fraction, Pillow's Image.thumbnail.
    """
    channels, height, width = _checked(in_shape, resize)
    cv2, bgr = _read("read_image", path, max(height, width), min)
    if resize == "crop":
        bgr = _middle(bgr, height, width)
    return _planes(cv2, bgr, channels, height, width)


def read_photo(
    path: str | os.PathLike[str], longest: int | None = None, grey: bool = False
) -> np.ndarray:
    """Read a photo as it is, as uint8 RGB (3, H, W), or grey (1, H, W), to be looked at.

    It keeps its proportions: where its longer side has more than `longest` pixels, it is shrunk by
    averaging until that has so many (no side to less than one). It never grows. Orientation, depth
    and transparency are as in `read_image`.

    Raises what `read_image` does, and ValueError or TypeError for a `longest` that is no size.

    >>> read_photo("nowhere.png")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.png'

    Source: OpenCV, https://docs.opencv.org; to keep within a size, Pillow's Image.thumbnail.
    """
    if longest is not None:
        require_count("read_photo", "longest", longest)
    cv2, bgr = _read("read_photo", path, longest or inf, max)
    height, width = bgr.shape[:2]
    scale = min(1.0, (longest or inf) / max(height, width))
    sides = (max(1, round(side * scale)) for side in (height, width))
    return _planes(cv2, bgr, 1 if grey else 3, *sides)


def _read(
    call: str, path: str | os.PathLike[str], side: float, measure: Measure
) -> tuple[ModuleType, np.ndarray]:
    """OpenCV, and a file's pixels as uint8 (H, W, BGR), no smaller than `decode` says."""
    data = _bytes(path)
    cv2 = _opencv(call)
    try:
        return cv2, decode(cv2, data, side, measure)
    except (cv2.error, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {_cause(error)}") from error


def _bytes(path: str | os.PathLike[str]) -> np.ndarray:
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the path of one image file")
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: is no ordinary file; give an image file")
    data = np.fromfile(path, np.uint8)  # OpenCV's own reading fails on some names
    if data.size == 0:
        raise ValueError(f"{path}: is empty; give an image file")
    return data


def _middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest part, in the middle, whose sides are as height to width."""
    tall, wide = image.shape[:2]
    part = max(1, min(tall, round(wide * height / width)))
    across = max(1, min(wide, round(tall * width / height)))
    top, left = (tall - part) // 2, (wide - across) // 2
    return image[top : top + part, left : left + across]


def _planes(cv2: ModuleType, bgr: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    """The pixels (H, W, BGR) at that size, as (C, H, W), red first."""
    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY) if channels == 1 else bgr
    return np.stack(cv2.split(_resize(cv2, image, height, width))[::-1])


def _resize(cv2: ModuleType, image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink first, then grow: INTER_AREA averages only where no axis grows."""
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    for size, how in ((smaller, cv2.INTER_AREA), ((width, height), cv2.INTER_LINEAR)):
        if size != image.shape[1::-1]:
            image = cv2.resize(image, size, interpolation=how)
    return image


def _checked(in_shape: tuple[int, int, int], resize: str) -> tuple[int, int, int]:
    if len(in_shape) != 3 or in_shape[0] not in (1, 3) or min(in_shape) < 1:
        raise ValueError(
            f"read_image: in_shape must be (C, H, W) with C = 1 (grey) or 3 (RGB); it is {in_shape}"
        )
    if resize not in RESIZES:
        raise ValueError(f"read_image: resize={resize!r}; give {' or '.join(map(repr, RESIZES))}")
    return in_shape


def _cause(error: Exception) -> str:
    return str(getattr(error, "err", "") or error)  # cv2.error: without its place in C++


def _opencv(call: str) -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(f'{call} needs OpenCV: pip install "xpcnn[images]"') from error
    if not hasattr(cv2, "imdecodeWithMetadata"):
        raise ImportError(
            f"{call} needs OpenCV 4.12 or later; this is {cv2.__version__}:"
            ' pip install --upgrade "xpcnn[images]"'
        )
    return cv2
