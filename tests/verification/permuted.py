"""Releases and copies of them with other ids."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from microlens.release.pairs import Pairs, pairs_at, pairs_in_order
from microlens.release.timestamps import read_moments
from tests.conftest import random_sequences


def make_pairs(users: int = 300, items: int = 60, *, timed: bool = True, seed: int = 0) -> Pairs:
    """Interactions whose times, if they have any, differ in milliseconds."""
    sequences = random_sequences(users, items, seed)
    rows = [(user, item) for user, own in enumerate(sequences, 1) for item in own]
    table = pl.DataFrame(rows, {"user": pl.Int64, "item": pl.Int64}, orient="row")
    if not timed:
        return pairs_in_order(table)
    rng = np.random.default_rng(seed)
    times = 1_600_000_000_000 + np.cumsum(rng.integers(1, 10**7, len(table)))
    table = table.with_columns(timestamp=pl.Series(times))
    return pairs_at(table, read_moments(table["timestamp"]))


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy, and the true mapping of its ids to those of the original by column."""

    pairs: Pairs
    truth: dict[str, dict[int, int]]


def permuted(pairs: Pairs, *, items: bool = True, users: bool = False, lost: int = 0, seed: int = 1) -> Copy:
    """A copy of ``pairs`` with permuted ids and without ``lost`` random rows, its rows shuffled where times tell."""
    rng = np.random.default_rng(seed)
    events, truth = pairs.events, {}
    timed = events["timestamp"].max() > 10**10
    kept = np.sort(rng.choice(len(events), len(events) - lost, replace=False))
    events = events[kept]
    for name, wanted in (("item", items), ("user", users)):
        ids = np.unique(pairs.events[name].to_numpy())
        new = rng.permutation(ids) if wanted else ids
        truth[name] = dict(zip(new.tolist(), ids.tolist(), strict=True))
        events = events.with_columns(pl.Series(name, new[np.searchsorted(ids, events[name].to_numpy())]))
    if not timed:
        return Copy(pairs=pairs_in_order(events.select("user", "item")), truth=truth)
    events = events[rng.permutation(len(events))]
    return Copy(pairs=pairs_at(events, read_moments(events["timestamp"])), truth=truth)
