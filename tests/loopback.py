"""An HTTP server on this machine that does as it is told: serves, cuts off, stalls, refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `replies`, and with `serve` when there are none left.

    `requests` are the headers of what has been asked for, in order.
    """

    daemon_threads = False  # joined when it closes

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.versions = {"ETag": '"1"'}
        self.replies: list[Reply] = []
        self.requests: list[Message] = []
        self.closing = threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address) -> None:
        """Nothing: that the other side has gone is part of a test."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.headers)
        replies = self.server.replies
        (replies.pop(0) if replies else serve)(self)

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            headers["Content-Length"] = str(length)
        for name, value in {**self.server.versions, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def content(self) -> bytes:
        return self.server.files[self.path.lstrip("/")]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def serve(handler: Handler) -> None:
    """All of a file, or the range that is asked for if it is of this version."""
    content, asked = handler.content(), handler.headers["Range"]
    version = handler.headers["If-Range"]
    if asked is None or version not in (None, *handler.server.versions.values()):
        return whole(handler)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        return handler.head(416, 0, Content_Range=f"bytes */{len(content)}")
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.head(206, len(content) - start, Content_Range=span)
    handler.wfile.write(content[start:])


def whole(handler: Handler) -> None:
    """All of a file, whatever is asked for."""
    handler.head(200, len(handler.content()))
    handler.wfile.write(handler.content())


def untold(handler: Handler) -> None:
    """All of a file, without saying how long it is."""
    handler.head(200, None)
    handler.wfile.write(handler.content())


def cut(count: int) -> Reply:
    """So many bytes, then the connection closes."""

    def reply(handler: Handler) -> None:
        handler.head(200, len(handler.content()))
        handler.wfile.write(handler.content()[:count])

    return reply


def stall(count: int) -> Reply:
    """So many bytes, then none, and the connection stays."""

    def reply(handler: Handler) -> None:
        cut(count)(handler)
        handler.server.closing.wait(30)

    return reply


def status(code: int, **headers: str) -> Reply:
    return lambda handler: handler.head(code, 0, **headers)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    with Server(files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
