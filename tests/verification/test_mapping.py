"""Copies with other ids are mapped back, with times and without, complete or not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from microlens.errors import InputError
from microlens.release.pairs import read_pairs
from microlens.verification.mapping import find_mapping
from tests.verification.permuted import make_pairs, permuted


def as_dict(table: pl.DataFrame) -> dict[int, int]:
    return dict(table.iter_rows())


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("timed", [True, False])
def test_a_complete_copy_is_mapped_back_completely(timed: bool, users: bool) -> None:
    original = make_pairs(timed=timed)
    copy = permuted(original, users=users)
    mapping = find_mapping(copy.pairs, original)
    assert as_dict(mapping.items) == copy.truth["item"]
    assert as_dict(mapping.users) == copy.truth["user"]
    assert mapping.agreeing == mapping.rows == len(original.events)
    assert (mapping.permutes_items, mapping.permutes_users) == (True, users)
    assert mapping.by == {(True, False): "user and time", (True, True): "time"}.get(
        (timed, users), "the order of items"
    )


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("timed", [True, False])
def test_with_rows_missing_on_both_sides_nothing_wrong_is_mapped(timed: bool, users: bool) -> None:
    whole = make_pairs(800, 100, timed=timed)
    lost = 40 if timed or not users else 3  # without times and users, only counts of items are left to begin with
    copy = permuted(whole, users=users, lost=lost, seed=3)
    original = permuted(whole, items=False, lost=lost, seed=4).pairs
    mapping = find_mapping(copy.pairs, original)
    found = as_dict(mapping.items)
    assert found == {item: copy.truth["item"][item] for item in found}
    assert len(found) >= 0.9 * whole.events["item"].n_unique()
    known = as_dict(mapping.users)
    true_rows = {(user, item) for user, item, _ in original.events.iter_rows()}
    expected = sum((known.get(user), found.get(item)) in true_rows for user, item, _ in copy.pairs.events.iter_rows())
    assert mapping.agreeing == expected
    assert mapping.is_copy


def test_changed_rows_do_not_agree() -> None:
    original = make_pairs()
    copy = permuted(original).pairs
    other_times = copy.events.with_columns(
        pl.when(pl.int_range(pl.len()) < 50).then(pl.col("timestamp") + 1).otherwise(pl.col("timestamp"))
    )
    mapping = find_mapping(replace(copy, events=other_times), original)
    assert mapping.agreeing == mapping.rows - 50


def test_a_copy_in_whole_seconds_is_mapped() -> None:
    original = make_pairs()
    copy = permuted(original)
    seconds = copy.pairs.events.with_columns(pl.col("timestamp") // 1000 * 1000)
    mapping = find_mapping(replace(copy.pairs, events=seconds), original)
    assert as_dict(mapping.items) == copy.truth["item"]
    assert mapping.agreeing == mapping.rows


def test_what_is_no_copy_is_not_called_one(tmp_path: Path) -> None:
    original = make_pairs()
    for other in (make_pairs(seed=9), make_pairs(seed=9, timed=False)):
        mapping = find_mapping(other, original)
        assert not mapping.is_copy
        with pytest.raises(InputError, match="so it is no copy"):
            mapping.write(tmp_path / "map.csv")
    assert not list(tmp_path.iterdir())


def test_an_item_with_a_tie_is_left_out() -> None:
    original = make_pairs(timed=True)
    rare = original.events.filter(pl.len().over("item") == 1)["item"]
    common = original.events.filter(pl.len().over("item") > 5)["item"].unique().sort()
    copy = original.events.with_columns(item=pl.when(pl.col("item") == common[0]).then(pl.lit(500)).otherwise("item"))
    rows = copy["item"].to_numpy().copy()
    (mine,) = np.nonzero(rows == 500)
    half = len(mine) // 2  # as many rows of item 500 are of one item as of another
    original_items = original.events["item"].to_numpy().copy()
    original_items[mine[half : 2 * half]] = 501
    keep = np.setdiff1d(np.arange(len(rows)), mine[2 * half :])
    mapping = find_mapping(
        replace(original, events=copy[keep]),
        replace(original, events=original.events.with_columns(pl.Series("item", original_items))[keep]),
    )
    found = as_dict(mapping.items)
    assert 500 not in found
    assert len(found) == len(mapping.items) == len(set(found.values()))
    assert all(item == official for item, official in found.items())
    assert set(found) >= set(rare.to_list())


def test_text_ids_are_mapped_as_text(tmp_path: Path) -> None:
    original = make_pairs(timed=False)
    release = tmp_path / "copy_pairs.csv"
    table = original.events.with_columns(pl.format("v{}", pl.col("item")).alias("item"))
    table.with_columns(pl.col("timestamp") + 1_600_000_000_000).write_csv(release)
    copy = read_pairs(release)
    mapping = find_mapping(copy, original)
    assert mapping.items.schema == {"copy_item": pl.String, "official_item": pl.Int64}
    assert all(name == f"v{item}" for name, item in mapping.items.iter_rows())
    assert mapping.agreeing == mapping.rows


def test_the_mapping_is_written_once_for_each_side_that_differs(tmp_path: Path) -> None:
    original = make_pairs()
    copy = permuted(original)
    (path,) = find_mapping(copy.pairs, original).write(tmp_path / "new" / "map.csv")
    assert as_dict(pl.read_csv(path)) == copy.truth["item"]
    assert pl.read_csv(path).columns == ["copy_item", "official_item"]
    both = permuted(original, users=True)
    _, users = find_mapping(both.pairs, original).write(tmp_path / "map.csv")
    assert users.name == "map.users.csv"
    assert as_dict(pl.read_csv(users)) == both.truth["user"]
