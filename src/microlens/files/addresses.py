"""Files at fsspec addresses such as ``s3://bucket/folder``: listing, fetching and atomic writing.

Credentials, regions and endpoints are those of the environment, such as ``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``.
"""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from microlens.errors import InputError
from microlens.files.writing import UNFINISHED


def is_address(name: str) -> bool:
    """True if ``name`` is an address and not a path."""
    return "://" in name


def absolute(name: str) -> str:
    """An address as it is, or the absolute path of a path; without a slash at the end."""
    return name.rstrip("/") if is_address(name) else str(Path(name).absolute())


@dataclass(frozen=True)
class StoredFile:
    """A file at an address, and its size in bytes."""

    address: str
    bytes: int


@contextmanager
def local_copy(file: StoredFile) -> Iterator[Path]:
    """Fetch a file to a temporary path with the same name; the path does not exist if the file does not.

    Raises:
        InputError: the file system is not installed.
        OSError: the file cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="microlens-") as folder:
        path = Path(folder) / PurePosixPath(file.address).name
        with _as_oserror(file.address):
            system, name = _system(file.address)
            try:
                system.get_file(name, str(path))
            except FileNotFoundError:
                path.unlink(missing_ok=True)
        yield path


def exists(address: str) -> bool:
    """True if there is a file; raises as :func:`local_copy`."""
    with _as_oserror(address):
        system, name = _system(address)
        return bool(system.isfile(name))


def read_bytes(address: str) -> bytes | None:
    """The content of a file; None if it does not exist; raises as :func:`local_copy`."""
    with _as_oserror(address):
        system, name = _system(address)
        try:
            content: bytes = system.cat_file(name)
        except FileNotFoundError:
            return None
        return content


def write_bytes(address: str, content: bytes) -> None:
    """Write a file so that it appears whole or not at all; raises as :func:`local_copy`."""
    with _as_oserror(address):
        system, name = _system(address)
        if "file" not in system.protocol:
            system.pipe_file(name, content)  # an object store has an object when all its bytes have arrived
            return
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def list_folder(address: str) -> list[tuple[str, int | None]]:
    """The names in a folder and their sizes in bytes, None for folders; raises as :func:`local_copy`.

    Raises:
        InputError: there is no such folder.
    """
    with _as_oserror(address):
        system, name = _system(address)
        system.invalidate_cache()
        try:
            entries = system.ls(name, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"there is no folder {address}.") from None
    return sorted((_last(entry["name"]), _size(entry)) for entry in entries if _last(entry["name"]) != _last(name))


def files_below(address: str) -> Iterator[tuple[str, StoredFile]]:
    """The files below a folder, each with its path from the folder; raises as :func:`local_copy`."""
    with _as_oserror(address):
        system, name = _system(address)
        found = system.find(name, detail=True)
    start = name.rstrip("/") + "/"
    for path, entry in sorted(found.items()):
        within = path.removeprefix(start)
        if not path.endswith("/"):
            yield within, StoredFile(f"{address.rstrip('/')}/{within}", int(entry["size"]))


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _size(entry: dict[str, Any]) -> int | None:
    return None if entry["type"] == "directory" else int(entry["size"])


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the file's name in it."""
    if find_spec("fsspec") is None:
        raise InputError(f"{address} needs the package fsspec; install it with: pip install 'microlens[scale]'")
    import fsspec

    try:
        system, name = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address} cannot be used: {error}") from None
    return system, name


@contextmanager
def _as_oserror(address: str) -> Iterator[None]:
    """Turn the errors of storage libraries, which have many types, into OSError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise OSError(errno.ECONNABORTED, f"{type(error).__name__}: {error}", address) from None
