"""Releases at fsspec addresses, such as ``s3://bucket/MicroLens-50K``."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from microlens.errors import InputError
from microlens.files.addresses import is_address, list_folder, read_bytes
from microlens.release.folder import Release, find_release


@dataclass(frozen=True)
class OpenRelease:
    """A release and its ``address``; None for a local folder.

    The tables of a release at an address are local copies; its media folders are local stand-ins that are empty.
    """

    release: Release
    address: str | None = None


@contextmanager
def open_release(folder: str | Path) -> Iterator[OpenRelease]:
    """Find the parts of a release in a folder or at an address, of which the tables are fetched.

    Raises:
        InputError: as :func:`microlens.release.folder.find_release`; or the address cannot be used.
        OSError: the address cannot be read.
    """
    address = str(folder).rstrip("/")
    if not is_address(address):
        yield OpenRelease(find_release(Path(folder)))
        return
    with tempfile.TemporaryDirectory(prefix="microlens-") as temporary:
        local = Path(temporary) / address.rpartition("/")[2]
        try:
            yield OpenRelease(_with_tables(address, local), address)
        except InputError as error:
            raise InputError(str(error).replace(str(local), address)) from None


def _with_tables(address: str, local: Path) -> Release:
    """Make the folder ``local`` with the same names as the release, and fetch its tables."""
    local.mkdir()
    for name, size in list_folder(address):
        if size is None:
            (local / name).mkdir()
        else:
            (local / name).touch()
    release = find_release(local)
    for table in release.tables:
        table.write_bytes(read_bytes(f"{address}/{table.name}") or b"")
    return release
