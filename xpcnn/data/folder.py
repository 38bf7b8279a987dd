"""Folders of image files, one subfolder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from .._check import require_count, sizes
from ..io.images import RESIZES
from .dataset import Dataset
from .pictures import Pictures
from .scan import Files, Skipped, astray, class_files, is_image, printable, readable, visible
from .split import HELD_BACK, stratified_split

TRAIN, TEST = "train", ("test", "val", "valid")
ARRAYS = (".npy", "-ubyte", "-ubyte.gz")  # how the names of MNIST's files and NumPy's end
TOLD = 10  # so many of the files that cannot be used are named in an error


@dataclass(frozen=True, eq=False, repr=False)
class ImageFolder(Dataset):
    """A data set whose images are `Pictures`; `skipped` is what of its folder was left out."""

    train: tuple[Any, np.ndarray]
    test: tuple[Any, np.ndarray]
    skipped: tuple[Skipped, ...] = ()


def image_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int],
    *,
    color: bool = True,
    resize: str = "crop",
    on_error: str = "raise",
    test: float = HELD_BACK,
    seed: int = 0,
    threads: int | None = None,
) -> ImageFolder:
    """The data set in a folder with one subfolder a class, whose image files are read when needed.

    Images are uint8 (N, C, H, W), where (H, W) is `size`, or each of both: RGB, or grey without
    `color`, and brought to that size as `read_image` does, by `resize`. Classes have the names of
    their folders, and that order. Where there is a folder "train" of such subfolders, those are
    trained on, and the same classes in "test", else "val" or "valid", are tested with; otherwise a
    stratified part `test` of all is held back, chosen by `seed`. A class's images may lie in
    folders within its own. Hidden files, and those whose names do not end like an image's, are
    passed over.

    First, all files are read once by `threads` threads. What then cannot be used is refused, ten of
    it named, with `on_error` "raise", or left out and listed with "skip": damaged files, images
    outside of the classes' folders, links that leave `path`, classes without an image. A file that
    is damaged or goes missing later raises an error when it is read.

    Raises ValueError, too, for less than two classes, for parts of other classes and for options
    out of range, TypeError for those of other kinds; FileNotFoundError, NotADirectoryError; and
    ImportError where OpenCV is missing.

    >>> image_folder("nowhere", 224)
    Traceback (most recent call last):
    FileNotFoundError: image_folder: there is no nowhere; give a folder with one subfolder a class

    Source: the folders that torchvision.datasets.ImageFolder reads.
    """
    height, width = sizes("image_folder", "size", size, 2)
    in_shape = (3 if color else 1, height, width)
    _check_options(resize, on_error, test, threads)
    root, skipped = os.fsdecode(path), list[Skipped]()
    folders = _parts(root)
    found = [class_files(folder, os.path.realpath(root), skipped) for folder in folders]
    _check_found(root, found, skipped, on_error)
    found = [readable(*part, threads, skipped) for part in zip(folders, found, strict=True)]
    names = tuple(found[0])
    found = [{name: files.get(name, []) for name in names} for files in found]
    _check_found(root, found, skipped, on_error)

    listed = [_listed(files) for files in found]
    train, held = listed if len(listed) == 2 else _split(root, *listed[0], test, seed)
    if not held[0]:
        raise ValueError(f"image_folder: {folders[-1]} holds no image to test with; give some")
    pictures = partial(Pictures, in_shape=in_shape, resize=resize, threads=threads)
    return ImageFolder(
        printable(Path(root).absolute().name),
        (pictures(train[0]), train[1]),
        (pictures(held[0]), held[1]),
        tuple(map(printable, names)),
        tuple(skipped),
    )


def is_image_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a folder of pictures or folders, in which no files of arrays lie.

    >>> is_image_folder("digits")
    False

    Source: the folders that torchvision.datasets.ImageFolder reads.
    """
    if not os.path.isdir(path):
        return False
    inside = visible(os.fsdecode(path))
    return not any(name.endswith(ARRAYS) for name in inside) and any(
        is_image(name) or os.path.isdir(os.path.join(os.fsdecode(path), name)) for name in inside
    )


def _parts(root: str) -> list[str]:
    """The folders of classes to train on and, if they lie apart, to test with."""
    if not os.path.exists(root):
        raise FileNotFoundError(
            f"image_folder: there is no {root}; give a folder with one subfolder a class"
        )
    if not os.path.isdir(root):
        raise NotADirectoryError(
            f"image_folder: {root} is a file; give the folder of the folders that hold the classes"
        )
    inside = [name for name in visible(root) if os.path.isdir(os.path.join(root, name))]
    if not inside and any(map(is_image, visible(root))):
        raise ValueError(
            f"image_folder: {root} holds no folders; put the pictures of each class into a folder"
            " of its own"
        )
    held = [name for name in TEST if name in inside][:1]
    if TRAIN not in inside or not (held or inside == [TRAIN]):
        return [root]
    parts = [os.path.join(root, name) for name in (TRAIN, *held)]
    if any(map(is_image, visible(parts[0]))):
        return [root]
    for part in parts:
        if reason := astray(part, os.path.realpath(root)):
            raise ValueError(f"image_folder: {part}: {reason}")
    return parts


def _check_found(
    root: str, found: Sequence[Files], skipped: Sequence[Skipped], on_error: str
) -> None:
    """Refuse what cannot be used, fewer than two classes, and parts of other classes."""
    if skipped and on_error == "raise":
        told = "".join(f"\n  {path}: {reason}" for path, reason in skipped[:TOLD])
        more = f"\n  and {len(skipped) - TOLD} more" if len(skipped) > TOLD else ""
        raise ValueError(
            f"image_folder: of {root}, {len(skipped)} cannot be used; mend or remove what follows,"
            f' or have it left out with on_error="skip" (--skip-unreadable):{told}{more}'
        )
    names = [printable(name) for name in found[0]]
    if len(names) < 2:
        held = f"the one class {names[0]!r}" if names else "no class"
        raise ValueError(
            f"image_folder: {root} holds {held}; give at least two, each a folder with its images"
        )
    differing = found[0].keys() ^ found[-1].keys()
    if differing:
        raise ValueError(
            f"image_folder: the parts of {root} must hold the same classes; not all hold"
            f" {', '.join(sorted(map(printable, differing)))}"
        )


def _listed(files: Files) -> tuple[tuple[str, ...], np.ndarray]:
    """All paths, and the label of each."""
    counts = [len(paths) for paths in files.values()]
    labels = np.repeat(np.arange(len(files), dtype=np.int64), counts)
    return tuple(path for paths in files.values() for path in paths), labels


def _split(
    root: str, paths: Sequence[str], labels: np.ndarray, fraction: float, seed: int
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    if np.bincount(labels).max() < 2:
        raise ValueError(
            f"image_folder: no class of {root} has two images; one to train on and one to test with"
            " are the least"
        )
    parts = stratified_split(labels, fraction, seed)
    return [(tuple(paths[index] for index in part), labels[part]) for part in parts]


def _check_options(resize: str, on_error: str, test: float, threads: int | None) -> None:
    for name, value, known in (
        ("resize", resize, RESIZES),
        ("on_error", on_error, ("raise", "skip")),
    ):
        if value not in known:
            raise ValueError(
                f"image_folder: {name}={value!r}; give {' or '.join(map(repr, known))}"
            )
    if not isinstance(test, Real) or not 0.0 < test < 1.0:
        kind = ValueError if isinstance(test, Real) else TypeError
        raise kind(f"image_folder: test must lie in (0, 1); it is {test!r}")
    if threads is not None:
        require_count("image_folder", "threads", threads)
