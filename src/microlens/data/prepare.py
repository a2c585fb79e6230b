"""From a release to a dataset folder: checked, indexed, decoded, resumable, and there whole or not at all."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import lmdb
import polars as pl

import microlens
from microlens.data.interactions import Interactions
from microlens.data.manifest import FORMAT_VERSION, read_manifest
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.writing import LOCK, MARK, UNFINISHED, claim_folder, clear_folder, lock_folder, sha256, write_text
from microlens.media.decoding import Outcome, Settings, Task, decode_all
from microlens.release.folder import MEDIA, Release, find_release
from microlens.release.media_files import MediaFiles, find_media
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import Pairs, read_pairs

# Part of a release -> its reader, and the columns that it adds to the items.
_TABLES: dict[str, tuple[Callable[[Path], Metadata], dict[str, type[pl.DataType]]]] = {
    "titles": (read_titles, {"title": pl.String}),
    "tags": (read_tags, {"tag": pl.String}),
    "likes": (read_likes, {"likes": pl.Int64, "views": pl.Int64}),
    "comments": (read_comments, {}),
}
_FRAMES_UNUSED = "taken by other code; clips are made of the videos themselves"
EXAMPLES = 10  # how many of what was dropped are named in the manifest
Progress = Callable[[int, int], None]
# All that is ever written into the folder of an unfinished dataset.
_WRITTEN = (
    "request.json",
    "outcomes.jsonl",
    "manifest.json",
    "interactions/*.npy",
    *(f"{table}.parquet" for table in ("interactions", "users", "items", "comments")),
    *(f"{kind}.lmdb{ending}" for kind in MEDIA for ending in ("", "-lock")),
)


@dataclass
class _Preparation:
    """What has been found out so far, on its way into the manifest."""

    release: Release
    settings: Settings
    folder: Path
    dropped: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def drop(self, what: str, count: int, why: str, examples: list[Any] | None = None) -> None:
        if count:
            self.dropped.append({"what": what, "count": count, "why": why, "examples": (examples or [])[:EXAMPLES]})


def prepare(
    release_folder: Path,
    folder: Path,
    settings: Settings,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Read a release and write the dataset folder ``folder``; go on where an interrupted preparation stopped.

    Returns:
        The manifest: format version, sources with size and SHA-256, settings, counts, everything dropped and why, how
        tables were read, and the faults of media files by item.

    Raises:
        InputError: the release cannot be read or has no user whom the protocol keeps, or ``folder`` or
            ``folder.partial`` holds something else: nothing has been written then. Or decoding processes do not start.
        OSError: the disk is full; what was finished is kept.
    """
    release = find_release(release_folder)
    media = {kind: find_media(getattr(release, name), suffixes) for kind, (name, suffixes) in MEDIA.items()}
    request = _request(release, media, settings)
    if folder.exists():
        return _finished(folder, request)
    pairs = read_pairs(release.pairs)
    interactions = Interactions.from_pairs(pairs)
    split = make_split(interactions, Protocol())
    tables = {part: read(path) for part, (read, _) in _TABLES.items() if (path := getattr(release, part)) is not None}
    partial = folder.with_name(folder.name + ".partial")
    claim_folder(partial)
    with lock_folder(partial), _full_disk_as_oserror():
        _start_or_go_on(partial, request)
        preparation = _Preparation(release=release, settings=settings, folder=partial)
        _write_interactions(preparation, pairs, interactions)
        items = _with_tables(preparation, interactions, tables)
        known = set(interactions.item_ids[1:].tolist())
        media = {kind: files.of_items(known) for kind, files in media.items()}
        _name_unused(preparation, media)
        outcomes = decode_all(_tasks(media), settings, partial, workers or os.cpu_count() or 1, on_progress)
        outcomes = [
            replace(outcome, path=media[_source(outcome, media)].names[outcome.item_id]) for outcome in outcomes
        ]
        _write_table(items.with_columns(_media_columns(items, outcomes)), partial / "items.parquet")
        counts = _counts(pairs, interactions, split, outcomes)
        manifest = _manifest(preparation, request, counts, outcomes)
        write_text(partial / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        for leftover in ("request.json", "outcomes.jsonl", LOCK):
            (partial / leftover).unlink(missing_ok=True)
        partial.rename(folder)
        (folder / MARK).unlink()
    return manifest


def _request(release: Release, media: dict[str, MediaFiles], settings: Settings) -> dict[str, Any]:
    """What identifies a preparation without reading the media: table contents, media names and sizes, settings."""
    sizes = {
        kind: [[files.name_within(item), path.stat().st_size] for item, path in files.by_item.items()]
        for kind, files in media.items()
    }
    return {
        "format_version": FORMAT_VERSION,
        "tables": {path.name: sha256(path) for path in release.tables},
        "media": hashlib.sha256(json.dumps(sizes).encode()).hexdigest(),
        "settings": asdict(settings),
    }


@contextmanager
def _full_disk_as_oserror() -> Iterator[None]:
    """Say in one way what LMDB and NumPy say in three; LMDB calls a write that was cut short an I/O error."""
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


def _finished(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{folder} exists and is not a prepared dataset; choose another folder.")
    _, text = read_manifest(folder)
    manifest: dict[str, Any] = json.loads(text)
    if manifest.get("request") != request:
        raise InputError(
            f"{folder} was prepared from another release or with other settings; choose another folder or remove it."
        )
    return manifest


def _start_or_go_on(partial: Path, request: dict[str, Any]) -> None:
    path = partial / "request.json"
    clear_folder(partial, (f".*{UNFINISHED}",))
    with suppress(InputError):  # a request that cannot be read is another one
        if read_json(path, dict[str, Any], "it is begun again") == request:
            return
    clear_folder(partial, _WRITTEN)
    write_text(path, json.dumps(request))


def _write_interactions(preparation: _Preparation, pairs: Pairs, interactions: Interactions) -> None:
    folder, protocol = preparation.folder, Protocol()
    preparation.notes += pairs.notes
    interactions.write(folder / "interactions")
    _write_table(pairs.events, folder / "interactions.parquet")
    users = pairs.events.group_by("user").len("num_interactions").sort("user").rename({"user": "user_id"})
    _write_table(users, folder / "users.parquet")
    short = users.filter(pl.col("num_interactions") < protocol.min_length)["user_id"]
    preparation.drop("interactions", pairs.repeated, "a later repeat of the same user and item")
    preparation.drop(
        "users",
        len(short),
        f"fewer than {protocol.min_length} items; left out by the paper's protocol",
        short.to_list(),
    )


def _write_table(table: pl.DataFrame, path: Path) -> None:
    # Through memory, because polars itself reports a full disk as no OSError.
    content = BytesIO()
    table.write_parquet(content)
    path.write_bytes(content.getbuffer())


def _name_unused(preparation: _Preparation, media: dict[str, MediaFiles]) -> None:
    """Put down what lies in the release and is not read."""
    for why, names in preparation.release.unused.items():
        preparation.drop("files and folders of the release", len(names), why, names)
    unused = [(MEDIA[kind][0], *found) for kind, files in media.items() for found in files.unused.items()]
    frames = find_media(preparation.release.frames, ()).unused
    unused += [("frames", (suffix, _FRAMES_UNUSED), names) for (suffix, _), names in frames.items()]
    for name, (suffix, why), names in unused:
        preparation.drop(f"{suffix or 'other'} files of {name}", len(names), why, names)


def _tasks(media: dict[str, MediaFiles]) -> list[Task]:
    """Every media file to decode; an item without a sound file of its own is heard in its video."""
    files = {kind: found.by_item for kind, found in media.items()}
    videos = [
        Task(item, path, ("clips",) if item in files["sound"] else ("clips", "sound"))
        for item, path in files["clips"].items()
    ]
    return videos + [Task(item, path, (kind,)) for kind in ("covers", "sound") for item, path in files[kind].items()]


def _source(outcome: Outcome, media: dict[str, MediaFiles]) -> str:
    """The kind of files that an outcome comes from."""
    heard_in_video = outcome.kind == "sound" and outcome.item_id not in media["sound"].by_item
    return "clips" if heard_in_video else outcome.kind


def _with_tables(preparation: _Preparation, interactions: Interactions, tables: dict[str, Metadata]) -> pl.DataFrame:
    """The items with what the tables say of them; comments are written to a file of their own."""
    items = pl.DataFrame({"item_id": interactions.item_ids[1:]}).with_row_index("item", offset=1)
    for part, (_, columns) in _TABLES.items():
        if part not in tables:
            items = items.with_columns(pl.lit(None, kind).alias(name) for name, kind in columns.items())
            continue
        _count_leftovers(preparation, getattr(preparation.release, part), tables[part], items)
        if part == "comments":
            known = tables[part].table.filter(pl.col("item_id").is_in(items["item_id"].implode()))
            _write_table(known, preparation.folder / "comments.parquet")
        else:
            items = items.join(tables[part].table, on="item_id", how="left", maintain_order="left")
    return items


def _count_leftovers(preparation: _Preparation, path: Path, metadata: Metadata, items: pl.DataFrame) -> None:
    preparation.notes += metadata.notes
    unknown = metadata.table.filter(~pl.col("item_id").is_in(items["item_id"].implode()))["item_id"]
    preparation.drop(f"lines of {path.name}", metadata.unreadable, "could not be read, or repeat an item")
    preparation.drop(f"numbers of {path.name}", metadata.emptied, "no 64-bit integers; left empty")
    preparation.drop(
        f"lines of {path.name}", len(unknown), "items without interactions", unknown.head(EXAMPLES).to_list()
    )


def _media_columns(items: pl.DataFrame, outcomes: list[Outcome]) -> list[pl.Series]:
    ids = items["item_id"].to_list()
    columns = []
    for kind in MEDIA:
        stored = {outcome.item_id for outcome in outcomes if outcome.kind == kind and outcome.stored}
        columns.append(pl.Series(kind, [item in stored for item in ids], pl.Boolean))
    info = {outcome.item_id: outcome.info for outcome in outcomes if outcome.kind == "clips"}
    for name, dtype in (
        ("duration", pl.Float64),
        ("width", pl.Int64),
        ("height", pl.Int64),
        ("fps", pl.Float64),
        ("codec", pl.String),
    ):
        columns.append(pl.Series(name, [info.get(item, {}).get(name) for item in ids], dtype))
    faults: dict[int, list[str]] = {}
    for outcome in outcomes:
        faults.setdefault(outcome.item_id, []).extend(f"{outcome.kind}: {fault}" for fault in outcome.faults)
    columns.append(pl.Series("faults", [faults.get(item, []) for item in ids], pl.List(pl.String)))
    return columns


def _manifest(
    preparation: _Preparation, request: dict[str, Any], counts: dict[str, Any], outcomes: list[Outcome]
) -> dict[str, Any]:
    release = preparation.release
    sources: list[dict[str, Any]] = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": request["tables"][path.name]}
        for path in release.tables
    ]
    files = {(outcome.path, outcome.bytes, outcome.sha256) for outcome in outcomes}
    sources += [{"path": path, "bytes": size, "sha256": digest} for path, size, digest in sorted(files)]
    identity = [
        FORMAT_VERSION,
        sorted((source["path"], source["sha256"]) for source in sources),
        asdict(preparation.settings),
    ]
    return {
        "format_version": FORMAT_VERSION,
        "name": re.sub(r"(?i)pairs(\.\w+)+$", "", release.pairs.name).rstrip("_-") or release.folder.resolve().name,
        "microlens": microlens.__version__,
        "checksum": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        "counts": counts,
        "settings": asdict(preparation.settings),
        "dropped": preparation.dropped,
        "notes": preparation.notes,
        "faults": [
            {
                "item": outcome.item_id,
                "file": outcome.path,
                "kind": outcome.kind,
                "lost": not outcome.stored,
                "fault": fault,
            }
            for outcome in outcomes
            for fault in outcome.faults
        ],
        "sources": sources,
        "request": request,
    }


def _counts(pairs: Pairs, interactions: Interactions, split: Split, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        **{
            name: {"users": events.num_users, "items": events.num_items, "interactions": events.num_events}
            for name, events in (("release", interactions), ("paper_protocol", split))
        },
        "out_of_order": pairs.out_of_order,
        **{kind: sum(outcome.kind == kind and outcome.stored for outcome in outcomes) for kind in MEDIA},
    }
