"""An LMDB file as the original code reads it, from the content of a dataset."""

import json
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from microlens.data.dataset import Dataset
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import UNFINISHED, claim_folder, clear_folder, lock_folder, remove_folder, write_text
from microlens.media.original_values import CLASSES, SIZE, Kind, pack_original
from microlens.media.packing import unpack_images
from microlens.media.store import Store, StoreWriter

_FILE, _REQUEST = "lmdb", "request.json"
_WRITTEN = (_FILE, f"{_FILE}-lock", _REQUEST, f".*{UNFINISHED}")


@dataclass(frozen=True)
class _Request:
    dataset: str
    kind: str


def export_lmdb(
    dataset: str | Path, out: str | Path, kind: Kind = "clips", *, on_progress: OnProgress | None = None
) -> int:
    """Write the clips or covers of a dataset as an LMDB file in the layout of the original code.

    The key of an item is its id in ASCII, its value a pickled ``LMDB_VIDEO`` or ``LMDB_Image``, see
    :mod:`microlens.media.original_values`; ``__keys__`` holds all keys and ``__len__`` their number. Frames take 12
    bytes a pixel, 3.0 MB for a clip of five. An interrupted export is resumed.

    Args:
        dataset: folder of a prepared dataset, with frames of 224 x 224 pixels.
        out: the file, which must not exist.
        kind: "clips" or "covers".
        on_progress: called with (done, total) items.

    Returns:
        The number of items.

    Raises:
        InputError: ``out`` exists, no item has such content, ids are text, pictures have another size, content is
            damaged, or the disk is too small.
    """
    data, out = Dataset(dataset), Path(out)
    if out.exists():
        raise InputError(f"{out} exists already; name a file that does not.")
    keys = _exported(data, kind)
    store = Store.open(data.folder / f"{kind}.lmdb")
    with _working_folder(out, _Request(data.checksum, kind)) as working:
        with StoreWriter(working / _FILE) as writer:
            _require_space(working, kind, data, len(keys))
            for done, key in enumerate(keys, 1):
                if not writer.has(key):
                    writer.put(key, _original(store, key, kind))
                if on_progress:
                    on_progress(done, len(keys))
            writer.put_entry(b"__keys__", pickle.dumps([b"%d" % key for key in keys], 3))
            writer.put_entry(b"__len__", pickle.dumps(len(keys), 3))
        (working / _FILE).rename(out)
    return len(keys)


def _exported(data: Dataset, kind: Kind) -> list[int]:
    """The ids of the items with content of this kind."""
    if kind not in CLASSES:
        raise InputError(f"kind is '{kind}'; accepted: {', '.join(CLASSES)}.")
    if data.item_ids.dtype == pl.String:
        raise InputError(f"{data.folder}: its item ids are text; the original code reads integers only.")
    size = data.settings.clips.size if kind == "clips" else data.settings.cover_size
    if size != SIZE:
        raise InputError(
            f"{data.folder}: its {kind} have {size} x {size} pixels; the original code reads {SIZE} x {SIZE}, so "
            f"prepare the dataset with that size."
        )
    keys: list[int] = data.interactions.item_ids[1:][data.items[kind].to_numpy()].tolist()
    if not keys:
        raise InputError(f"{data.folder}: no item has {kind}.")
    return keys


def _original(store: Store, key: int, kind: Kind) -> bytes:
    value = store.get(key)
    try:
        return pack_original(kind, unpack_images(value or b""))
    except InputError as error:
        raise InputError(f"{store.path}: item {key}: {error}; prepare the dataset again") from None


def _require_space(working: Path, kind: Kind, data: Dataset, number: int) -> None:
    frames = data.settings.clips.num_frames if kind == "clips" else 1
    needed = number * frames * 3 * SIZE * SIZE * 4 - (working / _FILE).stat().st_size
    free = shutil.disk_usage(working).free
    if needed > free:
        raise InputError(
            f"{working.parent} needs {needed / 1e9:,.1f} GB and the disk has {free / 1e9:,.1f} GB left; free some "
            f"space."
        )


@contextmanager
def _working_folder(out: Path, request: _Request) -> Iterator[Path]:
    """Yield a folder beside ``out``, with what an interrupted export of the same content left in it."""
    working = out.with_name(f".{out.name}.partial")
    claim_folder(working)
    with lock_folder(working):
        begun = None
        with suppress(InputError):  # an unreadable request counts as another one
            begun = read_json(working / _REQUEST, _Request, "it is begun again")
        if begun != request:
            clear_folder(working, _WRITTEN)
            write_text(working / _REQUEST, json.dumps(asdict(request)))
        yield working
        remove_folder(working, _WRITTEN)
