"""Fingerprints: the same for the same interactions, whatever the ids, and different for others."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.download.registry import load_registry
from microlens.release.pairs import Pairs, read_pairs
from microlens.verification.fingerprints import fingerprints
from microlens.verification.mapping import is_timed
from tests.verification.permuted import make_pairs, permuted

MASK, STEP = 2**64 - 1, 0x9E3779B97F4A7C15


def mixed(value: int) -> int:
    value = (value + STEP) & MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK
    return value ^ value >> 31


def slow_graph(rows: list[tuple[int, int]]) -> str:
    """The fingerprint of the graph, item by item and user by user."""
    items = {item: mixed(count) for item, count in Counter(item for _, item in rows).items()}

    def of_users() -> dict[int, int]:
        return {
            user: mixed(sum(mixed(items[item]) for one, item in rows if one == user) & MASK)
            for user in {user for user, _ in rows}
        }

    for _ in range(4):
        users = of_users()
        sums = {item: sum(mixed(users[user]) for user, one in rows if one == item) & MASK for item in items}
        items = {item: mixed((colour * STEP + mixed(sums[item])) & MASK) for item, colour in items.items()}
    colours = [*sorted(of_users().values()), *sorted(items.values())]
    return hashlib.sha256(np.array(colours, "<u8").tobytes()).hexdigest()[:16]


def test_the_graph_is_that_of_a_slow_computation() -> None:
    events = make_pairs(20, 12).events
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=0)
    slow = slow_graph([(user, item) for user, item, _ in shuffled.iter_rows()])
    assert fingerprints(events, timed=False).graph == slow


def test_fingerprints_stay_the_same_over_versions() -> None:
    events = pl.DataFrame({"user": [1, 1, 2], "item": [5, 7, 7], "timestamp": [0, 1, 0]})
    found = fingerprints(events, timed=False)
    assert (found.rows, found.graph) == ("94edbb706e9686e2", "efd535b89dcca0ba")
    assert (found.lengths_by_user, found.counts_by_item) == ("66c313335fc249ae", "0c730b69905c5ef7")


@pytest.mark.real_data
def test_the_registry_has_the_fingerprints_of_microlens_50k(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "microlens-50k" / "MicroLens-50k_pairs.tsv")
    found = vars(fingerprints(pairs.events, timed=False))
    assert {name: found[name] for name in load_registry()["50k"].fingerprints} == load_registry()["50k"].fingerprints
    copy = vars(fingerprints(permuted(pairs, users=True).pairs.events, timed=False))
    assert {name for name in found if found[name] == copy[name]} == {"graph", "timestamps"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), timed=st.booleans(), users=st.booleans(), items=st.booleans())
def test_fingerprints_tell_what_was_permuted(seed: int, timed: bool, users: bool, items: bool) -> None:
    original = make_pairs(40, 30, timed=timed, seed=seed)
    copy = permuted(original, items=items, users=users, seed=seed).pairs
    a, b = (fingerprints(pairs.events, timed=is_timed(pairs.events)) for pairs in (original, copy))
    assert a.graph == b.graph
    assert a.timestamps == b.timestamps
    assert (a.timestamps is None) == (not timed)
    if not (users or items):
        assert a == b
    if not users:
        assert a.lengths_by_user == b.lengths_by_user
    if not items:
        assert a.counts_by_item == b.counts_by_item


def swapped(pairs: Pairs) -> Pairs:
    """The last items of two users of the same length change places: no count changes."""
    events = pairs.events.to_dicts()
    lengths = pairs.events.group_by("user", maintain_order=True).len()
    length = lengths["len"].mode()[0]
    users = lengths.filter(pl.col("len") == length)["user"].to_list()
    rows = {user: [row for row in events if row["user"] == user] for user in users}
    items = {user: {row["item"] for row in own} for user, own in rows.items()}
    one, other = next(
        (u, v)
        for u in users
        for v in users
        if rows[u][-1]["item"] not in items[v] and rows[v][-1]["item"] not in items[u]
    )
    a, b = rows[one][-1], rows[other][-1]
    a["item"], b["item"] = b["item"], a["item"]
    return replace(pairs, events=pl.DataFrame(events, schema=pairs.events.schema))


def test_fingerprints_see_two_items_change_places() -> None:
    original = make_pairs()
    a, b = (fingerprints(pairs.events, timed=True) for pairs in (original, swapped(original)))
    assert a.lengths_by_user == b.lengths_by_user
    assert a.counts_by_item == b.counts_by_item
    assert a.graph != b.graph
    assert a.rows != b.rows
