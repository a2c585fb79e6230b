"""The members of a zip on a server, or on this machine, by item id."""

import json
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from zipfile import ZipInfo

from microlens.download.failures import TransferError, UnavailableError
from microlens.download.server import Server, Version
from microlens.download.split_zip import Member, Parts, Write, parse_directory, read_directory_bytes
from microlens.files.json_files import read_json
from microlens.files.writing import atomic_write, write_text

_ARCHIVE = re.compile(r"\.(zip|z\d+|rar|7z|tar|tgz|tar\.\w+|gz)$", re.IGNORECASE)
LEFTOVERS = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Archive:
    """A zip: its parts, its members by item id, and sentences on those that are left out."""

    parts: Parts
    members: Mapping[int, Member]
    notes: Sequence[str]


@dataclass(frozen=True)
class RemoteParts:
    """The parts of a zip on a server; ``missing`` says of those that are not there why."""

    server: Server
    addresses: tuple[str, ...]
    versions: tuple[Version, ...]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """Bytes of each part."""
        return [version.total or 0 for version in self.versions]

    def read(self, part: int, start: int, end: int, write: Write) -> None:
        """Give the bytes ``start`` to ``end`` (exclusive) of a part to ``write``."""
        address = self.addresses[part]
        name = PurePosixPath(address).name
        if address in self.missing:
            raise UnavailableError(f"the part {name}: {self.missing[address]}")
        try:
            self.server.read(address, start, end, self.versions[part], write)
        except UnavailableError as error:
            raise UnavailableError(f"the part {name}: {error}") from None


def open_archive(parts: Parts, suffix: str, directory: bytes | None = None) -> Archive:
    """The members of a zip that are files of items, called ``ID<suffix>`` in any folder.

    Raises:
        UnavailableError: it is no zip, or its directory is damaged or cannot be read.
    """
    return archive_of(parts, parse_directory(directory or read_directory_bytes(parts), parts.sizes), suffix)


def archive_of(parts: Parts, members: Iterable[Member], suffix: str) -> Archive:
    """The ``members`` of a zip that are files of items, called ``ID<suffix>`` in any folder."""
    return Archive(parts, *_by_item(members, suffix))


def open_remote_archive(server: Server, addresses: Sequence[str], suffix: str, cache: Path, jobs: int) -> Archive:
    """The members of a zip on a server that are files of items.

    Args:
        server: the server, which has to send parts of files.
        addresses: the parts of the zip in their order.
        suffix: suffix of the files.
        cache: a file in which the zip's directory is kept, with the parts' versions in a JSON file beside it.
        jobs: number of parts that are asked for at a time.

    Raises:
        RangesIgnoredError: the server does not send parts of files.
        UnavailableError, TransferError: the last part cannot be read, or is no zip.
    """
    last = server.look(addresses[-1], ranges=True)
    known = _cached_versions(cache)
    if len(known) == len(addresses) and known[-1] == last:
        return open_archive(RemoteParts(server, tuple(addresses), known), suffix, cache.read_bytes())
    parts = _look_at_parts(server, addresses, last, jobs)
    directory = read_directory_bytes(parts)
    archive = open_archive(parts, suffix, directory)
    if not parts.missing:
        with atomic_write(cache) as temporary:
            temporary.write_bytes(directory)
        write_text(_versions_path(cache), json.dumps([asdict(version) for version in parts.versions]))
    return archive


def item_of(name: str, suffix: str) -> int | None:
    """The item whose file is called ``name``; None if it is not called ``ID<suffix>``."""
    path = PurePosixPath(name)
    is_id = path.stem.isascii() and path.stem.isdecimal() and path.suffix.lower() == suffix
    return int(path.stem) if is_id else None


def why_left_out(info: ZipInfo) -> str | None:
    """Why a member of a zip is not unpacked; None if it is, and an empty string if nobody needs to know."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if info.is_dir() or path.name.startswith("._") or any(part in LEFTOVERS for part in path.parts):
        return ""
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return "its name points out of the folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    return "it is an archive within the archive" if _ARCHIVE.search(path.name) else None


def _by_item(members: Iterable[Member], suffix: str) -> tuple[dict[int, Member], list[str]]:
    found: dict[int, Member] = {}
    notes = []
    for member in members:
        name = member.info.filename
        why, item = why_left_out(member.info), item_of(name, suffix)
        if why is None and item is None:
            why = f"it is not called ID{suffix}"
        elif why is None and item in found:
            why = "another file of the same item comes first"
        if why is None and item is not None:
            found[item] = member
        elif why:
            notes.append(f"{name!r} in the zip is left out: {why}.")
    return found, notes


def _versions_path(cache: Path) -> Path:
    return cache.with_suffix(".json")


def _cached_versions(cache: Path) -> tuple[Version, ...]:
    path = _versions_path(cache)
    if not (path.exists() and cache.exists()):
        return ()
    return read_json(path, tuple[Version, ...], "remove it")


def _look_at_parts(server: Server, addresses: Sequence[str], last: Version, jobs: int) -> RemoteParts:
    """The versions of all parts; one that is missing is taken to be as large as most, so that others are found."""
    missing: dict[str, str] = {}

    def look(address: str) -> Version | None:
        try:
            return server.look(address, ranges=True)
        except (UnavailableError, TransferError) as error:
            missing[address] = str(error)
            return None

    with ThreadPoolExecutor(jobs) as pool:
        found = [*pool.map(look, addresses[:-1]), last]
    usual = max((version.total or 0 for version in found[:-1] if version), default=0)
    versions = tuple(version or Version(usual) for version in found)
    return RemoteParts(server, tuple(addresses), versions, missing)
