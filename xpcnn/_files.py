"""Files are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
    target = Path(os.path.realpath(path))  # through a symbolic link, which stays one
    if target.exists() and not target.is_file():
        raise ValueError(f"writing {path}: it is a folder or a device; give the name of a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"writing {path}: there is no folder {target.parent}; make it first"
        )
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
