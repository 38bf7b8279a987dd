"""Data larger than memory: arrays mapped from files, and parts of them that are not copied."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .batches import WINDOW
from .dataset import Dataset, labelled
from .mnist import numbered
from .pictures import Pictures
from .split import HELD_BACK, stratified_split

RUN = 1 << 18  # bytes to read from a place before going to another
WHOLE = ("images.npy", "labels.npy")
PARTS = (("train-images.npy", "train-labels.npy"), ("test-images.npy", "test-labels.npy"))


@dataclass(frozen=True, eq=False, repr=False)
class Subset:
    """The images at `indices` (n,) of others (N, C, H, W): like an array, read when it is indexed.

    >>> images = np.arange(12).reshape(6, 2, 1, 1)
    >>> Subset(images, np.asarray([1, 4, 5]))[np.asarray([0, 2])].ravel()
    array([ 2,  3, 10, 11])

    Source: torch.utils.data.Subset.
    """

    images: Any
    indices: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""
        return (len(self), *self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """That of the images."""
        return self.images.dtype

    @property
    def ndim(self) -> int:
        """4, as a rule."""
        return len(self.images.shape)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Subset({self.shape}, {self.dtype})"

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        """The images at indices among these."""
        return self.images[self.indices[indices]]


def part(images: Any, indices: np.ndarray) -> Any:
    """The images at indices (n,): a copy of what lies in memory, else what is still to be read.

    >>> part(np.arange(4).reshape(4, 1, 1, 1), np.asarray([1, 3])).ravel()
    array([1, 3])

    Source: torch.utils.data.Subset.
    """
    if isinstance(images, Pictures):
        return replace(images, paths=tuple(images.paths[index] for index in indices))
    return Subset(images, indices) if is_read_as_needed(images) else images[indices]


def is_read_as_needed(images: Any) -> bool:
    """Whether indexing reads from a disk: then it should be done ahead of time, by `prefetch`.

    That is so for a mapped array, `Pictures` and a `Subset`. For all else, of whatever kind, the
    answer is no: nothing is raised.

    >>> is_read_as_needed(np.zeros((2, 1, 8, 8)))
    False

    Source: numpy.memmap, of which slices are read as needed too.
    """
    return isinstance(images, np.memmap | Pictures | Subset)


def holds_arrays(folder: Path) -> bool:
    """Whether a folder holds the files that `mapped_folder` reads."""
    return any((folder / name).exists() for name in (WHOLE[0], PARTS[0][0]))


def mapped_folder(
    path: str | os.PathLike[str], *, test: float = HELD_BACK, seed: int = 0
) -> Dataset:
    """The data set in a folder with NumPy's files, whose images are read when they are needed.

    These are train-images.npy, train-labels.npy, test-images.npy and test-labels.npy; or images.npy
    and labels.npy, of which a stratified part `test` is held back, chosen by `seed`. Images are
    uint8 or floating, (N, H, W) or (N, C, H, W), and stay in their files, which must not be changed
    while they are in use. Labels are integers (N,) from 0, and classes are named by their numbers.

    Raises FileNotFoundError for what is missing, ValueError for files that are damaged or do not
    belong together.

    >>> mapped_folder("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: mapped_folder: there is no nowhere/images.npy; put it there

    Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
    """
    folder = Path(path)
    if (folder / PARTS[0][0]).exists():
        train, held = ((_read(folder / images, folder / labels)) for images, labels in PARTS)
        if train[0].shape[1:] != held[0].shape[1:] or train[0].dtype != held[0].dtype:
            raise ValueError(
                f"mapped_folder: in {path}, images to train on are {train[0].dtype}"
                f" {train[0].shape[1:]} and those to test with {held[0].dtype}"
                f" {held[0].shape[1:]}; they must be alike"
            )
    else:
        images, labels = _read(*(folder / name for name in WHOLE))
        halves = stratified_split(labels, test, seed)
        train, held = ((Subset(images, places), labels[places]) for places in halves)
    classes = numbered(np.concatenate([train[1], held[1]]))
    return Dataset(folder.absolute().name, train, held, classes)


def run_length(images: Any) -> int:
    """How many neighbours `batches` should deal together (its `run`), so that reading is quick.

    1 for what lies in memory, or in files of its own; for a mapped array as many as 256 KiB hold,
    unless it is a small one. Nothing is raised: what is no mapped array needs no runs.

    >>> run_length(np.zeros((2, 1, 8, 8)))
    1

    Source: readahead, by which systems read neighbours from a disk in one go.
    """
    if isinstance(images, Subset):
        return run_length(images.images)
    if not isinstance(images, np.memmap) or images.nbytes <= RUN * WINDOW:
        return 1
    return max(1, RUN * len(images) // images.nbytes)


def _read(images_path: Path, labels_path: Path) -> tuple[Any, np.ndarray]:
    """The images and labels of two files, checked."""
    images, labels = _mapped(images_path), np.array(_mapped(labels_path))
    known = images.dtype == np.uint8 or (images.dtype.kind == "f" and images.dtype.isnative)
    if not known or images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(
            f"mapped_folder: {images_path}: images must be uint8 or floating, (N, H, W) or"
            f" (N, C, H, W), at least one; they are {images.dtype} {images.shape}"
        )
    if not images.flags.c_contiguous:
        raise ValueError(
            f"mapped_folder: {images_path} holds an array in Fortran's order, whose images are"
            " scattered; save numpy.ascontiguousarray of it"
        )
    pixels, codes = labelled(images.view(np.uint8), labels, images_path, labels_path)
    return pixels.view(images.dtype), codes


def _mapped(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"mapped_folder: there is no {path}; put it there")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(
            f"mapped_folder: {path} is no whole array of numbers ({error}); write it with"
            " numpy.save"
        ) from error
