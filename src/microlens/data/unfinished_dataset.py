"""The folder of an unfinished dataset: sorting interactions in it, and going on after an interruption."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from microlens.data.interactions import SPLIT
from microlens.data.interactions_writer import ITEM_IDS, PIECES, TABLES, Described, write_interactions
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.progress_bar import shown_bar
from microlens.files.writing import LOCK, UNFINISHED, claim_folder, clear_folder, lock_folder, remove_folder, write_text
from microlens.release.events import Events
from microlens.release.folder import MEDIA
from microlens.release.sorted_events import SortedEvents
from microlens.release.sorted_runs import RUN_FILES

_BEGUN_AGAIN = "it is begun again"
_REQUEST, _DESCRIBED = "request.json", "interactions.json"
_SORTING = "sorting"  # the folder of sorted runs, and of the interactions until they are complete
# Patterns of all files that are written.
_OF_SORTING = tuple(f"{_SORTING}/{name}" for name in (*RUN_FILES, *TABLES, PIECES))
_WRITTEN = (
    _REQUEST,
    _DESCRIBED,
    "outcomes.jsonl",
    "manifest.json",
    *TABLES,
    f"interactions/{SPLIT}",
    *(f"{table}.parquet" for table in ("items", "comments")),
    *(f"{kind}.lmdb{ending}" for kind in MEDIA for ending in ("", "-lock")),
)


class UnfinishedDataset:
    """The folder in which a dataset is written.

    Args:
        folder: folder to write to.
        request: what the dataset is made from, see :func:`microlens.data.dataset_writer.write_dataset`.
    """

    def __init__(self, folder: Path, request: dict[str, Any]) -> None:
        self.folder, self._request = folder, request

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Claim and lock the folder; on errors, remove half-sorted interactions, and a folder that is empty otherwise.

        Raises:
            InputError: the folder holds something else, or another process writes it.
        """
        claim_folder(self.folder)
        with lock_folder(self.folder):
            clear_folder(self.folder, (f".*{UNFINISHED}", f".*{UNFINISHED}-lock"))
            self._clear_sorting()
            try:
                yield
            except BaseException:
                self._clear_sorting()
                if not (self.folder / _REQUEST).exists():
                    remove_folder(self.folder, ())
                raise

    def described(self) -> Described | None:
        """What was written about the interactions for the same request; None if they are not complete."""
        with suppress(InputError):  # an unreadable request counts as a different one
            if read_json(self.folder / _REQUEST, dict[str, Any], _BEGUN_AGAIN) == self._request:
                return read_json(self.folder / _DESCRIBED, Described, _BEGUN_AGAIN)
        return None

    def sort(self, events: Events, rows: int, *, progress: bool) -> Described:
        """Sort interactions, ``rows`` at a time, without touching anything written before.

        Raises:
            InputError: they are invalid.
        """
        folder = self.folder / _SORTING
        folder.mkdir(exist_ok=True)
        with shown_bar("reading interactions (MB)", shown=progress) as on_progress:
            ordered = SortedEvents(events, folder, rows, on_progress)
        with shown_bar("sorting interactions", shown=progress) as on_progress:
            return write_interactions(ordered, folder, on_progress)

    def begin(self, described: Described) -> None:
        """Replace what was written for another request by the sorted interactions."""
        clear_folder(self.folder, _WRITTEN)
        (self.folder / "interactions").mkdir(exist_ok=True)
        for name in TABLES:
            (self.folder / _SORTING / name).replace(self.folder / name)
        self._clear_sorting()
        write_text(self.folder / _DESCRIBED, json.dumps(asdict(described)))
        write_text(self.folder / _REQUEST, json.dumps(self._request))

    def item_ids(self) -> pl.Series:
        """The distinct items (N,), ascending, once the interactions are complete."""
        return pl.read_parquet(self.folder / ITEM_IDS, glob=False)["item_id"]

    def finish(self, folder: Path) -> None:
        """Rename the folder to ``folder``, without what only going on needs."""
        for leftover in (_REQUEST, _DESCRIBED, ITEM_IDS, "outcomes.jsonl", LOCK):
            (self.folder / leftover).unlink(missing_ok=True)
        self.folder.rename(folder)

    def _clear_sorting(self) -> None:
        clear_folder(self.folder, _OF_SORTING)
        for folder in (self.folder / _SORTING / "interactions", self.folder / _SORTING):
            with suppress(OSError):  # absent, or it holds a file of somebody else
                folder.rmdir()
