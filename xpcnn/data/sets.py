"""Data sets by name or path: labelled images, those to train on and those to test with."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .catalog import SETS, Source
from .dataset import Dataset
from .folder import is_image_folder
from .local import find, places, plain_or_gzip
from .mapped import holds_arrays, mapped_folder, part
from .mnist import FOUR, numbered, read_mnist, read_pair
from .split import HELD_BACK, stratified_split


def load(name: str | os.PathLike[str]) -> Dataset:
    """The data set of that name, "digits" or one of `SETS`, or the one at that path.

    Sets of a name are found on this machine: in the folder that the environment variable XPCNN_DATA
    names, where Debian's packages put them, or where `get` has downloaded them to. Nothing is
    downloaded here. Raises ValueError where there is no such name and path, FileNotFoundError
    telling how to get a set that is not here, ValueError for damaged files; what `from_path`
    raises, too.

    >>> load("digits")
    Dataset('digits', train=(1438, 1, 8, 8), test=(359, 1, 8, 8), classes=10)

    Source: sklearn.datasets.fetch_openml, which takes names, too.
    """
    if name == "digits":
        return digits()
    if isinstance(name, str) and name in SETS:
        return _load(SETS[name], places(SETS[name]))
    if not Path(name).exists():
        raise ValueError(
            f'load: there is no data set and no file "{name}"; choose digits, {", ".join(SETS)}, or'
            " give the path of a folder with one subfolder of pictures a class, of an IDX images"
            " file or of a folder with MNIST's four files"
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
    sixteenths, labels = read_pair(folder / "images.idx3.gz", folder / "labels.idx1.gz")
    images = ((sixteenths.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    return _split("digits", images, labels, seed)


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """60,000 + 10,000 pictures of garments, 1x28x28, read from four IDX files, plain or gzip.

    They are read from `folder`; where it is None, they are found as `load` does.
    Raises FileNotFoundError telling how to get them, and ValueError for damaged files.

    >>> fashion_mnist("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: load: fashion-mnist (train-images-idx3-ubyte.gz, ...) is not in nowhere; run
    "xpcnn data get fashion-mnist", or put it there

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", 2017, https://arxiv.org/abs/1708.07747.
    """
    source = SETS["fashion-mnist"]
    return _load(source, places(source) if folder is None else [Path(folder)])


def from_path(path: str | os.PathLike[str], seed: int = 0) -> Dataset:
    """The data set in a folder with MNIST's four files or with NumPy's, or in one IDX images file.

    NumPy's are those of `mapped_folder`. MNIST's are train-images-idx3-ubyte,
    train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or with
    .gz. A single file is named like "my-images-idx3.gz", its labels lie beside it as
    "my-labels-idx1.gz", and a stratified fifth is held back as the test set, chosen by `seed`.
    Images are unsigned bytes, (N, H, W) or (N, C, H, W); plain files of more than 64 MiB are read
    as they are needed. Classes are named by their numbers. Raises FileNotFoundError for what is
    missing and ValueError for damaged files and those that do not belong together.

    >>> from_path("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: from_path: there is no nowhere; give an IDX images file or folder

    Source: the MNIST database's page, whose names of files these are.
    """
    path = Path(path)
    if path.is_dir() and holds_arrays(path):
        return mapped_folder(path, seed=seed)
    if is_image_folder(path):
        raise FileNotFoundError(
            f"from_path: {path} holds pictures or folders, but neither NumPy's files (images.npy,"
            " labels.npy) nor MNIST's four; image_folder(path, size) reads a folder of pictures"
        )
    if path.is_dir():
        return Dataset(path.absolute().name, *read_mnist(*(_found(path, name) for name in FOUR)))
    if not path.exists():
        raise FileNotFoundError(f"from_path: there is no {path}; give an IDX images file or folder")
    images, labels = read_pair(path, _labels_beside(path))
    return _split(path.name, images, labels, seed)


def _split(name: str, images: np.ndarray, labels: np.ndarray, seed: int) -> Dataset:
    train, test = stratified_split(labels, HELD_BACK, seed)
    parts = (part(images, train), labels[train]), (part(images, test), labels[test])
    return Dataset(name, *parts, numbered(labels))


def _load(source: Source, folders: Sequence[Path]) -> Dataset:
    paths = find(source, folders)
    if paths is None:
        names = ", ".join(file.name for file in source.files)
        raise FileNotFoundError(
            f"load: {source.name} ({names}) is not in {' or '.join(map(str, folders))}; run"
            f' "xpcnn data get {source.name}", or put it there'
        )
    train, test, classes = source.read(*paths)
    labels = np.concatenate([train[1], test[1]])
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"{paths[0].parent}: labels run from {labels.min()} to {labels.max()}; {source.name}"
            f" has {len(classes)} classes"
        )
    return Dataset(source.name, train, test, classes)


def _labels_beside(images: Path) -> Path:
    if "images" not in images.name:
        raise ValueError(
            f"from_path: {images} does not say where its labels are; name the two files alike,"
            " with images-idx3 and labels-idx1"
        )
    name = re.sub("idx[34]", "idx1", images.name.replace("images", "labels"))
    return _found(images.parent, name.removesuffix(".gz"))


def _found(folder: Path, name: str) -> Path:
    path = plain_or_gzip(folder, f"{name}.gz")
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: there is no {name}, plain or with .gz; put it there")
    return path
