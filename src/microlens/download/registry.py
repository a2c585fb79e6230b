"""The registry of official files: for each set its folder on the server, files, sizes, checksums and counts."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from pydantic import TypeAdapter

from microlens.errors import InputError

ELLIPSIS = "…"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a set.

    Attributes:
        path: its path in a release folder.
        kind: ``pairs``, ``titles``, ``tags``, ``likes``, ``comments``, ``covers``, ``videos``, ``features``, ...
        address: its path on the server from the base address.
        size: bytes, if known.
        sha256: 64 hexadecimal digits, or the first 8 and last 4 with an ellipsis between, if known.
        git_blob: SHA-1 of the file as a git blob, if known.
    """

    path: str
    kind: str
    address: str
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    def has_sha256(self, digest: str) -> bool:
        """True if ``digest`` agrees with what is known of the SHA-256; an unknown one agrees with everything."""
        first, _, last = (self.sha256 or ELLIPSIS).partition(ELLIPSIS)
        return digest.startswith(first) and digest.endswith(last)


@dataclass(frozen=True, kw_only=True)
class MediaFolder:
    """The files of one kind of content, one per item, as single files and perhaps in a zip as well.

    Attributes:
        folder: the folder of the single files ``ID<suffix>``, in a release and on the server.
        kind: ``covers`` or ``videos``.
        suffix: suffix of the single files.
        address: the folder on the server from the base address.
        archive: the zip on the server from the base address, if there is one; of a split zip the last part.
        parts: number of parts of the zip; the others are called ``.z01``, ``.z02``, ...
        size: bytes of all files, if known.
    """

    folder: str
    kind: str
    suffix: str
    address: str
    archive: str | None = None
    parts: int = 1
    size: int | None = None

    def path_of(self, item: int) -> str:
        """The path of an item's file in a release."""
        return f"{self.folder}/{item}{self.suffix}"

    def address_of(self, item: int) -> str:
        """The address of an item's single file."""
        return f"{self.address}/{item}{self.suffix}"

    @property
    def archive_parts(self) -> tuple[str, ...]:
        """The addresses of the parts of the zip in their order; none if there is no zip."""
        if self.archive is None:
            return ()
        return tuple(self.archive.removesuffix(".zip") + suffix for suffix in part_suffixes(self.parts))


@dataclass(frozen=True, kw_only=True)
class ReleaseSet:
    """One official set: its name, its folder on the server, its files, and its counts if they are known.

    ``fingerprints`` are those of its interactions, as :func:`microlens.verification.fingerprints.fingerprints` computes
    them, by name.
    """

    name: str
    title: str
    folder: str
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    files: tuple[RemoteFile, ...] = ()
    media: tuple[MediaFolder, ...] = ()
    fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of content of this set, in the registry's order."""
        return tuple(dict.fromkeys([*(file.kind for file in self.files), *(media.kind for media in self.media)]))


@lru_cache
def load_registry() -> dict[str, ReleaseSet]:
    """The sets of the registry by name, in its order."""
    return {name: _release_set(name, table) for name, table in _content()["sets"].items()}


def base_address() -> str:
    """The address below which the folders of all sets lie."""
    return str(_content()["base"])


def find_set(name: str) -> ReleaseSet:
    """The set called ``name``, in upper or lower case, with or without ``MicroLens-`` before it.

    Raises:
        InputError: there is none; the message names the sets.
    """
    registry = load_registry()
    found = registry.get(name.lower().removeprefix("microlens-"))
    if found is None:
        raise InputError(f"there is no set called {name!r}; the sets are {', '.join(registry)}.")
    return found


@lru_cache
def _content() -> dict[str, Any]:
    return tomllib.loads(resources.files("microlens.download").joinpath("registry.toml").read_text(encoding="utf-8"))


def _release_set(name: str, table: dict[str, Any]) -> ReleaseSet:
    folder = table["folder"]
    located = {
        "files": [file for entry in table.get("files", []) for file in _files(folder, entry)],
        "media": [_media(folder, entry) for entry in table.get("media", [])],
    }
    content: ReleaseSet = TypeAdapter(ReleaseSet).validate_python({"name": name, **table, **located})
    return content


def _files(folder: str, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The file of an entry, or all parts of a split zip."""
    entry = {"address": f"{folder}/{entry['path']}", **entry}
    if "parts" not in entry:
        yield entry
        return
    for suffix in part_suffixes(entry.pop("parts")):
        yield {**entry, **{key: entry[key].removesuffix(".zip") + suffix for key in ("path", "address")}}


def part_suffixes(parts: int) -> list[str]:
    """The suffixes of the parts of a split zip in their order: ``.z01``, ``.z02``, ..., ``.zip``."""
    return [*(f".z{number:02}" for number in range(1, parts)), ".zip"]


def _media(folder: str, entry: dict[str, Any]) -> dict[str, Any]:
    archive = {"archive": f"{folder}/{entry['archive']}"} if "archive" in entry else {}
    return {"address": f"{folder}/{entry['folder']}", **entry, **archive}
