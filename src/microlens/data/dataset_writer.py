"""Writing a dataset folder from its source: indexing and decoding, resumable and atomic."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lmdb

from microlens.data.dataset import Dataset
from microlens.data.findings import Findings
from microlens.data.manifest import FORMAT_VERSION, read_manifest
from microlens.data.media_stores import decode_all
from microlens.data.source import Source
from microlens.data.unfinished_dataset import UnfinishedDataset
from microlens.engines.base import Engine
from microlens.engines.local import LocalEngine
from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress, shown_bar
from microlens.files.writing import MARK, digest_of, write_text
from microlens.media.decoding import Settings, Task
from microlens.release.ids import Id
from microlens.release.media_files import MediaFiles
from microlens.release.sorted_events import rows_within


def write_dataset(
    source: Source,
    folder: Path,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    engine: Engine | None = None,
    shards: str | None = None,
    progress: bool = False,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Write the dataset folder ``folder``, resume an unfinished one, or open a finished one made from the same source.

    The other arguments are those of :func:`microlens.data.prepare.prepare`.

    Raises:
        InputError: the source cannot be read or has no user that the protocol keeps, or ``folder`` or
            ``folder.partial`` holds something else (nothing is written in these cases); or decoding processes do not
            start; or a package is missing that the settings need.
        OSError: the disk is full; finished parts are kept.
    """
    settings = settings or Settings()
    if folder.exists():
        return _open_finished(folder, source, settings)
    if settings.clips.frames == "shots":
        from microlens.media.shots import require_detector  # slow to import

        require_detector()
    rows = rows_within(memory)
    events = source.events()
    media = source.media(text_ids=events.text_ids.item)
    request = _request(source, media, settings)
    unfinished = UnfinishedDataset(folder.with_name(folder.name + ".partial"), request)
    with _full_disk_as_oserror(), unfinished.locked():
        before = unfinished.described()
        described = before or unfinished.sort(events, rows, progress=progress)
        tables, comments = source.read_items(described.text_ids), source.read_comments(described.text_ids)
        given = source.read_split(described.text_ids)
        if before is None:
            unfinished.begin(described)
        findings = Findings(folder=unfinished.folder, described=described, item_ids=unfinished.item_ids())
        findings.tell_of_interactions()
        findings.join_items(tables)
        findings.write_comments(comments)
        findings.write_split(given)
        media = {kind: files.of_items(findings.keys) for kind, files in media.items()}
        findings.name_unused(source, media)
        tasks = _tasks(media, findings.keys)
        shared = f"{shards.rstrip('/')}/{digest_of(request)[:16]}" if shards else None
        with shown_bar("media files", shown=progress and on_progress is None) as show:
            outcomes = decode_all(
                tasks, settings, unfinished.folder, engine or LocalEngine(workers), shared, on_progress or show
            )
        findings.write_items(outcomes, media)
        manifest = findings.manifest(source, settings, request)
        write_text(unfinished.folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        unfinished.finish(folder)
        (folder / MARK).unlink()
    return Dataset(folder)


def _request(source: Source, media: Mapping[str, MediaFiles], settings: Settings) -> dict[str, Any]:
    """The identity of a dataset without reading its media: table contents, media names and sizes, settings."""
    sizes = {
        kind: [[files.name_within(item), files.size_of(item)] for item in files.by_item]
        for kind, files in media.items()
    }
    return {
        "format_version": FORMAT_VERSION,
        "tables": {origin.path: origin.sha256 for origin in source.origins},
        "media": hashlib.sha256(json.dumps(sizes).encode()).hexdigest(),
        "settings": asdict(settings),
    }


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


def _tasks(media: Mapping[str, MediaFiles], keys: Mapping[Id, int]) -> list[Task]:
    """Every media file to decode; items without a sound file use the sound of their video."""
    sound = {keys[item] for item in media["sound"].by_item}
    tasks = []
    for kind, files in media.items():
        for item, path in files.by_item.items():
            key = keys[item]
            kinds = ("clips", "sound") if kind == "clips" and key not in sound else (kind,)
            tasks.append(Task(key, path.absolute(), kinds, files.remote.get(item)))
    return tasks


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
