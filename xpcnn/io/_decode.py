"""What the bytes of an image file hold, as upright pixels of 8 bits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import ModuleType

import numpy as np

JPEG, SUN = b"\xff\xd8", b"\x59\xa6"
"""First bytes of files that have neither alpha nor more than 8 bits: OpenCV makes BGR of them."""

FRACTIONS = (8, 4, 2)
SPARE = 2  # a JPEG is decoded no smaller than so many times what is asked for
WHITE = 255
ORIENTATION = 0x0112  # EXIF's tag

Measure = Callable[..., int]
"""min or max of an image's sides."""


def decode(cv2: ModuleType, data: np.ndarray, side: float, measure: Measure) -> np.ndarray:
    """The image in a file's bytes, upright, as uint8 (H, W, BGR).

    A large JPEG comes out smaller than it is, the `measure` of its sides being `SPARE` times `side`
    or more still.

    Raises ValueError or cv2.error, telling the cause alone, for what is no whole image of 8 or 16
    bits.
    """
    magic, exif = data[:2].tobytes(), b""
    if magic in (JPEG, SUN):
        fraction = _fraction(data.tobytes(), side, measure) if magic == JPEG else 1
        reduced = fraction > 1 and getattr(cv2, f"IMREAD_REDUCED_COLOR_{fraction}")
        bgr = cv2.imdecode(data, reduced or cv2.IMREAD_COLOR)  # which turns it upright
    else:
        bgr, kinds, about = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
        if cv2.IMAGE_METADATA_EXIF in kinds:
            exif = about[list(kinds).index(cv2.IMAGE_METADATA_EXIF)].tobytes()
    if bgr is None:  # all that OpenCV tells
        raise ValueError("it is no image, or damaged or truncated, or of an unknown format")
    return _upright(_bgr(cv2, bgr), _orientation(exif))


def _fraction(jpeg: bytes, side: float, measure: Measure) -> int:
    """By how much a JPEG's sides can be divided, their measure being `SPARE` times `side` still."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and at + 9 <= len(jpeg):
        if 0xC0 <= jpeg[at + 1] <= 0xCF and jpeg[at + 1] not in (0xC4, 0xC8, 0xCC):  # a frame
            size = measure(struct.unpack_from(">HH", jpeg, at + 5))
            return next((n for n in FRACTIONS if size >= n * SPARE * side), 1)
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
