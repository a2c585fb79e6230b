"""Storing the split that a dataset came with."""

from pathlib import Path

import numpy as np
import polars as pl

from microlens.data.interactions import SPLIT, Int64, Interactions, Labels
from microlens.errors import InputError
from microlens.release.given_split import GivenSplit


def write_labels(given: GivenSplit, folder: Path, item_ids: pl.Series) -> None:
    """Write ``interactions/split.npy`` into the dataset ``folder``, whose interactions and users are there already.

    Args:
        given: the split.
        folder: dataset folder.
        item_ids: the ids of the items 1..N, (N,).

    Raises:
        InputError: the split lacks an interaction, or names one that does not exist.
    """
    interactions = Interactions.open(folder / "interactions")
    user_ids = pl.read_parquet(folder / "users.parquet", columns=["user_id"], glob=False)["user_id"]
    np.save(folder / "interactions" / SPLIT, labels_of(interactions, given, user_ids, item_ids))


def labels_of(interactions: Interactions, given: GivenSplit, user_ids: pl.Series, item_ids: pl.Series) -> Labels:
    """The label of each interaction: (E,); see :func:`write_labels`."""
    size = len(item_ids)
    users, items = (
        given.table.select(name).join(
            pl.DataFrame({name: ids}).with_row_index("number"), on=name, how="left", maintain_order="left"
        )["number"]
        for name, ids in (("user", user_ids), ("item", item_ids))
    )
    unknown = users.is_null() | items.is_null()
    listed: Int64 = (users.cast(pl.Int64) * size + items).fill_null(-1).to_numpy()
    owners = np.repeat(np.arange(interactions.num_users), np.diff(interactions.offsets))
    events = owners * size + interactions.items - 1
    order = np.argsort(listed, kind="stable")
    places = np.minimum(np.searchsorted(listed, events, sorter=order), len(listed) - 1)
    labelled = listed[order[places]] == events
    if not labelled.all():
        event = int(np.argmin(labelled))
        pair = f"user {user_ids[int(owners[event])]} and item {item_ids[int(interactions.items[event]) - 1]}"
        raise InputError(f"{given.path} has no row for {pair}; it must give a part to every interaction.")
    unknown |= pl.Series(~np.isin(listed, events))
    if unknown.any():
        user, item = given.table.row(int(unknown.arg_max() or 0))[:2]
        raise InputError(f"{given.path} has a row for user {user} and item {item}, which is no interaction.")
    return given.table["split"].to_numpy()[order[places]]
