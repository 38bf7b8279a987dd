"""IDX files: one array each, the format of MNIST and of the data sets that took its place.

    00 00 | type code | rank | sizes: 4 bytes each, big-endian | values: big-endian, last axis first

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import numpy as np

from .._files import replacing

Stream = IO[bytes] | gzip.GzipFile

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

GZIP = b"\x1f\x8b"
MAX_RANK = 64  # NumPy's own
CHUNK = 1 << 20  # read so much at a time: memory follows what the file holds, not what it promises
FREE, RATIO = 1 << 28, 256  # gzip may unpack to 256 MiB, or else to 256 times its own size


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, plain or gzip (told by its first bytes), as an array of native byte order.

    Raises ValueError naming file, place and cause for anything that is no whole IDX file, and for
    gzip that would unpack to more than 256 MiB and 256 times its own size. A missing file raises
    FileNotFoundError, a folder IsADirectoryError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(Path(folder, "a.gz"), np.arange(6, dtype=np.uint8).reshape(2, 3))
    ...     read_idx(Path(folder, "a.gz"))
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)

    Source: the MNIST database's page, "The IDX file format".
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"read_idx: {path} is a folder; give the path of one IDX file")
    with open(path, "rb") as file:
        if file.peek(2)[:2] != GZIP:
            return read_stream(file, path)
        size = os.fstat(file.fileno()).st_size
        try:
            return read_stream(gzip.GzipFile(fileobj=file), path, limit=max(FREE, RATIO * size))
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"read_idx: {path}: damaged or truncated gzip within its first {file.tell()} of"
                f" {size} bytes ({error}); get the file anew"
            ) from error


def map_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a plain IDX file of bytes into memory: an array that is read where it is indexed.

    Not writeable; the file must stay as it is while the array is used. Raises what `read_idx` does,
    and ValueError for gzip, which cannot be mapped, and for values of more than a byte, which in
    IDX have an order of bytes that few processors have.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(Path(folder, "a"), np.arange(6, dtype=np.uint8).reshape(2, 3))
    ...     map_idx(Path(folder, "a"))[1]
    memmap([3, 4, 5], dtype=uint8)

    Source: the MNIST database's page, "The IDX file format".
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"map_idx: {path} is a folder; give the path of one IDX file")
    with open(path, "rb") as file:
        if file.peek(2)[:2] == GZIP:
            raise ValueError(f"map_idx: {path} is gzip, which cannot be mapped; unpack it")
        dtype, shape = _header(file, path)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    if dtype.itemsize > 1:
        raise ValueError(f"map_idx: {path} holds {dtype.name}; only bytes can be mapped")
    due = math.prod(shape)
    if size < start + due:
        raise _damage(path, size, f"it ends; shape {shape} is {due} bytes of values")
    if size > start + due:
        raise _damage(path, start + due, f"more bytes than the {due} of shape {shape}")
    return np.memmap(path, dtype, "r", start, shape)


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as an IDX file, whole or not at all; as gzip where the name ends in .gz.

    The same array gives the same bytes (gzip holds no time). Raises TypeError for a dtype that IDX
    does not have and ValueError for a rank over 64 or a size over 2**32 - 1.

    >>> write_idx("labels.idx1", np.zeros(3, np.int64))
    Traceback (most recent call last):
    TypeError: write_idx: IDX has no int64; convert to uint8, int8, int16, int32, float32 or float64

    Source: the MNIST database's page, "The IDX file format".
    """
    array = np.asarray(array)
    stored = array.dtype.newbyteorder(">")
    code = next((code for code, name in TYPES.items() if np.dtype(name) == stored), None)
    if code is None:
        names = [np.dtype(name).name for name in TYPES.values()]
        known = f"{', '.join(names[:-1])} or {names[-1]}"
        raise TypeError(f"write_idx: IDX has no {array.dtype}; convert to {known}")
    if array.ndim > MAX_RANK or max(array.shape, default=0) >= 1 << 32:
        raise ValueError(f"write_idx: {array.shape} is too large for IDX; sizes are below 2**32")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    values = np.asarray(array, dtype=stored, order="C").reshape(-1).view(np.uint8)
    with replacing(path) as file:
        zipped = Path(path).suffix == ".gz"
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) if zipped else nullcontext(file) as out:
            out.write(header)
            out.write(values.data)


def read_stream(
    stream: Stream, path: str | os.PathLike[str], limit: int | None = None
) -> np.ndarray:
    """The array of an unpacked stream, if its values take at most `limit` bytes.

    Raises ValueError, naming `path`, for anything that is no whole IDX file, and for more bytes.

    >>> from io import BytesIO
    >>> read_stream(BytesIO(bytes.fromhex("00 00 08 01 00 00 00 02 03 04")), "labels")
    array([3, 4], dtype=uint8)

    Source: the MNIST database's page, "The IDX file format".
    """
    dtype, shape = _header(stream, path)
    start, due = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
    if limit is not None and due > limit:
        raise _damage(path, 4, f"shape {shape} is {due} bytes, too many for gzip of this size")
    values = bytearray()
    while chunk := stream.read(min(CHUNK, due - len(values))):
        values += chunk
    if len(values) < due:
        raise _damage(path, start + len(values), f"it ends; shape {shape} is {due} bytes of values")
    if stream.read(1):  # at the end of gzip this checks its sum, too
        raise _damage(path, start + due, f"more bytes than the {due} of shape {shape}")
    array = np.frombuffer(values, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(stream: Stream, path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if not magic:
        raise _damage(path, 0, "it is empty; an IDX file starts with 4 bytes that tell its kind")
    if magic[:2] != b"\0\0"[: len(magic)]:
        raise _damage(path, 0, f"no IDX file: it starts with {magic[:2].hex(' ')}, not with 00 00")
    if len(magic) < 4:
        raise _damage(path, len(magic), "the header ends; its first 4 bytes tell type and rank")
    _, _, code, rank = magic
    if code not in TYPES:
        known = ", ".join(f"{known:02x}" for known in TYPES)
        raise _damage(path, 2, f"unknown type code {code:02x}; there are {known}")
    if rank > MAX_RANK:
        raise _damage(path, 3, f"rank {rank}; at most {MAX_RANK} can be read")
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise _damage(path, 4 + len(sizes), f"the header ends; rank {rank} has {rank} sizes")
    dtype, shape = np.dtype(TYPES[code]), struct.unpack(f">{rank}I", sizes)
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > sys.maxsize:
        raise _damage(path, 4, f"shape {shape} is larger than any memory")
    return dtype, shape


def _damage(path: str | os.PathLike[str], place: int, cause: str) -> ValueError:
    return ValueError(f"read_idx: {path}, byte {place}: {cause}")
