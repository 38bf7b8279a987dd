"""MNIST's four files, those of the sets that took its place, and EMNIST's archive of such files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from .dataset import Labelled, Parts, labelled
from .idx import FREE, RATIO, map_idx, read_idx, read_stream

FOUR = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHAPE = (1, 28, 28)  # of EMNIST's
MAPPED = 1 << 26  # bytes of a plain file from which on it is not read into memory
BLOCK = 4096  # images turned at a time: memory


def read_mnist(*paths: Path, classes: tuple[str, ...] | None = None) -> Parts:
    """The parts of a data set in IDX files, in the order of `FOUR`.

    Labels are named by their numbers where `classes` does not name them. Raises ValueError naming
    the file that is damaged or does not belong to the others.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998.
    """
    train, test = read_pair(*paths[:2]), read_pair(*paths[2:])
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{paths[0].parent}: images to train on are {train[0].shape[1:]} and those to test"
            f" with {test[0].shape[1:]} (C, H, W); they must be alike"
        )
    return train, test, classes or numbered(np.concatenate([train[1], test[1]]))


def read_pair(images: Path, labels: Path) -> Labelled:
    """The images and labels of two IDX files; many images are read as they are needed."""
    return labelled(_images(images), read_idx(labels), images, labels)


def _images(path: Path) -> np.ndarray:
    plain = path.is_file() and path.suffix != ".gz" and path.stat().st_size > MAPPED
    return map_idx(path) if plain else read_idx(path)


def numbered(labels: np.ndarray) -> tuple[str, ...]:
    """Names for labels that have none."""
    return tuple(str(number) for number in range(int(labels.max()) + 1))


def read_emnist(archive: Path, split: str) -> Parts:
    """The parts of one split of EMNIST, out of the zip archive of all: "balanced", "letters", ...

    The images, which are stored lying on their side, are turned upright. Labels are counted from 0,
    and named by the characters that stand for them: "Aa" where there is one label for both.
    Raises ValueError for an archive that is damaged or no archive of EMNIST's.

    Source: Cohen, Afshar, Tapson and van Schaik, "EMNIST: an extension of MNIST to handwritten
    letters", 2017, https://arxiv.org/abs/1702.05373.
    """
    try:
        with ZipFile(archive) as files:
            first, classes = _characters(files, archive, f"gzip/emnist-{split}-mapping.txt")
            train, test = (
                _upright(files, archive, f"gzip/emnist-{split}-{part}", first)
                for part in ("train", "test")
            )
    except KeyError as error:
        raise ValueError(f"{archive}: {error.args[0]}; get EMNIST's archive anew") from error
    except (BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive}: damaged or truncated ({error}); get it anew") from error
    return train, test, classes


def _characters(files: ZipFile, archive: Path, name: str) -> tuple[int, tuple[str, ...]]:
    """The least label and the names of all, of lines like "1 65 97": a label, its characters."""
    try:
        with files.open(name) as lines:
            rows = sorted([int(word) for word in line.split()] for line in lines)
        names = tuple("".join(map(chr, row[1:])) for row in rows)
        first = rows[0][0]
        if [row[0] for row in rows] != [*range(first, first + len(rows))] or not all(names):
            raise ValueError("its labels do not follow each other, or have no characters")
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{archive}: {name} is no list of labels: {error}; get it anew") from error
    return first, names


def _upright(files: ZipFile, archive: Path, prefix: str, first: int) -> Labelled:
    names = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
    images, labels = (_unpacked(files, archive, name) for name in names)
    images, labels = labelled(images, labels, archive / names[0], archive / names[1])
    if images.shape[1:] != SHAPE:
        raise ValueError(f"{archive / names[0]}: images are {images.shape}, not (N, 1, 28, 28)")
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        block[...] = block.swapaxes(2, 3)
    return images, labels - first


def _unpacked(files: ZipFile, archive: Path, name: str) -> np.ndarray:
    limit = max(FREE, RATIO * files.getinfo(name).compress_size)
    with files.open(name) as packed, gzip.GzipFile(fileobj=packed) as stream:
        return read_stream(stream, archive / name, limit)
