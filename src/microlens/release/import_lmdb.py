"""Media files of a release from an LMDB file of the original code."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from PIL import Image

from microlens.cores import available_cores
from microlens.errors import InputError
from microlens.files.writing import atomic_write
from microlens.media.original_values import Kind, unpack_original
from microlens.media.packing import Images
from microlens.media.processes import Killed, work
from microlens.media.reading import media_url
from microlens.media.store import Store

PLACES: dict[Kind, tuple[str, str]] = {"covers": ("covers", ".png"), "clips": ("videos", ".mkv")}
"""For each kind, the folder in the release and the suffix of the files."""


@dataclass(frozen=True, kw_only=True)
class ImportedLmdb:
    """What was imported: the ``kind`` of content, and the number of items ``written``, or ``kept`` as they were there.

    ``folded`` of those written hold frames that the original code damaged, see
    :class:`microlens.media.original_values.OriginalImages`; ``faults`` maps item ids to the reason why they were left
    out.
    """

    kind: Kind
    written: int
    kept: int
    folded: int
    faults: dict[int, str]


@dataclass(frozen=True)
class _Result:
    folded: bool = False
    fault: str | None = None


def import_lmdb(
    lmdb: str | Path,
    release: str | Path,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportedLmdb:
    """Write the covers or video frames in an LMDB file of the original code as media files of a release, losslessly.

    Covers become ``covers/ID.png``; the frames of a video become ``videos/ID.mkv``, with one frame a second. Files that
    exist are kept, so that an interrupted import goes on. The pickles in the file are read without running code from
    them; an item that cannot be read becomes a fault.

    Args:
        lmdb: the file, or the folder that holds it as ``data.mdb``.
        release: folder of the release; it may be new.
        workers: number of processes; one per core by default.
        on_progress: called with (done, total) items.

    Raises:
        InputError: the file is not an LMDB file of items, is damaged, or its first item cannot be read.
        OSError: the disk is full; finished files are kept.
    """
    path = Path(lmdb) / "data.mdb" if Path(lmdb).is_dir() else Path(lmdb)
    store = Store.open(path)
    if not len(store):
        raise InputError(f"{path} holds no items.")
    items = store.item_ids().tolist()
    kind = unpack_original(_value(store, items[0]), _name(path, items[0])).kind
    folder = Path(release) / PLACES[kind][0]
    folder.mkdir(parents=True, exist_ok=True)
    left = [item for item in items if not _target(folder, kind, item).exists()]
    folded, faults, done = 0, {}, len(items) - len(left)
    write = partial(_import_item, store=store, folder=folder, kind=kind)
    with closing(work(write, left, workers or available_cores())) as answers:
        for item, answer in answers:
            result = _Result(fault=f"reading it {answer.how}") if isinstance(answer, Killed) else answer
            folded += result.folded
            if result.fault:
                faults[item] = result.fault
            done += 1
            if on_progress:
                on_progress(done, len(items))
    return ImportedLmdb(
        kind=kind,
        written=len(left) - len(faults),
        kept=len(items) - len(left),
        folded=folded,
        faults=dict(sorted(faults.items())),
    )


def _import_item(item: int, *, store: Store, folder: Path, kind: Kind) -> _Result:
    try:
        original = unpack_original(_value(store, item), _name(store.path, item))
    except InputError as error:
        return _Result(fault=str(error))
    if original.kind != kind:
        return _Result(fault=f"{_name(store.path, item)} holds {original.kind}, the first item {kind}")
    with atomic_write(_target(folder, kind, item)) as temporary:
        if kind == "covers":
            Image.fromarray(original.images[0]).save(temporary, "PNG")
        else:
            _write_video(temporary, original.images)
    return _Result(folded=original.folded)


def _value(store: Store, item: int) -> bytes:
    value = store.get(item)
    assert value is not None, "the item is in the index"
    return value


def _name(path: Path, item: int) -> str:
    return f"{path}: the value of item {item}"


def _target(folder: Path, kind: Kind, item: int) -> Path:
    return folder / f"{item}{PLACES[kind][1]}"


def _write_video(path: Path, frames: Images) -> None:
    """Write frames (F, H, W, 3) without loss, one a second; the same frames give the same bytes."""
    with av.open(media_url(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=Fraction(1))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
