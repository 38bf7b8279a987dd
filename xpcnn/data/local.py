"""Data sets on this machine: where they are looked for, and how they get there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .catalog import SETS, Source
from .mnist import FOUR

if TYPE_CHECKING:  # downloading takes a while to import, and few do it
    from .download import Progress

SYSTEM = "/usr/share/datasets"  # where Debian's packages put them


def get(name: str, progress: Progress | None = None) -> Path:
    """Download the data set of that name, unless it is on this machine; the folder of its files.

    They come into the user's cache: $XPCNN_CACHE, or where the system keeps such files. Each is
    verified by its size and SHA-256 sum. What is broken off is gone on with by the next call.
    `progress` is called again and again with the bytes that are here and those due.
    Raises ValueError for an unknown name and for files other than published, OSError for what the
    network, the server or the disk refuses.

    >>> get("cifar")
    Traceback (most recent call last):
    ValueError: get: there is no data set "cifar" to download; choose mnist, fashion-mnist, kmnist,
    emnist-balanced, ..., cifar-10, cifar-100, svhn, svhn-extra

    Source: the publishers that `SETS` names.
    """
    if name not in SETS:
        raise ValueError(
            f'get: there is no data set "{name}" to download; choose {", ".join(SETS)}'
        )
    return bring(SETS[name], progress)


def bring(source: Source, progress: Progress | None = None) -> Path:
    """Download the files of `source` that are not here; their folder."""
    from .download import fetch

    folder = cache() / source.folder
    if found := find(source, [place for place in places(source) if place != folder]):
        return found[0].parent
    before = 0
    for file in source.files:
        told = None if progress is None else partial(_add, progress, before, source.size)
        fetch(file, folder, told)
        before += file.size
    return folder


def find(source: Source, folders: Sequence[Path] | None = None) -> list[Path] | None:
    """The paths of its files, .gz unpacked or not, in the first folder that has them all, if any.

    The folders are those of $XPCNN_DATA, of Debian's packages and of `get` where none are given.
    Nothing is downloaded, and no file is opened. Raises PermissionError for a folder that may not
    be searched.

    >>> find(SETS["mnist"], [Path("nowhere")]) is None
    True

    Source: the XDG Base Directory Specification, whose folders are searched in order, too.
    """
    for folder in places(source) if folders is None else folders:
        paths = [plain_or_gzip(folder, file.name) for file in source.files]
        if all(path.is_file() for path in paths):
            return paths
    return None


def places(source: Source) -> list[Path]:
    """Where its files are looked for, in this order: $XPCNN_DATA, the system's folder, the cache.

    In $XPCNN_DATA, that is the set's folder; or $XPCNN_DATA itself where it is called like that, or
    where the files have names of their own: under MNIST's names come several sets.
    """
    own = []
    if chosen := os.environ.get("XPCNN_DATA"):
        own.append(Path(chosen, source.folder))
        names = {file.name.removesuffix(".gz") for file in source.files}
        if Path(chosen).absolute().name == source.folder or names.isdisjoint(FOUR):
            own.append(Path(chosen))
    return [*own, Path(SYSTEM, source.folder), cache() / source.folder]


def cache() -> Path:
    """The folder that downloads go to: $XPCNN_CACHE, or where the system keeps such files."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("XPCNN_CACHE")
    return Path(chosen) if chosen else user_cache_path("xpcnn", appauthor=False)


def plain_or_gzip(folder: Path, name: str) -> Path:
    """The path of a file of that name, or of the same without .gz if there is one."""
    plain = folder / name.removesuffix(".gz")
    return plain if plain.is_file() else folder / name


def _add(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)
