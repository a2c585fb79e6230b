"""Downloading a set to an address, or to a folder that several machines share, in shards of items."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from microlens.download.progress import Tally
from microlens.download.registry import MediaFolder, RemoteFile
from microlens.download.state import FOLDER
from microlens.download.work import MISSING, Download
from microlens.engines.base import Engine
from microlens.files.addresses import exists, files_below, read_bytes, write_bytes

ITEMS_PER_SHARD = 64

Fetch = Callable[..., Download]
"""Downloads a set to a folder; takes ``out``, ``only`` and ``items``, and can be pickled."""


@dataclass(frozen=True)
class MediaShard:
    """Some items whose files of one kind are fetched by one task."""

    media: MediaFolder
    items: tuple[int, ...]


def download_in_shards(
    fetch: Fetch,
    files: Sequence[RemoteFile],
    media: Sequence[MediaFolder],
    choose: Callable[[Path], Sequence[int] | None],
    out: str,
    engine: Engine,
    tally: Tally,
) -> Download:
    """Download a set to ``out``: tables by this process, media by ``engine``. Files that are there are not fetched.

    Each task fetches its files to a temporary folder, and writes them to ``out`` when they are complete.

    Args:
        fetch: what downloads a part of the set to a folder.
        files: the tables.
        media: the folders of media.
        choose: the items, given a folder with the tables; None if the tables do not tell them.
        out: an address, or an absolute path that is the same on all machines.
        engine: where media are fetched.
        tally: counts the files.

    Raises:
        InputError: the address or the cluster cannot be used.
        OSError: a file cannot be written to ``out``.
    """
    done = Download(out)
    with TemporaryDirectory(prefix="microlens-") as name:
        _fetch_tables(fetch, files, Path(name), done)
        items = choose(Path(name)) if media else ()
    for part in media:
        if items is None:
            done.missing[part.folder] = "the ids of its items are not known without the pairs"
            continue
        there = {within for within, file in files_below(f"{out}/{part.folder}") if file.bytes}
        left = [item for item in items if part.path_of(item).rpartition("/")[2] not in there]
        done.present += len(items) - len(left)
        tally.expect(len(left), 0)
        for _, fetched in engine.map_shards(partial(fetch_shard, fetch=fetch, out=out), list(_shards(part, left))):
            _add(done, fetched)
            for path in (*fetched.fetched, *fetched.missing):
                tally.on_end(path)
    write_bytes(f"{out}/{FOLDER}/{MISSING}", done.list_of_missing.encode())
    return done


def fetch_shard(shard: MediaShard, fetch: Fetch, out: str) -> Download:
    """Fetch the files of a shard, and write them to ``out``."""
    with TemporaryDirectory(prefix="microlens-") as folder:
        fetched = fetch(out=Path(folder), only=[shard.media.kind], items=shard.items)
        _place(fetched, out)
    return fetched


def _fetch_tables(fetch: Fetch, files: Sequence[RemoteFile], folder: Path, done: Download) -> None:
    """Write the tables that are not there to ``done.folder``; those that tell the items are in ``folder``, too."""
    left = []
    for file in files:
        address = f"{done.folder}/{file.path}"
        if not exists(address):
            left.append(file)
            continue
        done.present += 1
        if file.kind == "pairs":
            (folder / file.path).write_bytes(read_bytes(address) or b"")
    if left:
        fetched = fetch(out=folder, only=sorted({file.kind for file in left}))
        _place(fetched, str(done.folder))
        _add(done, fetched)


def _place(fetched: Download, out: str) -> None:
    for path in fetched.fetched:
        write_bytes(f"{out}/{path}", Path(fetched.folder, path).read_bytes())


def _add(done: Download, other: Download) -> None:
    done.fetched |= other.fetched
    done.missing |= other.missing
    done.notes += [note for note in other.notes if note not in done.notes]


def _shards(media: MediaFolder, items: Sequence[int]) -> Iterator[MediaShard]:
    for start in range(0, len(items), ITEMS_PER_SHARD):
        yield MediaShard(media, tuple(items[start : start + ITEMS_PER_SHARD]))
