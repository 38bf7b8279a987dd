"""Image files as arrays, by OpenCV (the extra `images`)."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import ModuleType

import numpy as np

JPEG, SUN = b"\xff\xd8", b"\x59\xa6"
"""First bytes of files that have neither alpha nor more than 8 bits: OpenCV makes BGR of them."""

RESIZES = ("stretch", "crop")
FRACTIONS = (8, 4, 2)
SPARE = 2  # a JPEG is decoded no smaller than so many times what is asked for
WHITE = 255
ORIENTATION = 0x0112  # EXIF's tag


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
    data = _bytes(path)
    cv2 = _opencv()
    try:
        bgr = _decode(cv2, data, max(height, width))
    except (cv2.error, ValueError) as error:
        raise ValueError(f"read_image: {path} cannot be read: {_cause(error)}") from error
    if resize == "crop":
        bgr = _middle(bgr, height, width)
    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY) if channels == 1 else bgr
    planes = cv2.split(_resize(cv2, image, height, width))
    return np.stack(planes[::-1])  # red first


def _bytes(path: str | os.PathLike[str]) -> np.ndarray:
    if Path(path).is_dir():
        raise IsADirectoryError(f"read_image: {path} is a folder; give the path of one image file")
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise ValueError(f"read_image: {path} is no ordinary file; give an image file")
    data = np.fromfile(path, np.uint8)  # OpenCV's own reading fails on some names
    if data.size == 0:
        raise ValueError(f"read_image: {path} is empty; give an image file")
    return data


def _decode(cv2: ModuleType, data: np.ndarray, side: int) -> np.ndarray:
    """The image, upright, as uint8 (H, W, BGR); OpenCV gives None for what is none or not whole.

    A JPEG may be smaller than it is, its sides being well above `side` still.
    """
    magic, exif = data[:2].tobytes(), b""
    if magic in (JPEG, SUN):
        fraction = _fraction(data.tobytes(), side) if magic == JPEG else 1
        reduced = fraction > 1 and getattr(cv2, f"IMREAD_REDUCED_COLOR_{fraction}")
        bgr = cv2.imdecode(data, reduced or cv2.IMREAD_COLOR)  # which turns it upright
    else:
        bgr, kinds, about = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
        if cv2.IMAGE_METADATA_EXIF in kinds:
            exif = about[list(kinds).index(cv2.IMAGE_METADATA_EXIF)].tobytes()
    if bgr is None:
        raise ValueError("it is no image, or damaged or truncated, or of an unknown format")
    return _upright(_bgr(cv2, bgr), _orientation(exif))


def _fraction(jpeg: bytes, side: int) -> int:
    """By how much a JPEG's sides can be divided and still be `SPARE` times `side`."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and at + 9 <= len(jpeg):
        if 0xC0 <= jpeg[at + 1] <= 0xCF and jpeg[at + 1] not in (0xC4, 0xC8, 0xCC):  # a frame
            shorter = min(struct.unpack_from(">HH", jpeg, at + 5))
            return next((n for n in FRACTIONS if shorter >= n * SPARE * side), 1)
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return 1


def _bgr(cv2: ModuleType, raw: np.ndarray) -> np.ndarray:
    """Whatever pixels a file holds as uint8 (H, W, BGR)."""
    if raw.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its pixels are {raw.dtype}; save it with 8 or 16 bits a channel")
    image = (raw >> 8).astype(np.uint8) if raw.dtype == np.uint16 else raw
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 3:
        return image
    if image.shape[2] == 4:
        return _over_white(image[:, :, :3], image[:, :, 3:])
    raise ValueError(f"it has {image.shape[2]} channels; save it as grey, RGB or RGBA")


def _over_white(bgr: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha.astype(np.uint16)
    mixed = bgr * opacity + WHITE * (255 - opacity)  # at most 255 * 255: uint16 holds it
    return ((mixed + 127) // 255).astype(np.uint8)


def _orientation(exif: bytes) -> int:
    """1 to 8, and 1, which is upright, where none is told."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = ">" if tiff[:2] == b"MM" else "<"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == ORIENTATION and 1 <= value <= 8:
                return value
    except struct.error:  # it ends early
        pass
    return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Source: Exif 2.32, tag Orientation."""
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest part, in the middle, whose sides are as height to width."""
    tall, wide = image.shape[:2]
    part = max(1, min(tall, round(wide * height / width)))
    across = max(1, min(wide, round(tall * width / height)))
    top, left = (tall - part) // 2, (wide - across) // 2
    return image[top : top + part, left : left + across]


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


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise ImportError('read_image needs OpenCV: pip install "xpcnn[images]"') from error
    if not hasattr(cv2, "imdecodeWithMetadata"):
        raise ImportError(
            f"read_image needs OpenCV 4.12 or later; this is {cv2.__version__}:"
            ' pip install --upgrade "xpcnn[images]"'
        )
    return cv2
