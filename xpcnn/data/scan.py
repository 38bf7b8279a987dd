"""What image files a folder of classes holds, and what in it cannot be used."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..io.images import read_image
from .pictures import in_threads

EXTENSIONS = (
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".jxl", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Of images. Some OpenCV cannot read: these are told of, not passed over."""

PROBE = (1, 1, 1)  # the least to ask for; OpenCV reads a file to its end nevertheless

Files = dict[str, list[str]]
"""The paths of each class's images, by the name of its folder."""


class Skipped(NamedTuple):
    """What of a folder was left out, and why."""

    path: str
    reason: str


def class_files(folder: str, home: str, skipped: list[Skipped]) -> Files:
    """The image files of each subfolder."""
    found: Files = {}
    for name in visible(folder):
        path = os.path.join(folder, name)
        if reason := astray(path, home):
            skipped.append(Skipped(printable(path), reason))
        elif os.path.isdir(path):
            found[name] = _images(path, home, skipped)
        elif is_image(name):
            skipped.append(Skipped(printable(path), "it lies in no class's folder"))
    return found


def _images(folder: str, home: str, skipped: list[Skipped]) -> list[str]:
    """The image files in a folder, at any depth; no folder twice, whatever links there are."""
    found, seen = list[str](), set[str]()

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(printable(error.filename), _reason(error, error.filename)))

    def stays(path: str) -> bool:
        if reason := astray(path, home):
            skipped.append(Skipped(printable(path), reason))
        return reason is None

    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        paths = ((name, os.path.join(place, name)) for name in _shown(folders))
        folders[:] = [name for name, path in paths if stays(path)]
        images = (os.path.join(place, name) for name in _shown(files) if is_image(name))
        found += filter(stays, images)
    return found


def astray(path: str, home: str) -> str | None:
    """What is wrong with a link, if it is one: it leaves the folder `home`, or leads nowhere."""
    if not os.path.islink(path):
        return None
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(home):
        return f"it is a link that leaves the folder, to {printable(str(target))}"
    if not target.exists():
        return "it is a link to nothing"
    if Path(os.path.realpath(os.path.dirname(path))).is_relative_to(target):
        return "it is a link to a folder that it lies in"
    return None


def readable(folder: str, files: Files, threads: int | None, skipped: list[Skipped]) -> Files:
    """The files that OpenCV can read; without the classes that have none."""
    kept: Files = {}
    for name, paths in files.items():
        faults = list(in_threads(_fault, paths, threads))
        pairs = list(zip(paths, faults, strict=True))
        skipped += (Skipped(printable(path), fault) for path, fault in pairs if fault)
        kept[name] = [path for path, fault in pairs if not fault]
        if not kept[name]:
            del kept[name]
            skipped.append(Skipped(printable(os.path.join(folder, name)), "it holds no image"))
    return kept


def _fault(path: str) -> str | None:
    try:
        read_image(path, PROBE)
    except (OSError, ValueError, MemoryError) as error:
        return _reason(error, path)
    return None


def _reason(error: Exception, path: str) -> str:
    """What an error says without the path, which is told beside it."""
    text = getattr(error, "strerror", None) or str(error)
    return printable(text.removeprefix(f"{path}: ").removeprefix("cannot be read: "))


def printable(text: str) -> str:
    """A name as people can read it: control characters, and bytes that are no text, escaped.

    >>> print(printable("Kühe\\n"))
    Kühe\\n
    """
    unseen = ("Cc", "Cs")  # control characters, and what surrogateescape makes of bytes
    return "".join(
        repr(letter)[1:-1] if unicodedata.category(letter) in unseen else letter for letter in text
    )


def visible(folder: str) -> list[str]:
    """What lies in a folder, sorted, without what is hidden."""
    return _shown(os.listdir(folder))


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _shown(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))
