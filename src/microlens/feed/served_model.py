"""A trained run that scores the items of a feed, with the same numbers as ``microlens recommend``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.new_items import NewItem
from microlens.errors import InputError
from microlens.feed.rounded_vectors import RoundedVectors
from microlens.files.run_manifest import digest
from microlens.release.ids import positions_of
from microlens.runs.added_items import EncodedItem, read_of_new_items
from microlens.runs.assembly import Experiment, open_experiment
from microlens.runs.recommend import Ranker

Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
_MANY = 100_000  # items, from which on rounded vectors save time
_FEW = 4  # scores of some items take less time than those of all if they are this small a part of them


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A run and the uploads that it can rank.

    Items are numbered as in the dataset of the feed, from 1; uploads are numbered after them. Items that the run does
    not know, because its dataset lacks them or its protocol has dropped them, score minus infinity.

    Letters: N items of the dataset of the feed, A uploads, D vector size, H history length.

    Attributes:
        folder: the run folder.
        digest: digest of the weights.
        ranker: ranks the items of the run.
        numbers: (N+1,) row of each item in the catalogue of the run; 0 if the run does not know it.
        uploads: (A,) the same for the uploads.
        user_id: id of a user of the dataset whom every person continues.
        rounded: rounded vectors of the known items, in ascending order; None if they save no time.
    """

    folder: Path
    digest: str
    ranker: Ranker
    numbers: Int64
    uploads: Int64
    user_id: str | None = None
    rounded: RoundedVectors | None = None

    @classmethod
    def open(cls, folder: Path, dataset: Path | None = None, user: str | None = None) -> Self:
        """Load a run.

        Args:
            folder: the run folder.
            dataset: folder of its dataset, if that was moved.
            user: id of a user of the dataset whom every person continues.

        Raises:
            InputError: the folder holds no trained run, its dataset is not found, the user is unknown, or the model
                identifies users by number and there is no user.
        """
        run = open_experiment(folder, dataset)
        ranker = Ranker(run)
        if user is not None:
            ranker.user_numbers([user])
        elif run.model.known_users_only:
            raise InputError(
                f"{run.config.model.name} identifies users by number and cannot read the history of a new person; "
                f"name a user whom everybody continues with --user ID, or serve another model."
            )
        return cls(folder, digest(run.best)[:16], ranker, _numbers(run), np.zeros(0, np.int64), user)

    @cached_property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.resolve().name

    @cached_property
    def id(self) -> str:
        """Name and weights, as exposures record them."""
        return f"{self.name}@{self.digest[:8]}"

    @property
    def dataset(self) -> Dataset:
        """The dataset of the run."""
        return self.ranker.run.dataset

    @cached_property
    def reads_of_uploads(self) -> list[str]:
        """What of an upload the model ranks it by, such as its title and video; empty if it cannot rank uploads."""
        return read_of_new_items(self.ranker.run)

    def for_items(self, ids: pl.Series) -> Self:
        """This model for a feed of the items with some ids (N,), which may be those of another dataset.

        Raises:
            InputError: the run knows none of the items.
        """
        if ids.equals(self.dataset.item_ids):
            return replace(self, rounded=_rounded(self.ranker, self.numbers))
        own = positions_of(ids.to_list(), self.dataset.item_ids) + 1
        numbers = np.append(0, _numbers(self.ranker.run)[own])
        if not numbers.any():
            raise InputError(
                f"{self.folder} was trained on {self.dataset.folder}, which has none of the items of this feed."
            )
        return replace(self, numbers=numbers, rounded=_rounded(self.ranker, numbers))

    def row_of(self, item: str) -> int:
        """The row of an item in the catalogue of the run, by its id; 0 if the run was not trained with it."""
        (own,) = positions_of([item], self.dataset.item_ids) + 1
        return int(_numbers(self.ranker.run)[own])

    def with_uploads(self, added: Sequence[EncodedItem | int]) -> Self:
        """This model with more uploads: what :meth:`encode` has made of each, or its row if the run has one, or 0."""
        encoded = [one for one in added if isinstance(one, EncodedItem)]
        ranker = self.ranker.with_new(encoded)
        first = iter(range(len(self.ranker.catalogue), len(ranker.catalogue)))
        rows = [next(first) if isinstance(one, EncodedItem) else one for one in added]
        known, rounded = [row for row in rows if row], self.rounded
        if rounded is not None and known:
            rounded = rounded.with_vectors(ranker.catalogue[known])
        uploads = np.append(self.uploads, np.array(rows, np.int64))
        return replace(self, ranker=ranker, uploads=uploads, rounded=rounded)

    def encode(self, item: NewItem) -> Tensor:
        """Encode an upload: (1, E).

        Raises:
            InputError: the model cannot rank uploads, something that it reads is missing, or a file cannot be decoded.
        """
        return self.ranker.encode(item)

    @cached_property
    def rows(self) -> Int64:
        """The row of each item in the catalogue of the run: (N+A+1,), 0 where it has none."""
        return np.concatenate([self.numbers, self.uploads]) if len(self.uploads) else self.numbers

    @cached_property
    def warm(self) -> Bools:
        """Whether each item has training interactions: (N+A+1,)."""
        split = self.ranker.run.split
        added = len(self.ranker.catalogue) - len(split.train_counts)
        counts = np.append(split.train_counts, np.zeros(added, split.train_counts.dtype))
        warm: Bools = (counts[self.rows] > 0) & (self.rows > 0)
        return warm

    @cached_property
    def _user(self) -> int | None:
        return None if self.user_id is None else int(self.ranker.user_numbers([self.user_id])[0])

    @cached_property
    def continued(self) -> list[int]:
        """The history of the continued user, by item number; empty without one."""
        if self._user is None:
            return []
        of_row = np.zeros(len(self.ranker.catalogue), np.int64)
        of_row[self.numbers] = np.arange(len(self.numbers))
        return [int(of_row[row]) for row in self.ranker.histories[self._user] if of_row[row]]

    def known(self, items: list[int]) -> list[int]:
        """Those of some items that the model knows, in the same order."""
        rows = self.rows
        return [item for item in items if item < len(rows) and rows[item]]

    def scores(self, history: list[int]) -> Float32:
        """The score of every item after a history of known items, oldest first: (N+A+1,).

        Items of the history, items that the run does not know, and padding score minus infinity.
        """
        own: Float32 = self.ranker.scores(self.rows[history], user=self._user).cpu().numpy()
        if self._same_rows:
            return own
        return own[self.rows]  # row 0, padding, scores minus infinity

    def best(self, history: list[int], k: int) -> tuple[Int64, Float32] | None:
        """Items that the ``k`` highest of :meth:`scores` are among, ascending, and their scores.

        None if computing all scores is as fast.
        """
        if self.rounded is None:
            return None
        state, own = self._state(history), np.searchsorted(self._known, history)
        return self._scores_of(self.rounded.candidates(state, k, own), state, history)

    def place(self, item: int, history: list[int]) -> tuple[float, int] | None:
        """The score of an item in :meth:`scores`, and its rank from 1, equal scores by number; None if it has none."""
        if item >= len(self.rows) or not self.rows[item] or item in history:
            return None
        if self.rounded is not None:
            state, own = self._state(history), np.searchsorted(self._known, history)
            score = float(self.ranker.scores_of(self.rows[[item]], state))
            above, uncertain = self.rounded.above(state, score, own)
            found = self._scores_of(uncertain, state, history)
            if found is not None:
                return score, 1 + above + ahead(found[1], score, int(np.searchsorted(found[0], item)))
        scores = self.scores(history)
        return float(scores[item]), 1 + ahead(scores, scores[item], item)

    def _state(self, history: list[int]) -> Tensor:
        return self.ranker.state(self.rows[history], self._user)

    def _scores_of(self, places: Int64, state: Tensor, history: list[int]) -> tuple[Int64, Float32] | None:
        """The known items at some places and their scores, minus infinity in the history; None if they are many."""
        if len(places) > len(self._known) // _FEW:
            return None
        items = self._known[places]
        scores: Float32 = self.ranker.scores_of(self.rows[items], state).numpy()
        scores[np.isin(items, history)] = -np.inf
        return items, scores

    @cached_property
    def _known(self) -> Int64:
        return np.flatnonzero(self.rows)

    @cached_property
    def _same_rows(self) -> bool:
        return np.array_equal(self.rows, np.arange(len(self.rows)))

    @cached_property
    def num_known(self) -> int:
        """The number of items that the model knows."""
        return len(self._known)

    def nearest(self, item: int, among: list[int], k: int) -> list[tuple[int, float]]:
        """The ``k`` items among some with the highest cosine similarity to an item, and the similarities.

        Nothing if the model has no vectors to compare.
        """
        others = [other for other in among if self.rows[other] and other != item]
        if not self.ranker.run.model.item_encoder.comparable or not others or not self.rows[item]:
            return []
        vectors = functional.normalize(self.ranker.catalogue[torch.from_numpy(self.rows[[item, *others]])], dim=1)
        cosines = vectors[1:] @ vectors[0]
        best = cosines.topk(min(k, len(others)))
        return [(others[index], float(cosine)) for cosine, index in zip(*best, strict=True)]


def ahead(scores: Float32, score: float, before: int) -> int:
    """How many scores (C,) are higher than one, or equal to it and among the first ``before``."""
    return int(np.count_nonzero(scores > score)) + int(np.count_nonzero(scores[:before] == score))


def _rounded(ranker: Ranker, numbers: Int64) -> RoundedVectors | None:
    rows, on_cpu = numbers[numbers > 0], ranker.catalogue.device.type == "cpu"
    if len(rows) < _MANY or ranker.catalogue.shape[1] == 1 or not ranker.run.model.dot_product or not on_cpu:
        return None
    return RoundedVectors.of(ranker.catalogue, rows)


def _numbers(run: Experiment) -> Int64:
    """The number in a run of each item of its dataset, (N+1,); 0 where the protocol has dropped it."""
    numbers = np.zeros(run.dataset.interactions.num_items + 1, np.int64)
    numbers[run.split.items_kept] = np.arange(run.split.num_items + 1)
    return numbers
