"""Data sets, the files that hold them, and batches."""

from __future__ import annotations

from .augmentation import (
    Augment,
    Colour,
    Crop,
    CutOut,
    Flip,
    Rotate,
    Scale,
    Shift,
    parse_augment,
)
from .batches import batches
from .catalog import SETS, Source
from .dataset import Dataset
from .folder import ImageFolder, image_folder, is_image_folder
from .idx import map_idx, read_idx, write_idx
from .local import find, get
from .mapped import Subset, is_read_as_needed, mapped_folder, part, run_length
from .mixing import CutMix, Mixup, one_hot
from .pictures import Pictures
from .prefetch import prefetch
from .sets import digits, fashion_mnist, from_path, load
from .split import stratified_split

__all__ = [
    "SETS",
    "Augment",
    "Colour",
    "Crop",
    "CutMix",
    "CutOut",
    "Dataset",
    "Flip",
    "ImageFolder",
    "Mixup",
    "Pictures",
    "Rotate",
    "Scale",
    "Shift",
    "Source",
    "Subset",
    "batches",
    "digits",
    "fashion_mnist",
    "find",
    "from_path",
    "get",
    "image_folder",
    "is_image_folder",
    "is_read_as_needed",
    "load",
    "map_idx",
    "mapped_folder",
    "one_hot",
    "parse_augment",
    "part",
    "prefetch",
    "read_idx",
    "run_length",
    "stratified_split",
    "write_idx",
]
