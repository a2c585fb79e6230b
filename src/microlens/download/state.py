"""What is known of an unfinished or finished download, kept in a hidden folder of the release."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from microlens.download.server import Version
from microlens.errors import InputError
from microlens.files.writing import lock_folder

FOLDER = ".microlens-download"
_TABLES = """
    CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, sha256 TEXT, modified INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS versions (
        address TEXT PRIMARY KEY, total INTEGER, etag TEXT, modified TEXT
    ) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """A finished file: its bytes, its SHA-256 if it was computed, and when it was last changed, in nanoseconds."""

    size: int
    sha256: str | None
    modified: int


class State:
    """The state of the download in one release folder; usable from several threads.

    Args:
        release: the release folder.
        connection: the database in its hidden folder.
    """

    def __init__(self, release: Path, connection: sqlite3.Connection) -> None:
        self.release, self.folder = release, release / FOLDER
        self._connection, self._lock = connection, Lock()

    def partial_path(self, address: str) -> Path:
        """The temporary path of a file that is being fetched from ``address``."""
        return self.folder / f"{quote(address, safe='')}.part"

    def place(self, temporary: Path, path: str, sha256: str | None = None) -> None:
        """Move a complete file to ``path`` in the release and record it.

        Raises:
            InputError: there is a file.
        """
        target, found = self.release / path, temporary.stat()
        if target.exists():
            raise InputError(f"{target} exists already; move it away.")
        self._write(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (path, found.st_size, sha256, found.st_mtime_ns)
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(target)

    def record(self, path: str, sha256: str | None = None) -> None:
        """Record a file that is in the release already."""
        found = (self.release / path).stat()
        self._write(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (path, found.st_size, sha256, found.st_mtime_ns)
        )

    def entry(self, path: str) -> Entry | None:
        """What was recorded of a file."""
        row = self._read("SELECT size, sha256, modified FROM files WHERE path = ?", path)
        return Entry(*row) if row else None

    def has(self, path: str) -> bool:
        """True if a recorded file is there and has not been changed since."""
        entry = self.entry(path)
        try:
            found = (self.release / path).stat()
        except OSError:
            return False
        return entry is not None and (entry.size, entry.modified) == (found.st_size, found.st_mtime_ns)

    def version_of(self, address: str) -> Version | None:
        """The version of a file on the server of which a part was fetched."""
        row = self._read("SELECT total, etag, modified FROM versions WHERE address = ?", address)
        return Version(*row) if row else None

    def keep_version(self, address: str, version: Version) -> None:
        """Record the version of a file on the server that is being fetched."""
        values = (address, version.total, version.etag, version.modified)
        self._write("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?)", values)

    def _read(self, query: str, key: str) -> Any:
        with self._lock:
            return self._connection.execute(query, (key,)).fetchone()

    def _write(self, command: str, values: tuple[object, ...]) -> None:
        with self._lock:
            self._connection.execute(command, values)


@contextmanager
def open_state(release: Path) -> Iterator[State]:
    """The state of a release folder, which is created if necessary and locked for this process.

    Raises:
        InputError: another process is writing to the folder, or the state is damaged.
    """
    folder = release / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "state.sqlite"
    with lock_folder(folder):
        try:
            with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # no shared memory, which network disks lack
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(_TABLES)
                yield State(release, connection)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} is damaged ({error}); remove it, and run the same command again.") from error
