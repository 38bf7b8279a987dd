"""CIFAR-10 and CIFAR-100: records of bytes in an archive, never the pickled ones.

labels: 1 byte (CIFAR-10), or coarse and fine (CIFAR-100) | 32x32 red | 32x32 green | 32x32 blue
"""

from __future__ import annotations

import gzip
import math
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from .dataset import Labelled, Parts
from .idx import FREE, RATIO

SHAPE = (3, 32, 32)


def read_cifar(
    archive: Path, train: Sequence[str], test: Sequence[str], names: str, label_bytes: int
) -> Parts:
    """The parts of a CIFAR data set, read from the members of its tar archive that are named.

    `names` is the member with a class on each line. Of the `label_bytes` that a record starts with,
    the last is the label. Raises ValueError for an archive that is damaged or lacks a member.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    members = _members(archive, {*train, *test, names})
    lines = members[names].decode(errors="replace").splitlines()
    classes = tuple(line.strip() for line in lines if line.strip())
    return (
        _records(archive, members, train, label_bytes),
        _records(archive, members, test, label_bytes),
        classes,
    )


def _members(archive: Path, names: set[str]) -> dict[str, bytes]:
    """The contents of the members of those names, in whatever folder and order they come."""
    limit = max(FREE, RATIO * archive.stat().st_size)
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                wanted = name in names and member.isreg() and member.size <= limit
                if wanted and (file := tar.extractfile(member)):
                    found[name] = file.read()
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{archive}: no tar archive, or damaged or truncated; get it anew"
        ) from error
    if missing := sorted(names - found.keys()):
        raise ValueError(f"{archive}: there is no {missing[0]} in it; get CIFAR's archive anew")
    return found


def _records(
    archive: Path, members: dict[str, bytes], names: Sequence[str], label_bytes: int
) -> Labelled:
    length = label_bytes + math.prod(SHAPE)
    for name in names:
        if len(members[name]) % length or not members[name]:
            raise ValueError(
                f"{archive}: {name} has {len(members[name])} bytes, no whole number of records of"
                f" {length}; get it anew"
            )
    records = [np.frombuffer(members[name], np.uint8).reshape(-1, length) for name in names]
    images = np.concatenate([record[:, label_bytes:] for record in records])
    labels = np.concatenate([record[:, label_bytes - 1] for record in records])
    return images.reshape(-1, *SHAPE), labels.astype(np.int64)
