"""Writing a dataset folder from its source: indexing and decoding, resumable and atomic."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lmdb

from microlens.data.dataset import Dataset
from microlens.data.findings import Findings
from microlens.data.interactions import Interactions
from microlens.data.manifest import FORMAT_VERSION, read_manifest
from microlens.data.protocol import Protocol
from microlens.data.source import Source
from microlens.data.split import make_split
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.progress_bar import OnProgress, counting_bar
from microlens.files.writing import LOCK, MARK, UNFINISHED, claim_folder, clear_folder, lock_folder, write_text
from microlens.media.decoding import Settings, Task, decode_all
from microlens.release.folder import MEDIA
from microlens.release.ids import Id
from microlens.release.media_files import MediaFiles

# Patterns of all files written into the folder of an unfinished dataset.
_WRITTEN = (
    "request.json",
    "outcomes.jsonl",
    "manifest.json",
    "interactions/*.npy",
    *(f"{table}.parquet" for table in ("interactions", "users", "items", "comments")),
    *(f"{kind}.lmdb{ending}" for kind in MEDIA for ending in ("", "-lock")),
)


def write_dataset(
    source: Source,
    folder: Path,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    progress: bool = False,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Write the dataset folder ``folder``, resume an unfinished one, or open a finished one made from the same source.

    The other arguments are those of :func:`microlens.data.prepare.prepare`.

    Raises:
        InputError: the source cannot be read or has no user that the protocol keeps, or ``folder`` or
            ``folder.partial`` holds something else (nothing is written in these cases); or decoding processes do not
            start.
        OSError: the disk is full; finished parts are kept.
    """
    settings = settings or Settings()
    if folder.exists():
        return _open_finished(folder, source, settings)
    pairs = source.read_pairs()
    media = source.media(text_ids=pairs.text_ids.item)
    request = _request(source, media, settings)
    interactions = Interactions.from_pairs(pairs)
    split = make_split(interactions, Protocol())
    tables, comments = source.read_items(pairs.text_ids), source.read_comments(pairs.text_ids)
    given = source.read_split(pairs.text_ids)
    partial = folder.with_name(folder.name + ".partial")
    claim_folder(partial)
    with lock_folder(partial), _full_disk_as_oserror():
        _start_or_go_on(partial, request)
        findings = Findings(folder=partial, pairs=pairs, interactions=interactions)
        findings.write_interactions()
        findings.join_items(tables)
        findings.write_comments(comments)
        findings.write_split(given)
        media = {kind: files.of_items(findings.keys) for kind, files in media.items()}
        findings.name_unused(source, media)
        bar = counting_bar("media files") if progress and on_progress is None else nullcontext(on_progress)
        with bar as show:
            outcomes = decode_all(_tasks(media, findings.keys), settings, partial, workers or os.cpu_count() or 1, show)
        findings.write_items(outcomes, media)
        manifest = findings.manifest(source, split, settings, request)
        write_text(partial / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        for leftover in ("request.json", "outcomes.jsonl", LOCK):
            (partial / leftover).unlink(missing_ok=True)
        partial.rename(folder)
        (folder / MARK).unlink()
    return Dataset(folder)


def _request(source: Source, media: Mapping[str, MediaFiles], settings: Settings) -> dict[str, Any]:
    """The identity of a dataset without reading its media: table contents, media names and sizes, settings."""
    sizes = {
        kind: [[files.name_within(item), _size(path)] for item, path in files.by_item.items()]
        for kind, files in media.items()
    }
    return {
        "format_version": FORMAT_VERSION,
        "tables": {origin.path: origin.sha256 for origin in source.origins},
        "media": hashlib.sha256(json.dumps(sizes).encode()).hexdigest(),
        "settings": asdict(settings),
    }


def _size(path: Path) -> int:
    """The size of a file in bytes; 0 for a missing file, whose path may come from a data frame."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _open_finished(folder: Path, source: Source, settings: Settings) -> Dataset:
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{folder} exists and is not a prepared dataset; choose another folder.")
    checked, text = read_manifest(folder)
    media = source.media(text_ids=checked.ids.item == "string")
    if json.loads(text).get("request") != _request(source, media, settings):
        raise InputError(
            f"{folder} was made from other data or with other settings; choose another folder or remove it."
        )
    return Dataset(folder)


def _start_or_go_on(partial: Path, request: dict[str, Any]) -> None:
    path = partial / "request.json"
    clear_folder(partial, (f".*{UNFINISHED}",))
    with suppress(InputError):  # an unreadable request counts as a different one
        if read_json(path, dict[str, Any], "it is begun again") == request:
            return
    clear_folder(partial, _WRITTEN)
    write_text(path, json.dumps(request))


def _tasks(media: Mapping[str, MediaFiles], keys: Mapping[Id, int]) -> list[Task]:
    """Every media file to decode; items without a sound file use the sound of their video."""
    files = {kind: {keys[item]: path for item, path in found.by_item.items()} for kind, found in media.items()}
    videos = [
        Task(item, path, ("clips",) if item in files["sound"] else ("clips", "sound"))
        for item, path in files["clips"].items()
    ]
    return videos + [Task(item, path, (kind,)) for kind in ("covers", "sound") for item, path in files[kind].items()]


@contextmanager
def _full_disk_as_oserror() -> Iterator[None]:
    """Turn the errors of LMDB and NumPy about a full disk into OSError; LMDB reports a short write as an I/O error."""
    try:
        yield
    except lmdb.DiskError as error:
        raise OSError(errno.ENOSPC, str(error)) from None
    except lmdb.Error as error:
        if os.strerror(errno.EIO) not in str(error):
            raise
        raise OSError(errno.EIO, str(error)) from None
    except OSError as error:
        if error.errno is not None or "requested and" not in str(error):
            raise
        raise OSError(errno.ENOSPC, str(error)) from None
