"""SHA-256 of a file while it is being received."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

_LARGE = 2**17  # bytes of a chunk that are worth a thread


class Digest:
    """The SHA-256 of chunks; that of a large chunk is computed while the next is received."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def update(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._wait()
        if len(chunk) < _LARGE:
            self._digest.update(chunk)
        else:
            self._pending = self._pool.submit(self._digest.update, chunk)

    def hexdigest(self) -> str:
        """The digest of all chunks, in hexadecimal."""
        self._wait()
        self._pool.shutdown()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._pending:
            self._pending.result()
            self._pending = None
