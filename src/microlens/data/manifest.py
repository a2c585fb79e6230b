"""The schema of the manifest of a prepared dataset."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, with_config

from microlens.errors import InputError
from microlens.files.json_files import parse_json, read_json
from microlens.media.decoding import Settings

FORMAT_VERSION = 1
PREPARE_AGAIN = "prepare the dataset again"


class _Fields(BaseModel):
    """A table of the manifest. Its schema is built when a manifest is read, not on import, which commands wait for."""

    model_config = ConfigDict(defer_build=True)


class _Table(_Fields):
    users: NonNegativeInt
    items: NonNegativeInt
    interactions: NonNegativeInt


class _Ids(_Fields):
    user: Literal["int64", "string"] = "int64"
    item: Literal["int64", "string"] = "int64"


class _Counts(_Fields):
    release: _Table
    paper_protocol: _Table
    out_of_order: NonNegativeInt
    clips: NonNegativeInt
    covers: NonNegativeInt
    sound: NonNegativeInt


class _Drop(_Fields):
    what: str
    count: NonNegativeInt
    why: str


class _Fault(_Fields):
    item: int | str
    file: str
    kind: str
    lost: bool
    fault: str


@with_config(ConfigDict(extra="forbid"))
class _Settings(Settings):
    """Unknown settings are rejected, because they could change the meaning of the content."""


class Manifest(_Fields):
    """The fields of a manifest that are read; it may contain others."""

    name: str
    checksum: str
    ids: _Ids = _Ids()
    counts: _Counts
    settings: _Settings
    dropped: list[_Drop]
    faults: list[_Fault]


class _Version(_Fields):
    format_version: int


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Read and check the manifest of the dataset ``folder``; returns it and its text.

    Raises:
        InputError: there is no manifest, it is damaged, or it has another format version.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        looked = path.name if folder.is_absolute() else Path.cwd() / path
        raise InputError(
            f"{folder} is not a prepared dataset (no {looked}); make one with: microlens data prepare RELEASE {folder}"
        )
    version = read_json(path, _Version, PREPARE_AGAIN).format_version
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder} has dataset format version {version}; this microlens reads version {FORMAT_VERSION}: "
            f"prepare it again."
        )
    text = path.read_text(encoding="utf-8")
    return parse_json(text, Manifest, path, PREPARE_AGAIN), text
