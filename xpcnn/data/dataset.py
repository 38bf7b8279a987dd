"""What a data set is: labelled images in two parts, and the names of the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Labelled = tuple[np.ndarray, np.ndarray]
"""Images, uint8 (N, C, H, W), and their labels, int64 (N,)."""

Parts = tuple[Labelled, Labelled, tuple[str, ...]]
"""What is for training, what for testing, and the names of the labels, 0 and up."""

MAX_CLASSES = 1 << 16  # more: the labels are not numbers of classes


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


def labelled(
    images: np.ndarray, labels: np.ndarray, images_path: Path, labels_path: Path
) -> Labelled:
    """Images and labels of these files, checked: that they belong together and are what they seem.

    Images are uint8, (N, H, W) or (N, C, H, W), and labels integers (N,), from 0. Raises ValueError
    naming the file.
    """
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
