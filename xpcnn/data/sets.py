"""Data sets: labelled images, split into those to train on and those to test with."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..random import fold_in, key, permutation
from .idx import read_idx

Labelled = tuple[np.ndarray, np.ndarray]
"""Images, uint8 (N, C, H, W), and their labels, int64 (N,)."""

HELD_BACK = 0.2  # the test part of a set that comes in one piece
MAX_CLASSES = 1 << 16  # more: the labels are not numbers of classes
DEBIAN = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts it
GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images: `train` and `test` are (images, labels), uint8 (N, C, H, W) and int64 (N,).

    `classes` holds the name of each label, 0 to len(classes) - 1.
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        train, test = self.train[0].shape, self.test[0].shape
        return f"Dataset({self.name!r}, train={train}, test={test}, classes={len(self.classes)})"


def load(name: str | os.PathLike[str]) -> Dataset:
    """The data set of that name, "digits" or "fashion-mnist", or the one at that path.

    Raises ValueError where it is neither; what `fashion_mnist` and `from_path` raise, too.

    >>> load("digits")
    Dataset('digits', train=(1438, 1, 8, 8), test=(359, 1, 8, 8), classes=10)
    """
    named: dict[Any, Callable[[], Dataset]] = {"digits": digits, "fashion-mnist": fashion_mnist}
    if name in named:
        return named[name]()
    if not Path(name).exists():
        raise ValueError(
            f'load: there is no data set and no file "{name}"; choose {" or ".join(named)}, or give'
            " the path of an IDX images file or of a folder with MNIST's four files"
        )
    return from_path(name)


def digits(seed: int = 0) -> Dataset:
    """1,797 handwritten digits, 1x8x8, that come with xpcnn; `seed` chooses the fifth for testing.

    >>> digits().train[0].shape, digits().test[0].shape
    ((1438, 1, 8, 8), (359, 1, 8, 8))

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49 (CC BY 4.0).
    """
    folder = Path(__file__).with_name("digits")
    sixteenths, labels = _labelled(folder / "images.idx3.gz", folder / "labels.idx1.gz")
    images = ((sixteenths.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    return _split("digits", images, labels, seed)


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """60,000 + 10,000 pictures of garments, 1x28x28, read from four IDX files, plain or gzip.

    They are looked for in `folder`; where it is None, in the subfolder fashion-mnist of
    $XPCNN_DATA, in $XPCNN_DATA itself, then where Debian's package dataset-fashion-mnist puts them.
    Raises FileNotFoundError telling how to get them, and ValueError for damaged files.

    >>> fashion_mnist("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: fashion_mnist: no train-images-idx3-ubyte(.gz) in nowhere; run "apt-get \
install dataset-fashion-mnist", or set XPCNN_DATA to a folder that holds the four files

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", 2017, https://arxiv.org/abs/1708.07747.
    """
    folders = _fashion_folders() if folder is None else [Path(folder)]
    for place in folders:
        if _find(place, "train-images-idx3-ubyte"):
            return _mnist_folder("fashion-mnist", place, GARMENTS)
    raise FileNotFoundError(
        f"fashion_mnist: no train-images-idx3-ubyte(.gz) in {' or '.join(map(str, folders))}; run"
        ' "apt-get install dataset-fashion-mnist", or set XPCNN_DATA to a folder that holds the'
        " four files"
    )


def from_path(path: str | os.PathLike[str], seed: int = 0) -> Dataset:
    """The data set in a folder with MNIST's four files, or in one IDX images file.

    The four are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, each plain or with .gz. A single file is named like "my-images-idx3.gz",
    its labels lie beside it as "my-labels-idx1.gz", and a stratified fifth is held back as the test
    set, chosen by `seed`. Images are unsigned bytes, (N, H, W) or (N, C, H, W). Classes are named
    by their numbers. Raises FileNotFoundError for what is missing and ValueError for damaged files
    and those that do not belong together.
    """
    path = Path(path)
    if path.is_dir():
        return _mnist_folder(path.absolute().name, path, None)
    if not path.exists():
        raise FileNotFoundError(f"from_path: there is no {path}; give an IDX images file or folder")
    images, labels = _labelled(path, _labels_beside(path))
    return _split(path.name, images, labels, seed)


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold back a fraction of each class: (train, test) indices, ascending int64, by `seed`.

    Test has round(fraction * N) of the N labels, each class its share rounded up or down; except
    that a class of two or more has at least one on each side, and a class of one is for training.
    Raises ValueError for labels that are not (N,), a fraction outside (0, 1), or where no class has
    two members.

    >>> stratified_split(np.array([0, 1, 0, 1, 0, 1, 0, 1]), 0.25, seed=0)
    (array([1, 2, 3, 4, 6, 7]), array([0, 5]))

    Source: the largest-remainder method (Hamilton's apportionment).
    """
    if labels.ndim != 1:
        raise ValueError(f"stratified_split: labels must be (N,); they are {labels.shape}")
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"stratified_split: fraction must lie in (0, 1); it is {fraction}")
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.max(initial=0) < 2:
        raise ValueError("stratified_split: labels must hold a class of two members at least")
    held = np.zeros(labels.size, np.bool_)
    for number, quota in enumerate(_quotas(counts, fraction)):
        members = np.flatnonzero(class_of == number)
        held[members[permutation(fold_in(key(seed), number), members.size)[:quota]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _quotas(counts: np.ndarray, fraction: float) -> np.ndarray:
    """How many of each class to hold back."""
    shares = (counts * fraction).round(9)  # 9: no remainder of 4e-16 where the share is whole
    quotas = np.floor(shares).astype(np.int64)
    total = int(counts.sum() * fraction + 0.5)
    largest = np.argsort(quotas - shares, kind="stable")
    quotas[largest[: total - quotas.sum()]] += 1
    return np.clip(quotas, np.minimum(counts - 1, 1), counts - 1)


def _split(name: str, images: np.ndarray, labels: np.ndarray, seed: int) -> Dataset:
    train, test = stratified_split(labels, HELD_BACK, seed)
    parts = (images[train], labels[train]), (images[test], labels[test])
    return Dataset(name, *parts, _numbered(labels))


def _mnist_folder(name: str, folder: Path, classes: tuple[str, ...] | None) -> Dataset:
    train, test = (
        _labelled(
            _found(folder, f"{part}-images-idx3-ubyte"), _found(folder, f"{part}-labels-idx1-ubyte")
        )
        for part in ("train", "t10k")
    )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{folder}: images to train on are {train[0].shape[1:]} and those to test with"
            f" {test[0].shape[1:]} (C, H, W); they must be alike"
        )
    numbered = _numbered(np.concatenate([train[1], test[1]]))
    if classes is not None and len(numbered) > len(classes):
        raise ValueError(
            f"{folder}: a label is {len(numbered) - 1}; {name} has {len(classes)} classes"
        )
    return Dataset(name, train, test, classes or numbered)


def _labelled(images_path: Path, labels_path: Path) -> Labelled:
    """Read and check the two files of one part."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(
            f"{images_path}: images must be unsigned bytes (N, H, W) or (N, C, H, W), at least one;"
            f" they are {images.dtype} {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_path}: labels must be integers ({len(images)},), one for each image of"
            f" {images_path}; they are {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise ValueError(
            f"{labels_path}: labels must lie in 0 to {MAX_CLASSES - 1};"
            f" they run from {labels.min()} to {labels.max()}"
        )
    return images if images.ndim == 4 else images[:, np.newaxis], labels.astype(np.int64)


def _numbered(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(str(number) for number in range(int(labels.max()) + 1))


def _fashion_folders() -> list[Path]:
    chosen = os.environ.get("XPCNN_DATA")
    own = [Path(chosen, "fashion-mnist"), Path(chosen)] if chosen else []
    return [*own, Path(DEBIAN)]


def _labels_beside(images: Path) -> Path:
    if "images" not in images.name:
        raise ValueError(
            f"from_path: {images} does not say where its labels are; name the two files alike,"
            " with images-idx3 and labels-idx1"
        )
    name = re.sub("idx[34]", "idx1", images.name.replace("images", "labels"))
    return _found(images.parent, name.removesuffix(".gz"))


def _found(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder}: there is no {name}, plain or with .gz; put it there")
    return path


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)
