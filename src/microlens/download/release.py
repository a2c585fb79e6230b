"""Downloading an official set as a release folder."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from microlens.download.archive import Archive, open_remote_archive
from microlens.download.failures import RangesIgnoredError, TransferError, UnavailableError
from microlens.download.fetching import Fetcher
from microlens.download.first_seen import recall
from microlens.download.items import Choice, choose_items, items_of_pairs
from microlens.download.progress import OnProgress, Tally
from microlens.download.registry import MediaFolder, ReleaseSet, RemoteFile, find_set
from microlens.download.server import Server
from microlens.download.shards import Fetch, download_in_shards
from microlens.download.sources import find_source
from microlens.download.split_zip import LocalParts
from microlens.download.state import FOLDER, State, open_state
from microlens.download.work import MISSING, Download
from microlens.engines.base import Engine
from microlens.engines.local import LocalEngine
from microlens.errors import InputError
from microlens.files.addresses import absolute, is_address
from microlens.files.writing import write_text
from microlens.seeds import checked_seed

READ_BY_PREPARE = ("pairs", "titles", "tags", "likes", "comments", "readme", "covers", "videos")
"""The kinds that are fetched by default."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a plan: files of one kind, how many of them are there already, and bytes to fetch if known."""

    kind: str
    path: str
    files: int
    present: int
    size: int | None


@dataclass(frozen=True)
class _Job:
    """What is to be fetched: the set, the files of the chosen kinds, and the items."""

    chosen: ReleaseSet
    out: Path
    files: tuple[RemoteFile, ...]
    media: tuple[MediaFolder, ...]
    items: Choice
    seed: int
    jobs: int


