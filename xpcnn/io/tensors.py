"""Named arrays and a text in one safetensors file.

Source: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._files import replacing


def write_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], about: str
) -> None:
    """Write arrays by name, and a text about them under "xpcnn", whole or not at all.

    Raises ValueError where `path` is no place for a file, OSError where it cannot be written.
    """
    from safetensors.numpy import save

    # not ascontiguousarray, which makes an array of one entry of a 0-d one
    lying = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    data = save(lying, metadata={"xpcnn": about})
    with replacing(path) as file:
        file.write(data)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, np.ndarray], str | None]:
    """The arrays of a file, and the text about them, or None where xpcnn did not write it.

    `kind` is what the file should be, for errors: FileNotFoundError, IsADirectoryError, or
    ValueError for what is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give a {kind}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; train a model first")
    if not path.is_file():
        raise ValueError(f"{path}: is a device or a pipe; give a {kind}")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, (file.metadata() or {}).get("xpcnn")
    except (SafetensorError, TypeError, AttributeError) as error:  # the last two: unknown dtypes
        raise ValueError(f"{path}: is no safetensors file, or damaged: {error}") from error
