"""Data sets, the files that hold them, and batches."""

from __future__ import annotations

from .batches import batches
from .idx import read_idx, write_idx
from .sets import Dataset, digits, fashion_mnist, from_path, load, stratified_split

__all__ = [
    "Dataset",
    "batches",
    "digits",
    "fashion_mnist",
    "from_path",
    "load",
    "read_idx",
    "stratified_split",
    "write_idx",
]
