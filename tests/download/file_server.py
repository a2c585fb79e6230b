"""A server of files in memory that does what servers do, and what they should not do."""

import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote

PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


@dataclass(frozen=True)
class Request:
    """What was asked for and how it was answered; ``sent`` counts the bytes of the body."""

    path: str
    range: str | None
    agent: str
    status: int
    sent: int


class FileServer(ThreadingHTTPServer):
    """Serves ``files``, bytes by path; ``faults`` holds for each path what happens at its next requests, in turn.

    ``always`` holds faults of every request, by path; "*" stands for all paths. Faults are the names of methods of
    the handler, or status codes.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.faults: defaultdict[str, deque[str | int]] = defaultdict(deque)
        self.always: dict[str, str | int] = {}
        self.requests: list[Request] = []
        self.delay = 0.0
        self.validators = True
        self.retry_after = "0"
        self.elsewhere = "http://127.0.0.1:1/elsewhere"
        self.lock = Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def sent(self, path: str = "") -> int:
        """Bytes of the bodies that were sent of paths that end so."""
        return sum(request.sent for request in self.requests if request.path.endswith(path))

    def fault(self, path: str) -> str | int | None:
        with self.lock:
            if self.faults[path]:
                return self.faults[path].popleft()
            return self.always.get(path, self.always.get("*"))

    def handle_error(self, *_: object) -> None:
        pass  # connections that the client has closed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FileServer

    def do_GET(self) -> None:
        time.sleep(self.server.delay)
        self.name = unquote(self.path.lstrip("/").partition("?")[0])
        fault = self.server.fault(self.name)
        if fault is None:
            self.normal()
        elif isinstance(fault, int):
            self.refuse(fault)
        else:
            getattr(self, fault)()

    def normal(self, *, ranges: bool = True, length: int = 0, most: float = 1.0, body: bytes | None = None) -> None:
        """Send the file; ``length`` is added to what Content-Length says, ``most`` is the share that is sent."""
        content = self.server.files.get(self.name) if body is None else body
        if content is None:
            self.refuse(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if ranges else None
        tag = f'"{sha256(content).hexdigest()[:16]}"'
        if asked and self.headers.get("If-Range", tag) != tag:
            asked = None
        begin = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, len(content)) if asked and asked[2] else len(content)
        if asked and begin >= len(content):
            self.start(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"}, 0)
            return
        headers = {"Content-Length": str(end - begin + length), "Content-Type": "application/octet-stream"}
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        if self.server.validators:
            headers |= {"ETag": tag, "Accept-Ranges": "bytes"}
        sent = content[begin : begin + int(most * (end - begin))]
        self.start(206 if asked else 200, headers, len(sent))
        self.wfile.write(sent)
        if length or len(sent) < end - begin:
            self.close_connection = True

    def cut(self) -> None:
        self.normal(most=0.5)

    def cut_at_once(self) -> None:
        self.close_connection = True

    def slow(self) -> None:
        time.sleep(1.5)
        self.normal()

    def no_ranges(self) -> None:
        self.normal(ranges=False)

    def too_long(self) -> None:
        self.normal(length=100)

    def too_short(self) -> None:
        self.normal(length=-100)

    def too_short_whole(self) -> None:
        self.normal(length=-100, ranges=False)

    def page(self) -> None:
        self.start(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(PAGE))}, len(PAGE))
        self.wfile.write(PAGE)

    def hidden_page(self) -> None:
        self.normal(body=PAGE)

    def error_message(self) -> None:
        self.normal(body=b'{"code": 403, "msg": "log in"}')

    def error_of_a_store(self) -> None:
        self.normal(body=b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>')

    def lfs_pointer(self) -> None:
        self.normal(body=b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")

    def other_content(self) -> None:
        self.normal(body=bytes(255 - byte for byte in self.server.files[self.name]))

    def redirect_elsewhere(self) -> None:
        self.start(302, {"Location": self.server.elsewhere, "Content-Length": "0"}, 0)

    def redirect_here(self) -> None:
        self.start(302, {"Location": f"/{self.name}?again", "Content-Length": "0"}, 0)

    def refuse(self, status: int) -> None:
        self.start(status, {"Content-Length": "4", "Retry-After": self.server.retry_after}, 4)
        self.wfile.write(b"busy")

    def start(self, status: int, headers: dict[str, str], sent: int) -> None:
        agent = self.headers.get("User-Agent", "")
        with self.server.lock:
            self.server.requests.append(Request(self.name, self.headers.get("Range"), agent, status, sent))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """A server of ``files`` on this machine."""
    server = FileServer(files)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
