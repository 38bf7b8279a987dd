"""Downloads, from a server on loopback: whole, broken off and gone on with, wrong, refused."""

from __future__ import annotations

import errno
import hashlib
import io
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from loopback import cut, serving, stall, status, untold, whole

from xpcnn.data import download
from xpcnn.data.catalog import File
from xpcnn.data.download import fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = CONTENT[::-1]
LATER = "; run again to go on from there"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with serving({"a.gz": CONTENT}) as server:
        yield server


@pytest.fixture
def file(server):
    return File(server.url("a.gz"), len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def once(file, folder, progress=None, timeout=5.0):
    """Without a second attempt."""
    return fetch(file, folder, progress, timeout=timeout, waits=())


def here(folder):
    """What is in it, locks apart: they stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_whole_file(server, file, tmp_path):
    told = []
    path = fetch(file, tmp_path / "new" / "folder", lambda *numbers: told.append(numbers))
    assert path == tmp_path / "new" / "folder" / "a.gz"
    assert path.read_bytes() == CONTENT
    assert here(path.parent) == ["a.gz"]
    assert server.requests[0]["Range"] is None
    counts, totals = zip(*told, strict=True)
    assert list(counts) == sorted(counts)
    assert counts[-1] == len(CONTENT)
    assert set(totals) == {len(CONTENT)}


def test_what_is_here_is_not_downloaded_again(server, file, tmp_path):
    fetch(file, tmp_path)
    fetch(file, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("damaged", [CONTENT[:-1], OTHER], ids=["truncated", "other"])
def test_what_is_damaged_is_downloaded_again(file, tmp_path, damaged):
    (tmp_path / "a.gz").write_bytes(damaged)
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length(server, file, tmp_path):
    server.replies = [untold]
    assert once(file, tmp_path).read_bytes() == CONTENT


# What is broken off is gone on with


def test_a_connection_that_breaks_is_made_anew(server, file, tmp_path):
    server.replies = [cut(1000)]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT
    assert [asked["Range"] for asked in server.requests] == [None, "bytes=1000-"]
    assert server.requests[1]["If-Range"] == '"1"'


@pytest.mark.parametrize("count", [0, 1, 1000, len(CONTENT) - 1])
def test_the_next_call_goes_on(server, file, tmp_path, count):
    server.replies = [cut(count)]
    cause = f"get: {file.url} broke off: {count:,} of 300,000 bytes are here{LATER}"
    with pytest.raises(ConnectionError, match=re.escape(cause)):
        once(file, tmp_path)
    assert (tmp_path / "a.gz.part").read_bytes() == CONTENT[:count]
    told = []
    assert once(file, tmp_path, lambda n, _: told.append(n)).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == (f"bytes={count}-" if count else None)
    assert told[0] > count
    assert here(tmp_path) == ["a.gz"]


def test_what_is_all_here_is_only_verified(server, file, tmp_path):
    (tmp_path / "a.gz.part").write_bytes(CONTENT)
    assert once(file, tmp_path).read_bytes() == CONTENT
    assert server.requests == []


def test_attempts_are_few(server, file, tmp_path):
    server.replies = [cut(10), status(503), cut(20)]
    with pytest.raises(OSError, match="HTTP 503 Service Unavailable; try again later, or put"):
        fetch(file, tmp_path, waits=(0.0, 0.0))
    server.replies = [cut(count) for count in (30, 50, 40, 50, 60)]
    with pytest.raises(ConnectionError, match="broke off: 50 of 300,000 bytes"):
        fetch(file, tmp_path, waits=(0.0, 0.0))
    assert len(server.replies) == 1


def test_attempts_that_bring_more_are_not_counted(server, file, tmp_path):
    server.replies = [cut(count) for count in range(10, 100, 10)]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges(server, file, tmp_path):
    server.replies = [cut(1000), whole]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT


def test_a_server_that_tells_no_version(server, file, tmp_path):
    server.versions = {}
    server.replies = [cut(1000)]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT
    assert (server.requests[1]["Range"], server.requests[1]["If-Range"]) == ("bytes=1000-", None)


def test_of_a_weak_version_the_date_is_taken(server, file, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.versions = {"ETag": 'W/"1"', "Last-Modified": date}
    server.replies = [cut(1000)]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT
    assert server.requests[1]["If-Range"] == date


def test_another_version_in_between(server, file, tmp_path):
    """The server has now what is due: all of it comes, and nothing of what was here stays."""
    server.files["a.gz"] = OTHER
    with pytest.raises(ConnectionError):
        server.replies = [cut(1000)]
        once(file, tmp_path)
    server.files["a.gz"], server.versions = CONTENT, {"ETag": '"2"'}
    assert once(file, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["If-Range"] == '"1"'


@pytest.mark.parametrize("tag", [b"\xff\x00", b'"1"\r\nX: y', b"", b"\n"])
def test_a_damaged_tag_is_ignored(server, file, tmp_path, tag):
    (tmp_path / "a.gz.part").write_bytes(CONTENT[:1000])
    (tmp_path / "a.gz.tag").write_bytes(tag)
    assert once(file, tmp_path).read_bytes() == CONTENT
    assert (server.requests[0]["Range"], server.requests[0]["If-Range"]) == ("bytes=1000-", None)
    assert here(tmp_path) == ["a.gz"]


def test_a_version_beyond_ascii(server, file, tmp_path):
    server.versions = {"ETag": '"\xe9"'}
    server.replies = [cut(1000)]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT
    assert server.requests[1]["If-Range"] == '"\xe9"'


def test_a_server_that_stalls(server, file, tmp_path):
    server.replies = [stall(1000)]
    with pytest.raises(TimeoutError) as caught:
        once(file, tmp_path, timeout=0.2)
    assert str(caught.value) == f"get: {file.url} stalled: no byte in 0.2 s{LATER}"
    assert (tmp_path / "a.gz.part").read_bytes() == CONTENT[:1000]
    assert once(file, tmp_path).read_bytes() == CONTENT


def test_a_server_that_never_answers(server, file, tmp_path):
    server.replies = [lambda handler: handler.server.closing.wait(30)]
    with pytest.raises(TimeoutError, match=r"stalled: no byte in 0\.2 s"):
        once(file, tmp_path, timeout=0.2)


def test_ctrl_c_leaves_what_came(server, file, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    server.replies = [cut(1000)]
    with pytest.raises(KeyboardInterrupt):
        once(file, tmp_path, interrupt)
    assert (tmp_path / "a.gz.part").read_bytes() == CONTENT[:1000]
    assert once(file, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == "bytes=1000-"


# What is wrong or refused


def test_another_sum(file, tmp_path):
    wrong = replace(file, sha256="0" * 64)
    with pytest.raises(ValueError) as caught:
        fetch(wrong, tmp_path)
    assert str(caught.value) == (
        f"get: {file.url}: SHA-256 is {file.sha256} where {'0' * 64} is due; what came is removed:"
        " run again, or get it elsewhere"
    )
    assert "a.gz.part" not in here(tmp_path)
    assert fetch(file, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_size(server, file, tmp_path, size):
    """Of a page in place of the file, say: what was here before stays."""
    (tmp_path / "a.gz.part").write_bytes(CONTENT[:1000])
    server.replies = [whole]
    with pytest.raises(ValueError, match=f"300,000 bytes where {size:,} are due; the file is"):
        fetch(replace(file, size=size), tmp_path)
    assert (tmp_path / "a.gz.part").read_bytes() == CONTENT[:1000]


def test_more_than_is_due(server, file, tmp_path):
    server.files["a.gz"] = CONTENT + bytes(10 << 20)
    server.replies = [untold]
    with pytest.raises(ValueError, match="SHA-256 is"):
        fetch(file, tmp_path)
    assert "a.gz.part" not in here(tmp_path)


def test_a_file_that_ends_before_what_is_here(server, file, tmp_path):
    (tmp_path / "a.gz.part").write_bytes(CONTENT[:1000])
    server.files["a.gz"] = CONTENT[:1000]
    with pytest.raises(ValueError) as caught:
        fetch(file, tmp_path)
    assert str(caught.value) == (
        f"get: {file.url}: the server's file ends within 1,000 bytes; what came is removed:"
        " run again, or get it elsewhere"
    )
    assert here(tmp_path) == []
    server.files["a.gz"] = CONTENT
    assert fetch(file, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "reply, message",
    [
        (status(404), "HTTP 404 Not Found; try again later, or put the file into /.*/test_"),
        (status(302, Location="file:///etc/passwd"), "HTTP 302 .* is not allowed; try again later"),
        (status(302, Location="ftp://127.0.0.1/a"), "HTTP 302 .* is not allowed; try again later"),
        (status(302, Location="http://[::1"), "HTTP 302 .* to no address: Invalid IPv6 URL; try"),
        (status(301, Location="http://a:b/"), "HTTP 301 .* to no address: nonnumeric port: 'b'; "),
        (status(307, Location="http://" + "a" * 64), "HTTP 307 .* to no address: .*; try again"),
    ],
    ids=["not found", "led to a local file", "to FTP", "nowhere", "to no port", "to no host"],
)
def test_refusals(server, file, tmp_path, reply, message):
    server.replies = [reply]
    with pytest.raises(OSError, match=f"^get: {file.url}: {message}"):
        once(file, tmp_path)


def test_a_redirect_is_followed(server, file, tmp_path):
    server.replies = [cut(1000), status(302, Location="/a.gz")]
    assert fetch(file, tmp_path, waits=(0.0,)).read_bytes() == CONTENT
    assert [asked["Range"] for asked in server.requests[1:]] == ["bytes=1000-"] * 2


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with serving({}) as gone:
        file = File(gone.url("a.gz"), 1, "0" * 64)
    with pytest.raises(OSError, match=r"a\.gz cannot be reached: .*refused.*; try again later"):
        fetch(file, tmp_path)


def test_a_full_disk(file, tmp_path, monkeypatch):
    class Disk(io.BufferedWriter):
        def write(self, data):
            if self.tell() + len(data) > 100_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def full(path, mode):
        return Disk(io.FileIO(path, mode)) if mode == "ab" else open(path, mode)

    monkeypatch.setattr(download, "CHUNK", 1 << 14)
    monkeypatch.setattr(download, "open", full, raising=False)
    with pytest.raises(OSError) as caught:
        fetch(file, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value) == (
        "[Errno 28] No space left on device; once it can be written, run again to go on from"
        f" there: '{tmp_path}/a.gz.part'"
    )
    came = (tmp_path / "a.gz.part").read_bytes()
    assert 0 < len(came) <= 100_000
    assert came == CONTENT[: len(came)]
    monkeypatch.undo()
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_a_folder_that_cannot_be(file, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(OSError, match="plain"):
        fetch(file, tmp_path / "plain" / "folder")


# Other processes

CODE = """
import sys
from pathlib import Path
from xpcnn.data.catalog import File
from xpcnn.data.download import fetch
url, size, sha256, folder = sys.argv[1:]
print(fetch(File(url, int(size), sha256), Path(folder)))
"""


def start(file, folder):
    words = [sys.executable, "-c", CODE, file.url, str(file.size), file.sha256, str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_two_at_once(server, file, tmp_path):
    def slowly(handler):
        handler.head(200, len(CONTENT))
        for begin in range(0, len(CONTENT), 30_000):
            handler.wfile.write(CONTENT[begin : begin + 30_000])
            time.sleep(0.05)

    server.replies = [slowly]
    processes = [start(file, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=60) == (f"{tmp_path}/a.gz\n", None)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_killed_process_leaves_what_came(server, file, tmp_path):
    part = tmp_path / "a.gz.part"
    server.replies = [stall(200_000)]
    with start(file, tmp_path) as process:
        until = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < 150_000:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
    assert once(file, tmp_path).read_bytes() == CONTENT
    assert int(server.requests[1]["Range"][6:-1]) >= 150_000
