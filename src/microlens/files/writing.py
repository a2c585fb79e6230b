"""Atomic writes, folder locks, and safe clearing of folders made by this package."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from microlens.errors import InputError

UNFINISHED = ".microlens-partial"
MARK = ".microlens"
LOCK = ".lock"
_MARK_TEXT = "microlens writes and clears this folder.\n"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it is renamed to ``path`` at the end of the block, or removed on errors.

    The name identifies temporary files of this package: one left by a killed process is overwritten, others are not.

    Raises:
        InputError: ``path`` is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file.")
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) == temporary:
            with suppress(AttributeError):  # errors of PyAV cannot be changed
                error.filename = str(path)  # the file that the user named
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this process; the lock is released when the process ends, however it ends.

    Raises:
        InputError: another process holds the lock.
    """
    from filelock import FileLock, Timeout  # not above, because decoding processes write files but lock nothing

    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)  # any thread may release it
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder} is being written by another process; wait for it or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def claim_folder(folder: Path, names: Iterable[str] = ("*",)) -> None:
    """Create ``folder`` if necessary, and mark it as one that this package writes and may clear.

    Args:
        folder: the folder.
        names: glob patterns of the files that will be written to it; by default all.

    Raises:
        InputError: the folder is not marked and contains files with these names, or ``folder`` is a file.
    """
    mark = folder / MARK
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; move it or choose another name.")
    if folder.is_dir() and not mark.is_file():
        ours = (LOCK, f".{MARK}{UNFINISHED}")  # the latter of earlier versions
        found = (path for pattern in names for path in sorted(folder.glob(pattern)))
        foreign = next((path for path in found if path.name not in ours), None)
        if foreign is not None and not mark.is_file():  # another process may have marked it since
            raise InputError(f"{foreign} was not written by microlens; move it or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.is_file():
        mark.write_text(_MARK_TEXT, encoding="utf-8")  # not by way of another file: one left by a kill would be foreign


def clear_folder(folder: Path, names: Iterable[str]) -> None:
    """Remove what matches the glob patterns ``names`` from a marked folder, and nothing else.

    Raises:
        InputError: the folder is not marked (see :func:`claim_folder`).
    """
    if not folder.exists():
        return
    if not (folder / MARK).is_file():
        raise InputError(f"{folder} was not made by microlens; move it or choose another folder.")
    for path in [path for pattern in names for path in folder.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_folder(folder: Path, names: Iterable[str]) -> None:
    """Remove what matches the glob patterns ``names`` from a marked folder, and folders that become empty.

    Raises:
        InputError: the folder is not marked (see :func:`claim_folder`).
    """
    clear_folder(folder, names)
    if not folder.exists():
        return
    for inner in list(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and not any(inner.iterdir()):
            inner.rmdir()
    if {path.name for path in folder.iterdir()} <= {MARK, LOCK}:
        clear_folder(folder, (LOCK, MARK))
        folder.rmdir()


def check_is_new(folder: Path) -> None:
    """Raise InputError if ``folder`` exists."""
    if folder.exists():
        raise InputError(f"{folder} exists already; name a folder that does not.")


@contextmanager
def renamed_when_complete(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield the folder ``folder.partial``; it is renamed to ``folder`` at the end of the block, or removed on errors.

    Args:
        folder: must not exist.
        names: glob patterns of all files that are written to it.

    Raises:
        InputError: ``folder`` exists, ``folder.partial`` holds other files, or another process writes it.
    """
    check_is_new(folder)
    unfinished = folder.with_name(folder.name + ".partial")
    claim_folder(unfinished)
    with lock_folder(unfinished):
        clear_folder(unfinished, names)
        try:
            yield unfinished
            unfinished.rename(folder)
            clear_folder(folder, (LOCK, MARK))
        finally:
            remove_folder(unfinished, names)


def link_or_copy(path: Path, new: Path) -> None:
    """Make ``path`` available as ``new``, as a hard link, or as a copy where the file system has none."""
    try:
        new.hardlink_to(path.resolve())
    except OSError:
        shutil.copy2(path, new)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32(path: Path) -> int:
    """The CRC-32 of a file, as in zips."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            crc = zlib.crc32(chunk, crc)
    return crc


def git_blob(path: Path) -> str:
    """The SHA-1 of a file as a git blob, in hexadecimal."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(content: Any) -> str:
    """The SHA-256 of JSON content with sorted keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
