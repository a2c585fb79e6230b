"""Lists of recommended items: for users of the dataset, for any history, and with new items."""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.histories import Histories
from microlens.data.interactions import Int64
from microlens.data.new_items import NewItem
from microlens.errors import InputError
from microlens.evaluation.ranking import finite_scores, score_users, user_states
from microlens.evaluation.top_items import best_of
from microlens.files.progress_bar import OnProgress
from microlens.release.ids import positions_of
from microlens.runs.added_items import EncodedItem, encode_new_item
from microlens.runs.assembly import Experiment
from microlens.runs.catalogue_vectors import catalogue_vectors

CHUNK = 100_000  # users whose lists are held in memory at once
_BLOCK = 16  # columns that a product of matrices computes together


class Ranker:
    """Ranks the catalogue of a trained run for users or histories. The catalogue is encoded once; see
    :func:`microlens.runs.catalogue_vectors.catalogue_vectors`.

    Item numbers and user numbers are those of the run's split: items from 1, users from 0. Items outside the dataset
    that are ranked with it, ``added``, are numbered after its own.
    """

    def __init__(self, run: Experiment) -> None:
        self.run = run
        self.model = run.model
        self.added: tuple[NewItem, ...] = ()
        self.item_ids = run.dataset.item_ids.gather(run.split.items_kept[1:] - 1)
        self.user_ids = run.dataset.user_ids.gather(run.split.users_kept)
        self.titles = run.dataset.items["title"].fill_null("").gather(run.split.items_kept[1:] - 1)
        self.catalogue = catalogue_vectors(run)

    @cached_property
    def histories(self) -> Histories:
        """The complete histories of the users."""
        return Histories.of_split(self.run.split, self.run.dataset.interactions)

    def encode(self, item: NewItem) -> Tensor:
        """Encode an item outside the dataset for :meth:`with_new`; see :func:`encode_new_item`: (1, E)."""
        return encode_new_item(self.run, item)

    @torch.inference_mode()
    def with_new(self, items: Sequence[EncodedItem]) -> Self:
        """The same ranker with items outside the dataset."""
        if not items:
            return self
        extended, added = copy(self), [one.item for one in items]
        encoded = torch.cat([one.encoded.to(self.catalogue) for one in items])
        extended.model, vectors = self.model.with_new(added, encoded)
        extended.catalogue = torch.cat([self.catalogue, vectors.to(self.catalogue)])
        extended.added = (*self.added, *added)
        return extended

    def user_numbers(self, users: Sequence[Any]) -> Int64:
        """The numbers of user ids, (U,).

        Raises:
            InputError: a user is unknown, or the protocol dropped them.
        """
        least = self.run.split.protocol.min_length
        return _numbers(users, self.user_ids, "user", f"users with at least {least} items")

    def item_numbers(self, items: Sequence[Any]) -> Int64:
        """The numbers of item ids, (M,).

        Raises:
            InputError: an item is unknown.
        """
        return _numbers(items, self.item_ids, "item", "items of this run") + 1

    @torch.inference_mode()
    def scores(self, history: Int64, user: int | None = None) -> Tensor:
        """Score every item for one history; items of the history score minus infinity.

        Args:
            history: (H,) item numbers, oldest first.
            user: number of the user with this history.

        Returns:
            (N+1+A,), with A added items.

        Raises:
            InputError: the model identifies users by number and ``user`` is None; or a score is NaN or infinite.
        """
        self._require_users(user is None)
        users = np.array([user or 0])
        (scored,) = self._walk(Histories.of([history]), users, np.array([0]), None)
        scores: Tensor = scored.candidates()[0]
        return scores

    @torch.inference_mode()
    def state(self, history: Int64, user: int | None = None) -> Tensor:
        """The state of a user after a history; arguments and errors as in :meth:`scores`: (1, S)."""
        self._require_users(user is None)
        read = Histories.of([history]).last(np.array([0]), self.run.split.history_length).astype(np.int64)
        users = torch.tensor([user or 0], device=self.catalogue.device)
        return user_states(self.model, self.catalogue, users, torch.from_numpy(read).to(self.catalogue.device))

    @torch.inference_mode()
    def scores_of(self, items: Int64, state: Tensor) -> Tensor:
        """The scores of some items (K,) after a user state (1, S), to the last bit as :meth:`scores` has them: (K,).

        Raises:
            InputError: a score is NaN or infinite.
        """
        # Columns behind the last whole block of a product are rounded differently; they have to stay there.
        behind = len(self.catalogue) // _BLOCK * _BLOCK
        width = -(-len(items) // _BLOCK) * _BLOCK
        columns = np.append(np.zeros(width, np.int64), np.arange(behind, len(self.catalogue)))
        columns[: len(items)] = items
        vectors = self.catalogue.index_select(0, torch.from_numpy(columns))
        scores = finite_scores(self.model, state, vectors, np.array([0]))[0]
        return scores[torch.from_numpy(np.where(items < behind, np.arange(len(items)), width + items - behind))]

    @torch.inference_mode()
    def table(
        self,
        k: int,
        *,
        users: Int64 | None = None,
        history: Int64 | None = None,
        on_progress: OnProgress | None = None,
    ) -> pl.DataFrame:
        """Return the ``k`` best items for each user, or for one history.

        Args:
            k: number of items per user.
            users: (U,) user numbers.
            history: (H,) item numbers, oldest first, instead of ``users``.
            on_progress: called with (done, total) users.

        Returns:
            One row per item: user, item, rank (from 1), score and title. Added items are listed even if their rank is
            greater than ``k``; their item is null. For a history there is no user column.

        Raises:
            InputError: the model identifies users by number and a history is given; or a score is NaN or infinite.
        """
        self._require_users(history is not None)
        histories = self.histories if history is None else Histories.of([history])
        users = np.array([0]) if users is None else users
        parts = [_lists(torch.empty(0, 0), torch.empty(0, 0, dtype=torch.int64), 0)]
        rows = users if history is None else np.array([0])
        for scored in self._walk(histories, users, rows, on_progress):
            scores = scored.candidates()
            best = best_of(scores, k)
            parts.append(_lists(best.values, best.indices, scored.rows.start))
            for number in range(scores.shape[1] - len(self.added), scores.shape[1]):
                own = scores[:, number : number + 1]
                ranks = 1 + (scores[:, :number] >= own).sum(1) + (scores[:, number + 1 :] > own).sum(1)
                parts.append(_beyond(ranks, own[:, 0], k, scored.rows.start, number))
        listed = pl.concat(parts)
        if self.added:  # the others are in this order
            listed = listed.sort("row", "rank", maintain_order=True)
        return self._with_ids(listed, users, history is None)

    @torch.inference_mode()
    def similar(self, item: int, k: int) -> pl.DataFrame:
        """Return the ``k`` items whose vectors have the highest cosine similarity to that of item number ``item``.

        Returns:
            One row per item: item, rank, score (the cosine) and title.

        Raises:
            InputError: the model has no item vectors.
        """
        vectors = functional.normalize(self.vectors(), dim=1)
        cosines = torch.cat([vectors.new_full((1,), -torch.inf), vectors @ vectors[item - 1]])[None]
        cosines[0, item] = -torch.inf
        best = best_of(cosines, k)
        return self._with_ids(_lists(best.values, best.indices, 0), np.array([0]), False)

    def vectors(self) -> Tensor:
        """The vector of every item: (N, D).

        Raises:
            InputError: the model has no item vectors, as models based on counts.
        """
        if not self.run.model.item_encoder.comparable:
            raise InputError(f"{self.run.config.model.name} has no item vectors; use a model that learns them.")
        return self.catalogue[1:]

    def _walk(self, histories: Histories, users: Int64, rows: Int64, on_progress: OnProgress | None) -> Iterator[Any]:
        L = self.run.split.history_length

        def known(here: slice) -> tuple[Any, Any]:
            return histories.last(rows[here], L), histories.last(rows[here])

        return score_users(self.model, self.catalogue, users, known, on_progress)

    def _require_users(self, by_history: bool) -> None:
        if by_history and self.run.model.known_users_only:
            name = self.run.config.model.name
            raise InputError(
                f"{name} identifies users by number and cannot read a history; give a user of the dataset."
            )

    def _with_ids(self, listed: pl.DataFrame, users: Int64, of_users: bool) -> pl.DataFrame:
        """Replace the numbers in the lists (row, number, rank, score) by user ids, item ids and titles."""
        ids = pl.concat([self.item_ids, pl.Series([None] * len(self.added), dtype=self.item_ids.dtype)])
        titles = pl.concat([self.titles, pl.Series([item.name for item in self.added], dtype=pl.String)])
        columns = [
            ids.gather(listed["number"] - 1).alias("item"),
            listed["rank"],
            listed["score"],
            titles.gather(listed["number"] - 1).alias("title"),
        ]
        if of_users:
            columns.insert(0, self.user_ids.gather(users[listed["row"].to_numpy()]).alias("user"))
        return pl.DataFrame(columns)


def _lists(scores: Tensor, numbers: Tensor, start: int) -> pl.DataFrame:
    """Lists (B, k) as a table: row (from ``start``), number, rank, score; without items that are no candidates."""
    rows, places = (scores > -torch.inf).nonzero(as_tuple=True)
    return pl.DataFrame(
        {
            "row": start + rows.cpu().numpy(),
            "number": numbers[rows, places].cpu().numpy(),
            "rank": 1 + places.cpu().numpy(),
            "score": scores[rows, places].cpu().numpy(),
        }
    )


def _beyond(ranks: Tensor, scores: Tensor, k: int, start: int, number: int) -> pl.DataFrame:
    """Table rows for an added item, with its ranks (B,) and scores (B,), where its rank is greater than ``k``."""
    table = pl.DataFrame(
        {
            "row": np.arange(start, start + len(ranks)),
            "number": np.full(len(ranks), number),
            "rank": ranks.cpu().numpy(),
            "score": scores.cpu().numpy(),
        }
    )
    return table.filter(pl.col("rank") > k)


def _numbers(wanted: Sequence[Any], ids: pl.Series, what: str, among: str) -> Int64:
    """The index of each wanted id in ``ids``; integers may be given as text, and vice versa."""
    found = positions_of(wanted, ids)
    if (found < 0).any():
        raise InputError(f"{what} {wanted[int(np.argmax(found < 0))]} is not among the {len(ids):,} {among}.")
    return found
