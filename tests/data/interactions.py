"""Interactions of pairs in memory, the plain way."""

from pathlib import Path

import numpy as np

from microlens.data.interactions import ARRAYS, Interactions
from microlens.release.pairs import Pairs


def interactions_of_pairs(pairs: Pairs) -> Interactions:
    """Dense user and item numbers in ascending order of their keys."""
    users, items, times = (pairs.events[name].to_numpy() for name in ("user", "item", "timestamp"))
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))  # not np.diff: may overflow
    item_ids, numbers = np.unique(items, return_inverse=True)
    return Interactions(
        offsets=np.append(starts, len(users)).astype(np.int64),
        items=(numbers + 1).astype(np.int32),
        times=times.astype(np.int64),
        user_ids=users[starts].astype(np.int64),
        item_ids=np.concatenate([[0], item_ids]).astype(np.int64),
    )


def write_arrays(interactions: Interactions, folder: Path) -> None:
    """Write one ``.npy`` file per array into ``folder``."""
    folder.mkdir()
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(interactions, name))
