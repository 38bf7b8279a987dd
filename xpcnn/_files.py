"""Files are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def require_place(path: str | os.PathLike[str]) -> Path:
    """Where a file of that name will lie: `path`, through a symbolic link, which stays one.

    Raises ValueError where there is something that is no ordinary file, FileNotFoundError where its
    folder is missing.

    >>> require_place("nowhere/a.txt")
    Traceback (most recent call last):
    FileNotFoundError: writing nowhere/a.txt: there is no folder ...nowhere; make it first
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"writing {path}: it is a folder or a device; give the name of a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"writing {path}: there is no folder {target.parent}; make it first"
        )
    return target


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends, and only if it ends well.

    The bytes go to a temporary file beside it, are flushed to the disk and then renamed, so that a
    reader sees the old file or the new one, and an error or a power cut leaves the old one whole.
    Raises ValueError where `path` is there and is no ordinary file, FileNotFoundError where
    its folder is missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as file:
    ...         _ = file.write(b"all of it")
    ...     Path(folder, "a.txt").read_bytes()
    b'all of it'
    """
    target = require_place(path)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _flush_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    """Let the new name reach the disk, too, where a folder can be flushed."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
