"""Files of the web: whole and verified in the end; broken off before, to be gone on with.

While NAME is on its way its bytes are in NAME.part, beside the server's word for the version that
they are of (NAME.tag), and whoever adds to them holds NAME.lock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .catalog import File

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
WAITS = (1.0, 4.0)  # seconds, before a stalled or broken connection is made anew
LATIN = "latin-1"  # in which headers are written

Progress = Callable[[int, int], None]
"""Called as (bytes that are here, bytes due), again and again."""


def fetch(
    file: File,
    folder: Path,
    progress: Progress | None = None,
    *,
    timeout: float = TIMEOUT,
    waits: Sequence[float] = WAITS,
) -> Path:
    """Bring a file into a folder, made where there is none; the path of the verified file.

    One that is there already is taken if its sum is right. What is broken off stays as NAME.part,
    and the next call goes on from its end. After `timeout` seconds without a byte, or where the
    connection breaks, it is made anew after each of the `waits`, which begin again whenever more
    has come. Another process that fetches the same file is waited for. Raises ValueError for a sum
    other than due, or where the server's file ends before what is here, and removes what came;
    ValueError where the server tells another size; TimeoutError and ConnectionError where it stalls
    or breaks off once more; OSError where it refuses or leads astray, and for what cannot be
    written.

    >>> import hashlib, tempfile
    >>> file = File("http://127.0.0.1:9/a", 1, hashlib.sha256(b"a").hexdigest())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a").write_bytes(b"a")
    ...     fetch(file, Path(folder)).name
    'a'

    Source: RFC 9110, "HTTP Semantics", section 14, "Range Requests".
    """
    from filelock import FileLock

    path, part = folder / file.name, folder / f"{file.name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{file.name}.lock"):
        if not path.is_file() or _sha256(path) != file.sha256:
            _complete(part, file, progress, timeout, waits)
            _verify(part, file)
            os.replace(part, path)
            _tag(part).unlink(missing_ok=True)
    if progress is not None:
        progress(file.size, file.size)
    return path


def _complete(
    part: Path, file: File, progress: Progress | None, timeout: float, waits: Sequence[float]
) -> None:
    most, left = _size(part), iter(waits)
    while True:
        try:
            return _go_on(part, file, progress, timeout)
        except OSError as error:
            if error.errno is not None:  # not said below, of the network
                cause = f"{error.strerror}; once it can be written, run again to go on from there"
                raise OSError(error.errno, cause, str(part)) from error
            if _size(part) > most:
                most, left = _size(part), iter(waits)
            wait = next(left, None)
            if wait is None or not isinstance(error, TimeoutError | ConnectionError):
                raise
            time.sleep(wait)


def _go_on(part: Path, file: File, progress: Progress | None, timeout: float) -> None:
    """Receive what `part` lacks, over one connection."""
    start = _size(part)
    if start >= file.size:
        return
    with _ask(part, file, start, timeout) as answer:
        done = start if answer.status == 206 else 0
        if answer.length not in (None, file.size - done):  # None: it does not tell
            raise _other_size(file, done + answer.length)
        with open(part, "ab") as out:
            out.truncate(done)
            if done == 0:
                _tag(part).write_text(_version(answer), LATIN)
            while done <= file.size and (chunk := _receive(file, answer, timeout)):
                done += out.write(chunk)
                if progress is not None:
                    progress(done, file.size)
            out.flush()
            os.fsync(out.fileno())
    if done < file.size:
        raise _broken_off(file, f"{done:,} of {file.size:,} bytes are here")


def _ask(part: Path, file: File, start: int, timeout: float) -> HTTPResponse:
    """The server's answer: what follows byte `start`, or all of it (HTTP 200)."""
    headers = {"User-Agent": "xpcnn"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version := _known(part):
            headers["If-Range"] = version
    instead = f"try again later, or put the file into {part.parent}"
    try:
        request = Request(file.url, headers=headers)
        return build_opener(_WebOnly).open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            part.unlink()
            raise _removed(file, f"the server's file ends within {start:,} bytes") from error
        message = f"get: {file.url}: HTTP {error.code} {error.reason}; {instead}"
        raise OSError(message) from error
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise _stalled(file, timeout) from error
        if isinstance(cause, ConnectionResetError | HTTPException):
            raise _broken_off(file, cause) from error
        raise OSError(f"get: {file.url} cannot be reached: {cause}; {instead}") from error


class _WebOnly(HTTPRedirectHandler):
    """Follows a server to where HTTP is spoken, and nowhere else."""

    def http_error_302(self, req, fp, code, msg, headers):
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except (ValueError, InvalidURL) as error:
            cause = f"{msg} - Redirection to no address: {error}"
            raise HTTPError(req.full_url, code, cause, headers, fp) from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme not in ("http", "https"):
            cause = f"{msg} - Redirection to url '{newurl}' is not allowed"  # urllib's words
            raise HTTPError(newurl, code, cause, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(file: File, answer: HTTPResponse, timeout: float) -> bytes:
    """What has come, empty at the end."""
    try:
        return answer.read1(CHUNK)
    except TimeoutError as error:
        raise _stalled(file, timeout) from error
    except (OSError, HTTPException) as error:
        raise _broken_off(file, error) from error


def _version(answer: HTTPResponse) -> str:
    """What may stand in If-Range: a strong ETag, else a date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _known(part: Path) -> str:
    """The version that the bytes of `part` are of; "" where it is not known, or damaged."""
    version = _tag(part).read_text(LATIN) if _tag(part).exists() else ""
    return version if version.isprintable() else ""


def _tag(part: Path) -> Path:
    return part.with_suffix(".tag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _verify(part: Path, file: File) -> None:
    found = _sha256(part)
    if found != file.sha256:
        part.unlink()
        raise _removed(file, f"SHA-256 is {found} where {file.sha256} is due")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stalled(file: File, timeout: float) -> TimeoutError:
    return TimeoutError(
        f"get: {file.url} stalled: no byte in {timeout:g} s; run again to go on from there"
    )


def _broken_off(file: File, cause: object) -> ConnectionError:
    return ConnectionError(f"get: {file.url} broke off: {cause}; run again to go on from there")


def _removed(file: File, cause: str) -> ValueError:
    return ValueError(
        f"get: {file.url}: {cause}; what came is removed: run again, or get it elsewhere"
    )


def _other_size(file: File, size: int) -> ValueError:
    return ValueError(
        f"get: {file.url}: {size:,} bytes where {file.size:,} are due; the file is"
        " another one: get it elsewhere"
    )
