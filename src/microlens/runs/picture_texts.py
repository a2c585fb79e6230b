"""Texts in the pictures of all items as a file for text encoders, with their provenance."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import polars as pl

import microlens
from microlens.cores import available_cores
from microlens.data.dataset import Dataset
from microlens.errors import InputError
from microlens.files.json_files import read_json, resumed_log
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import atomic_write, claim_folder, digest_of, lock_folder, remove_folder, write_text
from microlens.media.processes import Killed, work
from microlens.media.text_recognition import (
    ItemTexts,
    TextTask,
    read_file_texts,
    read_stored_texts,
    require_recogniser,
)
from microlens.release.folder import COVER_SUFFIXES, find_release
from microlens.release.media_files import find_media

Source = Literal["cover", "frames"]

KIND_OF_SOURCE = {"cover": "covers", "frames": "clips"}
_LOG = "texts.jsonl"
_COLUMNS: dict[str, Any] = {
    "picture": pl.Int64,
    "text": pl.String,
    "confidence": pl.Float64,
    "script": pl.String,
    "height": pl.Float64,
    "left": pl.Float64,
    "top": pl.Float64,
}


@dataclass(frozen=True, kw_only=True)
class PictureTexts:
    """Texts on disk: ``NAME.parquet`` with one row per line of text, and ``NAME.json`` next to it.

    ``provenance`` is the content of ``NAME.json``: the inputs, counts and faults by item.
    """

    path: Path
    provenance: dict[str, Any]

    @property
    def config(self) -> str:
        """The TOML lines of a configuration that uses the texts."""
        return f'[encoder]\nname = "e5"\nsource = "title+ocr"\nocr = {json.dumps(str(self.path))}'

    @property
    def lines(self) -> pl.DataFrame:
        """One row per line: item_id, picture (0 for a cover), text, confidence, script, height, left and top.

        Rows are in order of items and pictures, in a picture the largest letters first. ``height`` is that of the
        letters, ``left`` and ``top`` are the corner of the line, as fractions of the picture's size. ``script`` is
        "Han", "Latin" or null.
        """
        return pl.read_parquet(self.path, glob=False)


def write_picture_texts(
    folder: str | Path,
    *,
    source: Source = "cover",
    release: str | Path | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> PictureTexts:
    """Read the Chinese and English texts in the pictures of every item of a dataset, or open those read before.

    An interrupted call resumes. A picture that cannot be read becomes a fault of its item.

    Args:
        folder: folder of a prepared dataset.
        source: the item's "cover", or all "frames" of its clip.
        release: folder of the release with the covers in full size; by default, those stored in the dataset are read.
        out: folder of the files; ``features`` in the dataset by default.
        workers: number of processes; one per core by default.
        on_progress: called with (done, total) items.

    Raises:
        InputError: the library rapidocr-onnxruntime is not installed, no item has such pictures, or an argument is
            invalid.
        OSError: the disk is full; finished work is kept.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1.")
    require_recogniser()
    dataset = Dataset(folder)
    tasks = _tasks(dataset, source, Path(release) if release is not None else None)
    identity = {
        "encoder": "ocr",
        "source": source,
        "dataset": dataset.checksum,
        "pictures": digest_of([[task.key, task.path.name, task.path.stat().st_size] for task in tasks]),
        "recogniser": f"rapidocr-onnxruntime {metadata.version('rapidocr-onnxruntime')}",
        "microlens": microlens.__version__,
    }
    out = dataset.folder / "features" if out is None else Path(out)
    path = out / f"ocr-{digest_of(identity)[:12]}.parquet"
    working = out / f".{path.stem}.partial"
    claim_folder(working)
    with lock_folder(working):
        if not path.exists():
            read = read_stored_texts if release is None else read_file_texts
            found = _recognise(read, tasks, working / _LOG, workers or available_cores(), on_progress)
            _write(path, dataset, found, identity)
        remove_folder(working, (_LOG,))
    note = read_json(path.with_suffix(".json"), dict[str, Any], f"remove {path} to read the texts again")
    return PictureTexts(path=path, provenance=note)


def _tasks(dataset: Dataset, source: Source, release: Path | None) -> list[TextTask]:
    if source not in KIND_OF_SOURCE:
        raise InputError(f"source is '{source}'; accepted: {', '.join(KIND_OF_SOURCE)}.")
    kind = KIND_OF_SOURCE[source]
    if release is not None and source != "cover":
        raise InputError("release is given, which is read for covers only; leave it out with source 'frames'.")
    paths = _stored(dataset, kind) if release is None else _files(dataset, release)
    if not paths:
        raise InputError(f"{release or dataset.folder}: no item has {kind}.")
    return [TextTask(key, path) for key, path in paths.items()]


def _stored(dataset: Dataset, kind: str) -> dict[int, Path]:
    """The store of each item's pictures, by key."""
    keys = dataset.interactions.item_ids[1:][dataset.items[kind].to_numpy()]
    return dict.fromkeys(keys.tolist(), dataset.folder / f"{kind}.lmdb")


def _files(dataset: Dataset, release: Path) -> dict[int, Path]:
    """The cover file of each item, by key."""
    text_ids = dataset.item_ids.dtype == pl.String
    files = find_media(find_release(release).covers, COVER_SUFFIXES, text_ids=text_ids).by_item
    keys = zip(dataset.item_ids, dataset.interactions.item_ids[1:].tolist(), strict=True)
    return {key: files[item] for item, key in keys if item in files}


def _recognise(
    read: Callable[[TextTask], ItemTexts],
    tasks: list[TextTask],
    log: Path,
    workers: int,
    on_progress: OnProgress | None,
) -> dict[int, ItemTexts]:
    """Read the texts of all items that are not in ``log`` yet; each becomes a line of it."""
    done = _logged(log)
    left = [task for task in tasks if task.key not in done]
    with log.open("a", encoding="utf-8") as lines, closing(work(read, left, workers)) as answers:
        for task, answer in answers:
            found = _lost(task, answer) if isinstance(answer, Killed) else answer
            lines.write(json.dumps(asdict(found), ensure_ascii=False) + "\n")
            lines.flush()
            done[task.key] = found
            if on_progress:
                on_progress(len(done), len(tasks))
    return done


def _lost(task: TextTask, end: Killed) -> ItemTexts:
    return ItemTexts(key=task.key, pictures=[], fault=f"reading its text {end.how}")


def _logged(log: Path) -> dict[int, ItemTexts]:
    return {found.key: found for found in resumed_log(log, ItemTexts)}


def _write(path: Path, dataset: Dataset, found: Mapping[int, ItemTexts], identity: dict[str, Any]) -> None:
    texts = [found[key] for key in sorted(found)]
    rows = list(_rows(dataset, texts))
    id_type = dataset.item_ids.dtype
    table = pl.DataFrame(rows, schema={"item_id": id_type, **_COLUMNS}, orient="row")
    provenance = {
        **identity,
        "num_items": len(texts),
        "items_with_text": table["item_id"].n_unique(),
        "num_lines": len(table),
        "faults": [{"item": dataset.item_id(one.key), "fault": one.fault} for one in texts if one.fault],
    }
    write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    with atomic_write(path) as temporary:
        table.write_parquet(temporary)


def _rows(dataset: Dataset, texts: list[ItemTexts]) -> Iterator[tuple[Any, ...]]:
    for one in texts:
        item_id = dataset.item_id(one.key)
        for number, lines in enumerate(one.pictures):
            for line in lines:
                values = asdict(line) | {"picture": number, "script": line.script}
                yield item_id, *(values[name] for name in _COLUMNS)
