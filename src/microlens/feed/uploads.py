"""Uploaded items: added to the catalogue and to every model, at the start and while the feed runs."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sqlalchemy import Connection, insert
from torch import Tensor

from microlens.data.new_items import NewItem
from microlens.errors import InputError
from microlens.feed.catalogue import Catalogue
from microlens.feed.database import Row
from microlens.feed.event_store import EventStore
from microlens.feed.item_counts import ItemCounts
from microlens.feed.models import Models
from microlens.feed.schema import ITEMS, VECTORS
from microlens.feed.served_model import ServedModel
from microlens.runs.added_items import EncodedItem


class Uploads:
    """Keeps uploads the same in the store, the catalogue, the counts and the models.

    Everything here takes the time of encoding videos, so that it runs outside the event loop; a lock keeps the order
    of uploads the same in the catalogue and in all models.
    """

    def __init__(self, store: EventStore, catalogue: Catalogue, counts: ItemCounts, models: Models) -> None:
        self._store, self._catalogue, self._counts, self._models = store, catalogue, counts, models
        self._rows: list[Row] = []
        self._changing = threading.Lock()

    @property
    def ranked_by(self) -> list[str]:
        """What of an upload the models that are served rank it by, such as title and video; empty if none can."""
        return list(dict.fromkeys(name for model in self._models.serving.values() for name in model.reads_of_uploads))

    def stored(self) -> set[str]:
        """The items of the store.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        return {row["item"] for row in self._store.uploads()}

    def refresh(self) -> None:
        """Add the uploads of the store that are not known yet: all at the start, later those of other servers."""
        with self._changing:
            known = {row["item"] for row in self._rows}
            self._extend([row for row in self._store.uploads() if row["item"] not in known])

    def add(self, row: dict[str, Any]) -> int:
        """Encode, store and add an upload; returns its number, which is ranked from the next request on.

        Args:
            row: columns of the table of items, without the number.

        Raises:
            InputError: no model can rank a new video, or none can rank this one, because something that it reads is
                missing or cannot be decoded.
            StoreUnavailableError: nothing was stored.
        """
        with self._changing:
            vectors = self._vectors(_new_item(row))
            self._store.write(lambda connection: _insert(connection, row, vectors)).result()
            self._extend([row])
            return len(self._catalogue)

    def _vectors(self, item: NewItem) -> dict[str, Tensor]:
        """What the models make of an upload, by their digests."""
        vectors, why = {}, None
        for model in (model for model in self._models.all if model.reads_of_uploads):
            try:
                vectors[model.digest] = model.encode(item)
            except InputError as error:
                why = why or error
        if not vectors:
            raise why or InputError(
                "no model of this feed can rank a new video; serve a run that reads titles or videos, such as one with "
                "the encoder words or x3d_xs."
            )
        return vectors

    def join(self, arm: str, model: ServedModel) -> ServedModel:
        """Serve a new model in an arm, with all uploads; returns it."""
        with self._changing:
            complete = self._with(model.for_items(self._catalogue.dataset_ids), self._rows)
            self._models.replace(arm, complete)
            return complete

    def _extend(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self._models.change(lambda model: self._with(model, rows))
        self._counts.grow(len(self._catalogue.active) + len(rows))
        for row in rows:
            self._catalogue.add_upload(row)
        self._rows.extend(rows)

    def _with(self, model: ServedModel, rows: Sequence[Row]) -> ServedModel:
        if not rows:
            return model
        stored = self._store.vectors(model.digest)
        return model.with_uploads([self._encoded(model, row, stored) for row in rows])

    def _encoded(self, model: ServedModel, row: Row, stored: dict[str, bytes]) -> EncodedItem | int:
        """An upload as the model reads it, or its row in the run if that was trained with it; 0 if it is not ranked."""
        own, item = model.row_of(row["item"]), _new_item(row)
        if own:
            return own
        if row["item"] in stored:
            return EncodedItem(item, torch.from_numpy(np.frombuffer(stored[row["item"]], "<f4").copy())[None])
        if not model.reads_of_uploads:
            return 0
        try:
            vector = model.encode(item)
        except InputError:  # the file has gone since
            return 0
        self._store.add(VECTORS, **_vector_row(row["item"], model.digest, vector))
        return EncodedItem(item, vector)


def _new_item(row: Mapping[str, Any]) -> NewItem:
    """What is known of an upload, a row of the table of items."""
    return NewItem(title=row["title"], tag=row["tag"], video=row["path"], cover=row["cover"])


def _insert(connection: Connection, row: dict[str, Any], vectors: dict[str, Tensor]) -> None:
    connection.execute(insert(ITEMS).values(row))
    rows = [_vector_row(row["item"], digest, vector) for digest, vector in vectors.items()]
    connection.execute(insert(VECTORS), rows)


def _vector_row(item: str, digest: str, vector: Tensor) -> dict[str, Any]:
    return {"item": item, "digest": digest, "vector": vector[0].cpu().numpy().astype("<f4").tobytes()}
