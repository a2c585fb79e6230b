"""A trained run: report, recommendations and vectors."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.counts import checked_count
from microlens.data.dataset import Dataset
from microlens.data.new_items import NewItem
from microlens.errors import InputError, shown
from microlens.evaluation.report import Report
from microlens.files.progress_bar import OnProgress
from microlens.runs.added_items import EncodedItem
from microlens.runs.assembly import Experiment, open_experiment, read_config
from microlens.runs.display import extraction_display
from microlens.runs.recommend import Ranker
from microlens.runs.write_lists import write_lists

Id = int | str


class Run:
    """A finished run in a folder. The model is loaded on first use.

    Args:
        folder: run folder.
        dataset: dataset of the run, or its folder; by default, its path at training time, also tried relative to the
            working directory and to the run folder.
        progress: show progress bars while the catalogue is encoded or ranked.

    Raises:
        InputError: the folder holds no finished run, or its files were modified.
    """

    def __init__(
        self, folder: str | Path, dataset: str | Path | Dataset | None = None, *, progress: bool = False
    ) -> None:
        given = dataset.folder if isinstance(dataset, Dataset) else dataset
        self._dataset = None if given is None else folder_path(given, "dataset")
        self.folder = folder_path(folder, "folder")
        self.config = read_config(self.folder)
        self.report = Report.read(self.folder)
        self.progress = progress

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.resolve().name

    @cached_property
    def experiment(self) -> Experiment:
        """The model with its best weights, and the split and content it was trained on."""
        return open_experiment(self.folder, self._dataset, progress=self.progress)

    @property
    def dataset(self) -> Dataset:
        """The dataset of the run."""
        return self.experiment.dataset

    @cached_property
    def _ranker(self) -> Ranker:
        return Ranker(self.experiment)

    def recommend(
        self,
        users: Sequence[Id] | None = None,
        *,
        history: Sequence[Id] | None = None,
        add_video: str | Path | None = None,
        new_items: Sequence[NewItem] = (),
        k: int = 10,
    ) -> pl.DataFrame:
        """Recommend the ``k`` best items that are not in a user's history.

        Args:
            users: user ids; all users if neither ``users`` nor ``history`` is given.
            history: item ids, oldest first, of a user who need not be in the dataset.
            add_video: video file outside the dataset that is ranked with the items, like ``NewItem(video=...)``.
            new_items: items outside the dataset that are ranked with its own, by what is known of them. Each is encoded
                by what the model reads: titles, videos, covers, tags.
            k: number of items per user.

        Returns:
            Columns user, item, rank (from 1), score, title; without user for a ``history``. New items have a null item,
            their title, or else their path, as title, and are listed even if their rank is greater than ``k``.

        Raises:
            InputError: a user or an item is unknown, both users and a history are given, the model cannot read a
                history, or a new item cannot be ranked by this model or its files cannot be decoded.
        """
        if users is not None and history is not None:
            raise InputError("recommend takes users or a history, not both.")
        checked_count("k", k)
        new = [*_described(new_items), *([] if add_video is None else [NewItem(video=add_video)])]
        ranker = self._ranker.with_new([EncodedItem(item, self._ranker.encode(item)) for item in new])
        if history is not None:
            return ranker.table(k, history=ranker.item_numbers(_listed(history, "history")))
        numbers = ranker.user_numbers(_listed(users, "users")) if users is not None else _everyone(ranker)
        with self._bar("users") as on_progress:
            return ranker.table(k, users=numbers, on_progress=on_progress)

    def write_recommendations(self, path: str | Path, users: Sequence[Id] | None = None, *, k: int = 10) -> int:
        """Write the output of :meth:`recommend` to a Parquet, CSV or JSON Lines file, depending on the suffix.

        Users are processed in chunks, so that memory use does not grow with their number.

        Args:
            path: file ending in .parquet, .csv or .jsonl; written atomically.
            users: user ids; all users by default.
            k: number of items per user.

        Returns:
            The number of users.

        Raises:
            InputError: a user is unknown, or the suffix is not supported.
        """
        checked_count("k", k)
        ranker = self._ranker
        numbers = ranker.user_numbers(_listed(users, "users")) if users is not None else _everyone(ranker)
        with self._bar("users") as on_progress:
            write_lists(Path(path), ranker, numbers, k, on_progress)
        return len(numbers)

    def history(self, user: Id) -> list[Any]:
        """Return the ids of a user's items, oldest first, without those that the protocol drops.

        Raises:
            InputError: the user is unknown.
        """
        ranker = self._ranker
        items = ranker.histories[int(ranker.user_numbers([user])[0])]
        ids: list[Any] = ranker.item_ids.gather(items.astype(np.int64) - 1).to_list()
        return ids

    def similar(self, item: Id, k: int = 10) -> pl.DataFrame:
        """Return the ``k`` items with the most similar vectors by cosine: columns item, rank, score, title.

        Raises:
            InputError: the item is unknown, or the model has no item vectors.
        """
        checked_count("k", k)
        return self._ranker.similar(int(self._ranker.item_numbers([item])[0]), k)

    def item_vectors(self) -> pl.DataFrame:
        """Return the vector of every item: columns item and vector, an array of D float32.

        Raises:
            InputError: the model has no item vectors.
        """
        vectors = self._ranker.vectors().cpu().numpy()
        return pl.DataFrame({"item": self._ranker.item_ids, "vector": vectors})

    def encode_video(self, path: str | Path) -> npt.NDArray[np.float32]:
        """Return the vector (D,) of a video file, in the space of :meth:`item_vectors`.

        Raises:
            InputError: the model reads more than videos or has no item vectors, or the file cannot be decoded.
        """
        self._ranker.vectors()
        vector: npt.NDArray[np.float32] = self._ranker.encode(NewItem(video=path))[0].cpu().numpy()
        return vector

    def encode_videos(self, paths: Sequence[str | Path]) -> pl.DataFrame:
        """Return the vectors of video files: columns item (the path) and vector, as in :meth:`item_vectors`.

        Raises:
            InputError: no path is given, or :meth:`encode_video` refuses one.
        """
        if isinstance(paths, str) or not isinstance(paths, Iterable) or not (paths := list(paths)):
            raise InputError(f"paths is {shown(paths)}; it takes a list of video files, at least one.")
        vectors = np.stack([self.encode_video(path) for path in paths])
        return pl.DataFrame({"item": [str(path) for path in paths], "vector": vectors})

    def evaluate(self) -> dict[str, Any]:
        """Rank the validation and test targets again; returns metrics, intervals and counts as in the report."""
        from microlens.runs.train import evaluate  # here, because lists need nothing of the training

        with self._bar("targets") as on_progress:
            return evaluate(self.experiment, on_progress)

    @contextmanager
    def _bar(self, what: str) -> Iterator[OnProgress | None]:
        if not self.progress:
            yield None
            return
        with extraction_display(what, progress=True) as on_progress:
            yield on_progress

    def _summary(self) -> dict[str, str]:
        found = self.report.metrics["test"]["all"]
        return {
            "folder": str(self.folder),
            "model": self.report.model,
            "encoder": self.report.encoder,
            "dataset": self.report.dataset,
            **{f"test {name}": f"{100 * value:.2f} %" for name, value in list(found.items())[:2]},
        }

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self._summary().items())
        return f"Run({facts})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._summary().items()
        )
        return f"<table>{rows}</table>"


def folder_path(given: object, what: str) -> Path:
    """The path of a folder that was given as the argument ``what``.

    Raises:
        InputError: it is no path.
    """
    if not isinstance(given, (str, Path)) or "\0" in str(given):
        raise InputError(f"{what} is {shown(given)}; it must be the path of a folder.")
    return Path(given)


def load(folder: str | Path, dataset: str | Path | Dataset | None = None, *, progress: bool = False) -> Run:
    """Open a finished run, possibly moved or copied; see :class:`Run`."""
    return Run(folder, dataset, progress=progress)


def _everyone(ranker: Ranker) -> npt.NDArray[np.int64]:
    return np.arange(len(ranker.user_ids))


def _listed(ids: Sequence[Id], name: str) -> list[Id]:
    """Return the ids as a list; reject a single id, because a string would be read as a sequence of letters."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(f"{name} is {ids!r}; it takes a list of ids, such as {name}=[{ids!r}].")
    return list(ids)


def _described(items: Sequence[NewItem]) -> list[NewItem]:
    described = list(items) if isinstance(items, Iterable) else [items]
    if not isinstance(items, Iterable) or not all(isinstance(item, NewItem) for item in described):
        raise InputError(f"new_items is {items!r}; it takes a list such as [NewItem(title='...')].")
    return described
