"""Fetching one whole file, in one go or in several."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from microlens.download.content import check_beginning
from microlens.download.failures import TransferError
from microlens.download.retrying import patiently
from microlens.download.server import Answer, Server
from microlens.download.state import State

OnBytes = Callable[[str, int, int | None], None]
"""Called with (path, bytes so far, bytes in all if known)."""


@dataclass(frozen=True)
class Received:
    """A file that is complete under its temporary name; ``fetched`` counts the bytes that came in this run."""

    path: Path
    size: int
    sha256: str
    fetched: int


class Transfer:
    """One file on its way: the bytes under a temporary name grow until they are as many as the server has.

    After an interruption, or a restart of the program, the rest is asked for. A file that has changed on the server in
    the meantime starts again.
    """

    def __init__(self, server: Server, state: State, address: str, path: str, on_bytes: OnBytes) -> None:
        self.server, self.state, self.address, self.path, self.on_bytes = server, state, address, path, on_bytes
        self.partial = state.partial_path(address)
        self.version = state.version_of(address)
        self.position = self.fetched = 0
        self.digest = hashlib.sha256()

    def run(self) -> Received:
        """Fetch what is missing.

        Raises:
            UnavailableError: the server does not send the file, or sends a web page in its place.
            TransferError: the server was tried several times without receiving anything more.
        """
        with self.partial.open("ab+") as file:
            self._take_up(file)
            if self.version is None or self.position != self.version.total:
                patiently(lambda: self._go_on(file), self.server.stop, lambda: self.fetched)
        return Received(self.partial, self.position, self.digest.hexdigest(), self.fetched)

    def _take_up(self, file: BinaryIO) -> None:
        """Continue after what an earlier run left, if the server can tell later whether the file is still the same."""
        if self.version is None or self.version.total is None:
            self._restart(file)
            return
        file.seek(0)
        while chunk := file.read(2**20):
            self.digest.update(chunk)
            self.position += len(chunk)

    def _restart(self, file: BinaryIO) -> None:
        file.seek(0)
        if file.read(1):
            file.seek(0)
            file.truncate()  # of an empty file, it would make ext4 write everything when the file is closed
        self.position, self.version, self.digest = 0, None, hashlib.sha256()

    def _go_on(self, file: BinaryIO) -> None:
        with self.server.get(self.address, self.position, version=self.version) as answer:
            if self._continues(answer):
                self._receive(answer, file)
                return
            self._restart(file)
            if answer.start > 0:
                raise TransferError("it has changed on the server")
            self.version = answer.version
            self.state.keep_version(self.address, answer.version)
            self._receive(answer, file)

    def _continues(self, answer: Answer) -> bool:
        return self.position > 0 and answer.start == self.position and answer.version == self.version

    def _receive(self, answer: Answer, file: BinaryIO) -> None:
        total = answer.version.total
        for chunk in answer.chunks():
            if self.position == 0:
                check_beginning(chunk, self.path, is_html=answer.is_html)
            file.write(chunk)
            self.digest.update(chunk)
            self.position += len(chunk)
            self.fetched += len(chunk)
            self.on_bytes(self.path, self.position, total)
        if total is not None and self.position != total:
            raise TransferError(f"the server sent {self.position:,} bytes in place of {total:,}")
