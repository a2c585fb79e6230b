"""Copies of a dataset's videos for browsers, which the feed serves."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from microlens.cores import available_cores
from microlens.data.dataset import Dataset
from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress, counting_bar
from microlens.files.writing import lock_folder
from microlens.media.web_copies import WebTask, copy_all
from microlens.release.folder import VIDEO_SUFFIXES, find_release
from microlens.release.media_files import find_media

WEB_COPIES = "web"
"""Folder in a dataset that holds the copies, named by item number."""


@dataclass(frozen=True, kw_only=True)
class WebCopies:
    """What became of the videos of a dataset.

    Attributes:
        folder: folder of the copies.
        present: number of copies that were there before.
        written: number of copies that were written now.
        playable: number of videos that need no copy.
        faults: what is wrong with files, as (item id, path, fault, whether the copy was written all the same).
    """

    folder: Path
    present: int
    written: int
    playable: int
    faults: tuple[tuple[Any, Path, str, bool], ...]


def write_web_copies(
    release_folder: str | Path,
    dataset: str | Path,
    *,
    workers: int | None = None,
    progress: bool = False,
    on_progress: OnProgress | None = None,
) -> WebCopies:
    """Write a copy of each video of a dataset that browsers do not play, in H.264 and AAC with at most 720 lines.

    Copies that are there are kept, so that an interrupted job is resumed. A file that cannot be copied does not stop
    the others.

    Args:
        release_folder: folder of the release that the dataset was prepared from.
        dataset: dataset folder; copies go to its folder ``web``.
        workers: number of processes; one per core by default.
        progress: show a progress bar.
        on_progress: called with (done, total) videos, instead of the bar.

    Raises:
        InputError: the release or the dataset cannot be read, they have no video in common, another process writes the
            copies, or processes do not start.
        OSError: the disk is full; finished copies are kept.
    """
    opened = Dataset(dataset)
    sources = _videos(Path(release_folder), opened)
    folder = opened.folder / WEB_COPIES
    targets = {item: folder / f"{number}.mp4" for number, item in enumerate(opened.item_ids, 1) if item in sources}
    missing = {WebTask(sources[item], target): item for item, target in targets.items() if not target.is_file()}
    folder.mkdir(exist_ok=True)
    bar = counting_bar("videos") if progress and on_progress is None else nullcontext(on_progress)
    with lock_folder(folder), bar as show:
        outcomes = copy_all(list(missing), workers or available_cores(), show)
    faults = [
        (missing[task], task.source, fault, outcome.written)
        for task, outcome in outcomes.items()
        for fault in outcome.faults
    ]
    return WebCopies(
        folder=folder,
        present=len(targets) - len(missing),
        written=sum(outcome.written for outcome in outcomes.values()),
        playable=sum(outcome.plays for outcome in outcomes.values()),
        faults=tuple(sorted(faults, key=lambda fault: fault[0])),
    )


def _videos(release: Path, dataset: Dataset) -> dict[Any, Path]:
    """The videos of a release by the ids of items of the dataset."""
    ids = dataset.item_ids
    found = find_media(find_release(release).videos, VIDEO_SUFFIXES, text_ids=ids.dtype == pl.String).by_item
    known = set(ids)
    videos = {item: path for item, path in found.items() if item in known}
    if not videos:
        raise InputError(f"{release} has no video of an item of {dataset.folder}.")
    return videos
