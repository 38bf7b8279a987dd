"""Image files as arrays, by OpenCV (the extra `images`)."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np

JPEG = b"\xff\xd8"  # has neither alpha nor more than 8 bits: one look is enough
WHITE = 255


def read_image(path: str | os.PathLike[str], in_shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image file as uint8 of `in_shape` (C, H, W): grey for C = 1, RGB for C = 3.

    It is stretched to H x W, each axis averaged where it shrinks and interpolated where it grows,
    and turned upright as its EXIF orientation asks. 16 bits a channel become 8. A transparent
    image is laid over white, as a page shows it (and not turned). Of several frames the first is
    taken. Raises FileNotFoundError, IsADirectoryError, ValueError naming file and cause for what
    is no whole image of 8 or 16 bits, and ImportError where OpenCV is missing.

    >>> read_image("nowhere.png", (1, 28, 28))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.png'

    Source: OpenCV, https://docs.opencv.org.
    """
    channels, height, width = _checked(in_shape)
    if Path(path).is_dir():
        raise IsADirectoryError(f"read_image: {path} is a folder; give the path of one image file")
    data = np.fromfile(path, np.uint8)  # OpenCV's own reading fails on some names
    if data.size == 0:
        raise ValueError(f"read_image: {path} is empty; give an image file")
    cv2 = _opencv()
    try:
        bgr = _decode(cv2, data)
    except (cv2.error, ValueError) as error:
        raise ValueError(f"read_image: {path} cannot be read: {_cause(error)}") from error
    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2RGB)
    image = _resize(cv2, image, height, width).reshape(height, width, channels)
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _decode(cv2: ModuleType, data: np.ndarray) -> np.ndarray:
    """The image as uint8 (H, W, BGR); OpenCV gives None for what is no image or not whole."""
    if data[:2].tobytes() != JPEG:
        raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if raw is not None and raw.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"its pixels are {raw.dtype}; save it with 8 or 16 bits a channel")
        if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            return _over_white(cv2.imdecode(data, flags), raw[:, :, 3:])
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("it is no image, or damaged or truncated, or of an unknown format")
    return bgr


def _over_white(bgr: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = (alpha >> 8 if alpha.dtype == np.uint16 else alpha).astype(np.uint16)
    mixed = bgr * opacity + WHITE * (255 - opacity)  # at most 255 * 255: uint16 holds it
    return ((mixed + 127) // 255).astype(np.uint8)


def _resize(cv2: ModuleType, image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink first, then grow: INTER_AREA averages only where no axis grows."""
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    return cv2.resize(
        cv2.resize(image, smaller, interpolation=cv2.INTER_AREA),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )


def _checked(in_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(in_shape) != 3 or in_shape[0] not in (1, 3) or min(in_shape) < 1:
        raise ValueError(
            f"read_image: in_shape must be (C, H, W) with C = 1 (grey) or 3 (RGB); it is {in_shape}"
        )
    return in_shape


def _cause(error: Exception) -> str:
    return str(getattr(error, "err", "") or error)  # cv2.error: without its place in C++


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise ImportError('read_image needs OpenCV: pip install "xpcnn[images]"') from error
    return cv2
