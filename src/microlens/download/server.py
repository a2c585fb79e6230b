"""Reading files or parts of them from a server."""

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from threading import Event
from types import TracebackType
from urllib.parse import quote

import httpcore
import httpx

from microlens import __version__
from microlens.download.content import PAGE
from microlens.download.failures import RangesIgnoredError, StoppedError, TransferError, UnavailableError
from microlens.download.retrying import patiently
from microlens.download.sources import Source
from microlens.errors import shown

USER_AGENT = f"Mozilla/5.0 (compatible; microlens/{__version__})"
MOST_REDIRECTS = 5
LARGE, CHUNK = 2**26, 2**20  # bytes
LONGEST_WAIT = 600.0  # seconds of Retry-After that are waited for
SECONDS_WITHOUT_A_BYTE = 30.0
_WHOLE, _PART, _NOTHING_THERE = 200, 206, 416
NO_RANGES = "the server does not send parts of it"
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_WHY = {
    401: "the server asks for a login (401)",
    403: "the server refuses it (403)",
    404: "it is not on the server (404)",
    410: "it is not on the server any more (410)",
}


@dataclass(frozen=True)
class Version:
    """What tells one version of a file on a server from another: total bytes, ETag and date of change, if given."""

    total: int | None
    etag: str | None = None
    modified: str | None = None

    @property
    def condition(self) -> str | None:
        """The value of an If-Range header; weak ETags are not accepted there."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(frozen=True)
class Answer:
    """A response whose body has not been read: the position of its first byte, and the file's version."""

    start: int
    version: Version
    is_html: bool
    ranges: bool
    response: httpx.Response
    stop: Event

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the body as they arrive.

        Raises:
            TransferError: the connection ends early, or no byte comes for a while.
        """
        if self.response.status_code == _NOTHING_THERE:
            return
        try:
            for chunk in self._chunks():
                if self.stop.is_set():
                    raise StoppedError
                yield chunk
        except (httpx.HTTPError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise TransferError(_reason(error)) from error

    def _chunks(self) -> Iterator[bytes]:
        """The body; the rest of a large one straight from the connection, which halves the cost and ends it."""
        left = _number(self.response.headers.get("content-length")) or 0
        for chunk in self.response.iter_raw():
            yield chunk
            left -= len(chunk)
            if left >= LARGE:  # what httpx has received so far is in this chunk
                yield from self._rest(left)
                return

    def _rest(self, left: int) -> Iterator[bytes]:
        stream = self.response.extensions["network_stream"]
        while left > 0:
            chunk = stream.read(min(left, CHUNK), SECONDS_WITHOUT_A_BYTE)
            if not chunk:
                raise TransferError("the connection was cut")
            left -= len(chunk)
            yield chunk


class Server:
    """The files below the base address of a source; usable from several threads.

    Args:
        source: the base address, and the hosts to which it may redirect.
        connections: most connections at a time.
    """

    def __init__(self, source: Source, connections: int) -> None:
        self.source = source
        self.stop = Event()
        self._not_before = 0.0
        self._client = httpx.Client(
            headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
            verify=_trusted_authorities(),
            timeout=httpx.Timeout(SECONDS_WITHOUT_A_BYTE, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    @contextmanager
    def get(
        self, address: str, start: int = 0, end: int | None = None, version: Version | None = None
    ) -> Iterator[Answer]:
        """Ask for the bytes ``start`` to ``end`` (exclusive) of a file, or for the whole file.

        Args:
            address: the file, from the base address.
            start: first byte; the answer may start at 0 instead, if the file has changed or ranges are ignored.
            end: byte after the last; None for the end of the file.
            version: if the file is no longer of this version, the answer is the whole file.

        Raises:
            UnavailableError: the server refuses or does not have the file, or redirects to a host that is not allowed.
            TransferError: the server cannot be reached or is busy.
        """
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        if version and version.condition:
            headers["If-Range"] = version.condition
        response = self._follow(self.source.base + quote(address), headers)
        try:
            yield self._answer(response, start)
        finally:
            response.close()

    def look(self, address: str, *, ranges: bool = False) -> Version:
        """The version of a file.

        Args:
            address: the file, from the base address.
            ranges: the server has to be able to send parts of it.

        Raises:
            RangesIgnoredError: it is not.
            UnavailableError, TransferError: see :meth:`get`; also if the server sends a web page.
        """

        def ask() -> Version:
            with self.get(address, 0, 1) as answer:
                if answer.is_html:
                    raise UnavailableError(PAGE)
                if ranges and not answer.ranges:
                    raise RangesIgnoredError(NO_RANGES)
                return answer.version

        return patiently(ask, self.stop)

    def read(self, address: str, start: int, end: int, version: Version, write: Callable[[bytes], object]) -> None:
        """Give the bytes ``start`` to ``end`` (exclusive) of a file to ``write`` as they arrive.

        After an interruption, the rest is asked for.

        Raises:
            RangesIgnoredError: the server sends the whole file.
            UnavailableError, TransferError: see :meth:`get`; also if the file is no longer of ``version``.
        """
        position = start

        def read_on() -> None:
            nonlocal position
            with self.get(address, position, end, version) as answer:
                if answer.version != version:
                    raise UnavailableError("it has changed on the server")
                if answer.start != position:
                    raise RangesIgnoredError(NO_RANGES)
                for chunk in answer.chunks():
                    chunk = chunk[: end - position]
                    position += len(chunk)
                    write(chunk)
                    if position == end:
                        return
            raise TransferError(f"the server sent {position - start:,} bytes in place of {end - start:,}")

        patiently(read_on, self.stop, lambda: position)

    def _follow(self, url: str, headers: dict[str, str]) -> httpx.Response:
        for _ in range(MOST_REDIRECTS + 1):
            response = self._send(url, headers)
            if not response.has_redirect_location:
                return response
            response.close()
            url = self._target(response)
        raise UnavailableError("the server redirects in a circle")

    def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        self.stop.wait(self._not_before - time.monotonic())
        if self.stop.is_set():
            raise StoppedError
        try:
            return self._client.send(self._client.build_request("GET", url, headers=headers), stream=True)
        except httpx.HTTPError as error:
            raise TransferError(_reason(error)) from error

    def _target(self, response: httpx.Response) -> str:
        """The address that a response redirects to."""
        try:
            target = response.url.join(response.headers["location"])
        except httpx.InvalidURL:
            raise UnavailableError("the server redirects to something that is no address") from None
        if target.netloc.decode() not in self.source.hosts or target.scheme not in ("https", response.url.scheme):
            raise UnavailableError(
                f"the server redirects to {target.scheme}://{target.netloc.decode()}, which is not allowed"
            )
        return str(target)

    def _answer(self, response: httpx.Response, start: int) -> Answer:
        status, headers = response.status_code, response.headers
        if status in _TEMPORARY:
            self._delay(headers.get("retry-after"))
            raise TransferError(f"the server is busy ({status})")
        if status not in (_WHOLE, _PART, _NOTHING_THERE):
            raise UnavailableError(_WHY.get(status, f"the server answers with status {status}"))
        if headers.get("content-encoding", "identity") != "identity":
            raise UnavailableError(f"the server sends it compressed ({headers['content-encoding']})")
        first, total = 0, _number(headers.get("content-length"))
        if status != _WHOLE:
            first, total = _content_range(headers.get("content-range", ""), start)
        return Answer(
            start=first,
            version=Version(total, headers.get("etag"), headers.get("last-modified")),
            is_html=headers.get("content-type", "").startswith("text/html"),
            ranges=status != _WHOLE,
            response=response,
            stop=self.stop,
        )

    def _delay(self, retry_after: str | None) -> None:
        """Send nothing before the time in a Retry-After header."""
        seconds = _seconds(retry_after) if retry_after else 0.0
        if seconds > LONGEST_WAIT:
            raise UnavailableError(f"the server is busy and asks to wait for {seconds / 60:,.0f} minutes")
        self._not_before = max(self._not_before, time.monotonic() + seconds)


@lru_cache
def _trusted_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _content_range(value: str, start: int) -> tuple[int, int | None]:
    """The first byte and the total size in a Content-Range header; a range behind the end begins where it was to."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", value.strip())
    if match is None:
        raise UnavailableError(f"the server answers with a wrong range ({shown(value)})")
    return int(match[1] or start), _number(match[2])


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _seconds(retry_after: str) -> float:
    """Seconds in a Retry-After header, which holds a number or a date."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, (httpx.TimeoutException, httpcore.TimeoutException)):
        return f"the server did not answer for {SECONDS_WITHOUT_A_BYTE:g} seconds"
    if isinstance(error, httpx.ConnectError):
        return f"the server cannot be reached ({error})"
    return f"the connection was cut ({error})" if str(error) else "the connection was cut"
