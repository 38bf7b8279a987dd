"""SVHN's cropped digits: MATLAB files, read by SciPy (the extra `data`)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from .dataset import Labelled, Parts

SHAPE = (32, 32, 3)


def read_svhn(*paths: Path) -> Parts:
    """The parts of SVHN: the last file is to test with, all others to train on, one after another.

    Raises ValueError for a file that is damaged or does not hold X, uint8 (32, 32, 3, N), and y,
    the digits (N, 1) with 10 for 0; ImportError where SciPy is missing.

    Source: Netzer et al., "Reading digits in natural images with unsupervised feature learning",
    2011, http://ufldl.stanford.edu/housenumbers.
    """
    *train, test = paths
    return _joined([_read(path) for path in train]), _joined([_read(test)]), tuple("0123456789")


def _joined(parts: list[Labelled]) -> Labelled:
    """One copy, channels first: MATLAB's images lie column by column."""
    shape = (sum(len(labels) for _, labels in parts), 3, 32, 32)
    images = np.concatenate([part[0] for part in parts], out=np.empty(shape, np.uint8))
    return images, np.concatenate([labels for _, labels in parts])


def _read(path: Path) -> Labelled:
    """Views of what the file holds, (N, 3, 32, 32) and (N,)."""
    scipy_io = _scipy_io()
    with open(path, "rb") as file:
        try:
            held = scipy_io.loadmat(file, variable_names=("X", "y"))
        except MemoryError:
            raise
        except Exception as error:  # whatever SciPy trips over
            raise ValueError(f"{path}: no MATLAB file, or damaged; get it anew") from error
    if missing := {"X", "y"} - held.keys():
        raise ValueError(f"{path}: it holds no {' and no '.join(sorted(missing))}; get it anew")
    images, labels = held["X"], held["y"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != SHAPE:
        raise ValueError(
            f"{path}: X must be uint8 (32, 32, 3, N); it is {images.dtype} {images.shape}"
        )
    if labels.shape != (images.shape[3], 1) or not np.isin(labels, range(1, 11)).all():
        raise ValueError(
            f"{path}: y must be ({images.shape[3]}, 1), of 1 to 10; it is {labels.shape}"
        )
    return images.transpose(3, 2, 0, 1), labels[:, 0].astype(np.int64) % 10


def _scipy_io() -> ModuleType:
    try:
        import scipy.io
    except ImportError as error:
        raise ImportError('load: SVHN needs SciPy: pip install "xpcnn[data]"') from error
    return scipy.io