def download_release(
    name: str,
    out: Path | str,
    *,
    only: Sequence[str] | None = None,
    items: Choice = None,
    seed: int = 0,
    mirror: str | None = None,
    jobs: int = 8,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> Download:
    """Download an official set as a release folder; what is there already is not fetched again.

    A call that was interrupted, however it ended, goes on where it stopped. No file that is there is overwritten.

    Args:
        name: ``50k``, ``100k``, ``1m`` or ``1m-mmctr``.
        out: the release folder, or its address, such as ``s3://bucket/folder``.
        only: kinds of files; by default those that :func:`microlens.prepare` reads.
        items: whose covers and videos: a number of random items, a file with an id a line, or ids; by default all.
        seed: seed of the random choice of items.
        mirror: base address in place of the official one; see ``docs/download.md``.
        jobs: number of files at a time; of each task, if there is an engine.
        engine: machines that fetch the media to ``out``, an address or a folder that all of them share.
        on_progress: called with the progress, at most ten times a second.

    Returns:
        What was fetched, and what is missing and why.

    Raises:
        InputError: the set or a kind does not exist, the items cannot be chosen, the disk is too small, another
            process is writing to ``out``, or the address or the cluster cannot be used.
    """
    job = _job(name, out, only, items, seed, jobs)
    if engine is not None or is_address(str(out)):
        fetch = partial(download_release, name, mirror=mirror, jobs=jobs)
        return _in_shards(fetch, job, absolute(str(out)), engine or LocalEngine(1), Tally(on_progress))
    job.out.mkdir(parents=True, exist_ok=True)
    done = Download(job.out)
    with open_state(job.out) as state, Server(find_source(mirror), jobs) as server:
        fetcher = Fetcher(server, state, done, Tally(on_progress), jobs)
        fetcher.fetch_tables(job.files, _sizes(server, job))
        for media in job.media:
            _fetch_media(fetcher, job, media)
    _list_missing(done)
    return done


def plan_release(
    name: str,
    out: Path | str,
    *,
    only: Sequence[str] | None = None,
    items: Choice = None,
    seed: int = 0,
    mirror: str | None = None,
    jobs: int = 8,
) -> list[Step]:
    """What :func:`download_release` would fetch; nothing is written.

    Sizes that are not known are asked for.
    """
    job = _job(name, out, only, items, seed, jobs)
    with Server(find_source(mirror), jobs) as server:
        sizes = _sizes(server, job)
        tables = [_table_step(job, file, sizes) for file in job.files]
        return tables + [_media_step(server, job, media) for media in job.media]


def _job(name: str, out: Path | str, only: Sequence[str] | None, items: Choice, seed: int, jobs: int) -> _Job:
    seed = checked_seed(seed)
    chosen = find_set(name)
    if wrong := sorted(set(only or ()) - set(chosen.kinds)):
        raise InputError(f"{chosen.title} has no {wrong[0]}; its kinds are {', '.join(chosen.kinds)}.")
    kinds = READ_BY_PREPARE if only is None else tuple(only)
    media = tuple(media for media in chosen.media if media.kind in kinds)
    files = [file for file in chosen.files if file.kind in kinds]
    if media and "pairs" not in kinds and (items is None or isinstance(items, int)):
        files = [next(file for file in chosen.files if file.kind == "pairs"), *files]  # they name the items
    return _Job(chosen, Path(out), tuple(files), media, items, seed, jobs)


def _in_shards(fetch: Fetch, job: _Job, out: str, engine: Engine, tally: Tally) -> Download:
    def choose(folder: Path) -> list[int] | None:
        return _items(replace(job, out=folder), None)

    return download_in_shards(fetch, job.files, job.media, choose, out, engine, tally)


def _fetch_media(fetcher: Fetcher, job: _Job, media: MediaFolder) -> None:
    state, before = fetcher.state, len(fetcher.done.missing)
    items, archive, whole = _items(job, None), None, False
    if items is None or not all(state.has(media.path_of(item)) for item in items):
        whole = _is_taken_whole(state, job, media, items)
        archive = _archive(fetcher, job, media, whole=whole)
        items = items or _items(job, archive)
    if items is None:
        fetcher.done.missing[media.folder] = "the ids of its items are not known without the pairs"
        return
    fetcher.fetch_media(media, items, archive)
    if archive and isinstance(archive.parts, LocalParts):
        state.partial_path(media.archive_parts[0]).unlink()
    if len(fetcher.done.missing) > before:
        _cache(state.folder, media).unlink(missing_ok=True)


def _is_taken_whole(state: State, job: _Job, media: MediaFolder, items: Sequence[int] | None) -> bool:
    """True if a zip is fetched whole, which is faster for most of its members."""
    if len(media.archive_parts) != 1:
        return False
    left = [item for item in items or () if not state.has(media.path_of(item))]
    begun = state.partial_path(media.archive_parts[0]).exists()
    return begun or (job.items is None and (items is None or 2 * len(left) > len(items)))


def _archive(fetcher: Fetcher, job: _Job, media: MediaFolder, *, whole: bool) -> Archive | None:
    """The zip of the files, fetched whole or to be read in parts; None if there is none or it cannot be read."""
    if media.archive is None:
        return None
    try:
        return fetcher.fetch_archive(media) if whole else _remote(fetcher.server, job, media, fetcher.state.folder)
    except RangesIgnoredError as error:
        if len(media.archive_parts) == 1:
            return _archive(fetcher, job, media, whole=True)
        why: Exception = error
    except (UnavailableError, TransferError) as error:
        why = error
    fetcher.done.notes.append(f"{PurePosixPath(media.archive).name} is not read: {why}.")
    return None


def _remote(server: Server, job: _Job, media: MediaFolder, folder: Path) -> Archive:
    return open_remote_archive(server, media.archive_parts, media.suffix, _cache(folder, media), job.jobs)


def _cache(folder: Path, media: MediaFolder) -> Path:
    return folder / f"{media.folder}.directory"


def _items(job: _Job, archive: Archive | None) -> list[int] | None:
    """The chosen items; None if all items have to be known, and neither pairs nor zip tell them."""
    if job.items is not None and not isinstance(job.items, int):
        return choose_items(job.items, (), job.seed)
    population = items_of_pairs(job.out, job.chosen) or (archive and list(archive.members))
    return choose_items(job.items, population, job.seed) if population else None


def _sizes(server: Server, job: _Job) -> dict[str, int]:
    """The sizes of the files that are not there, by path, as far as registry, records or server know them."""
    seen = recall()

    def look(file: RemoteFile) -> int | None:
        if file.size is not None or file.address in seen:
            return file.size or seen[file.address].size
        try:
            return server.look(file.address).total
        except (UnavailableError, TransferError):
            return None  # reported when it is fetched

    left = [file for file in job.files if not (job.out / file.path).exists()]
    with ThreadPoolExecutor(job.jobs) as pool:
        sizes = pool.map(look, left)
        return {file.path: size for file, size in zip(left, sizes, strict=True) if size is not None}


def _table_step(job: _Job, file: RemoteFile, sizes: Mapping[str, int]) -> Step:
    present = (job.out / file.path).exists()
    size = 0 if present else sizes.get(file.path)
    return Step(kind=file.kind, path=file.path, files=1, present=int(present), size=size)


def _media_step(server: Server, job: _Job, media: MediaFolder) -> Step:
    archive = None
    with TemporaryDirectory() as empty, suppress(UnavailableError, TransferError):
        if media.archive:
            archive = _remote(server, job, media, job.out / FOLDER if (job.out / FOLDER).exists() else Path(empty))
    items = _items(job, archive) or list(range(1, (job.chosen.items or 0) + 1))
    left = [item for item in items if not (job.out / media.path_of(item)).exists()]
    members = archive.members if archive else {}
    size = sum(members[item].info.compress_size for item in left if item in members) if archive else None
    return Step(kind=media.kind, path=media.folder, files=len(items), present=len(items) - len(left), size=size)


def _list_missing(done: Download) -> None:
    """Write the list of missing files to the hidden folder of the release."""
    write_text(Path(done.folder) / FOLDER / MISSING, done.list_of_missing)
