"""Sizes and checksums of official files that the registry lacks, recorded at their first download by this user."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from microlens.download.failures import UnavailableError
from microlens.download.registry import RemoteFile
from microlens.download.sources import settings_folder
from microlens.files.json_files import read_json
from microlens.files.writing import git_blob, write_text

NAME = "first-seen.json"


@dataclass(frozen=True)
class Seen:
    """What a file was at its first download."""

    size: int
    sha256: str
    date: str


def first_seen_path() -> Path:
    """The file of the records, in the folder of the user's settings."""
    return settings_folder() / NAME


def recall() -> dict[str, Seen]:
    """The records by address.

    Raises:
        InputError: the file is damaged.
    """
    path = first_seen_path()
    return read_json(path, dict[str, Seen], "remove it to record anew") if path.exists() else {}


def remember(address: str, size: int, sha256: str) -> None:
    """Record a file, unless it is recorded already."""
    path = first_seen_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{NAME}.lock")):
        records = recall()
        if address not in records:
            records[address] = Seen(size, sha256, datetime.now(UTC).date().isoformat())
            table = {key: asdict(value) for key, value in sorted(records.items())}
            write_text(path, json.dumps(table, indent=1) + "\n")


def check_content(file: RemoteFile, path: Path, sha256: str) -> None:
    """Check that a file has the size and the checksums of the registry, or else those of its first download.

    Args:
        file: its entry in the registry.
        path: where it is.
        sha256: its SHA-256.

    Raises:
        UnavailableError: it differs.
    """
    size = path.stat().st_size
    differs = f"{size:,} bytes with SHA-256 {sha256} are not the file of"
    other_blob = file.git_blob is not None and file.git_blob != git_blob(path)
    if file.size not in (None, size) or not file.has_sha256(sha256) or other_blob:
        raise UnavailableError(f"{differs} the registry")
    seen = recall().get(file.address)
    if file.sha256 is None and seen and (seen.size, seen.sha256) != (size, sha256):
        raise UnavailableError(
            f"{differs} the first download on {seen.date}; to accept a change, remove the entry in {first_seen_path()}"
        )
