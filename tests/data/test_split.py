"""The protocol and its split."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.data.interactions import Interactions
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.errors import InputError
from microlens.release.pairs import read_pairs
from tests.conftest import random_sequences, write_pairs
from tests.data.interactions import interactions_of_pairs, write_arrays
from tests.reference.split_loop import split_loop

GOLDEN = Path(__file__).parents[1] / "golden"


def interactions_of(sequences: list[list[int]]) -> Interactions:
    """Interactions without a file between."""
    ids = sorted({item for items in sequences for item in items})
    flat = [item for items in sequences for item in items]
    return Interactions(
        offsets=np.cumsum([0, *map(len, sequences)]),
        items=(np.searchsorted(ids, flat) + 1).astype(np.int32),
        times=np.concatenate([np.arange(len(items)) for items in sequences]),
        user_ids=np.arange(1, len(sequences) + 1),
        item_ids=np.array([0, *ids]),
    )


def unpadded(row: np.ndarray) -> list[int]:
    return row[row > 0].tolist()


def assert_equals_loop(
    split: Split, interactions: Interactions, sequences: list[list[int]], protocol: Protocol
) -> None:
    by_user = dict(enumerate(sequences))
    numbers, parts = split_loop(by_user, protocol.min_length, protocol.max_length, protocol.max_history)
    kept_ids = interactions.item_ids[split.items_kept[1:]].tolist()
    assert kept_ids == sorted(numbers)
    assert split.users_kept.tolist() == list(parts)
    users = np.arange(split.num_users)
    for row, part in enumerate(parts.values()):
        assert unpadded(split.train_sequences(users)[row]) == part["train"]
        for name in ("valid", "test"):
            assert unpadded(split.inputs(name, users)[row]) == part[f"{name} input"]
            assert unpadded(split.history(name, users)[row]) == part[f"{name} history"]
            assert [split.targets(name)[row]] == part[f"{name} target"]
    counts = np.zeros(split.num_items + 1, int)
    for part in parts.values():
        np.add.at(counts, part["valid history"], 1)
    assert split.train_counts.tolist() == counts.tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=17, unique=True), min_size=1, max_size=8),
    st.integers(3, 6),
    st.integers(0, 8),
    st.integers(1, 12),
)
def test_split_equals_the_loop_twin(sequences: list[list[int]], least: int, extra: int, history: int) -> None:
    protocol = Protocol(min_length=least, max_length=least + extra, max_history=history)
    interactions = interactions_of(sequences)
    if max(map(len, sequences)) < least:
        with pytest.raises(InputError, match=f"no user has {least} or more items"):
            make_split(interactions, protocol)
        return
    assert_equals_loop(make_split(interactions, protocol), interactions, sequences, protocol)


def test_padding_is_on_the_left() -> None:
    split = make_split(interactions_of([[4, 3, 2, 1, 5]]), Protocol())
    users = np.array([0])
    assert split.train_sequences(users).tolist() == [[0] * 8 + [4, 3, 2]]
    assert split.inputs("test", users).tolist() == [[0] * 6 + [4, 3, 2, 1]]
    assert split.history("valid", users).tolist() == [[4, 3, 2]]


def test_items_without_required_content_leave_before_the_cut() -> None:
    sequences = random_sequences(40, 20)
    interactions = interactions_of(sequences)
    excluded = np.zeros(interactions.num_items + 1, bool)
    excluded[[2, 5]] = True
    gone = set(interactions.item_ids[[2, 5]].tolist())
    left = [[item for item in items if item not in gone] for items in sequences]
    protocol = Protocol(require=("clips",))
    split = make_split(interactions, protocol, excluded)
    assert_equals_loop(split, interactions, left, protocol)


@pytest.mark.parametrize(("least", "rare"), [(0, ""), (99, ", without the 20 items of fewer than 99")])
def test_items_that_lack_content_are_said_where_nobody_is_left(least: int, rare: str) -> None:
    interactions = interactions_of(random_sequences(40, 20))
    excluded = np.arange(interactions.num_items + 1) > 0
    with pytest.raises(InputError) as refused:
        make_split(interactions, Protocol(require=("clips", "covers"), min_item_count=least), excluded)
    assert str(refused.value) == (
        f"no user has 5 or more items, the protocol's minimum (the longest of 40 has 0{rare}); 20 of 20 items lack "
        "what protocol.require asks for: clips, covers."
    )


def test_a_protocol_has_a_hash_of_every_field() -> None:
    assert Protocol().hash == Protocol().hash
    others = [
        Protocol(min_length=6),
        Protocol(max_length=12),
        Protocol(max_history=9),
        Protocol(require=("clips",)),
    ]
    assert len({Protocol().hash, *(other.hash for other in others)}) == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_length": 2}, "min_length is 2"),
        ({"max_length": 4}, "at least min_length"),
        ({"max_history": 0}, "at least 1"),
    ],
)
def test_an_impossible_protocol_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Protocol(**fields)


def test_split_agrees_with_the_original_code() -> None:
    golden = json.loads((GOLDEN / "sasrec.json").read_text())
    interactions = interactions_of_pairs(read_pairs(GOLDEN / "pairs.tsv"))
    split = make_split(interactions, Protocol())
    users = np.arange(split.num_users)
    assert split.num_items == golden["item_num"]
    ids = interactions.item_ids[split.items_kept]
    assert {str(number): str(ids[number]) for number in range(1, len(ids))} == golden["item_id_to_keys"]
    ours = {
        "users_train": split.train_sequences(users),
        "users_valid": np.column_stack([split.inputs("valid", users), split.targets("valid")]),
        "users_test": np.column_stack([split.inputs("test", users), split.targets("test")]),
    }
    for name, rows in ours.items():
        assert {str(user): unpadded(row) for user, row in enumerate(rows)} == golden[name]


@pytest.mark.real_data
def test_the_cut_of_microlens_50k_has_the_published_size(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "microlens-50k" / "MicroLens-50k_pairs.tsv")
    interactions = interactions_of_pairs(pairs)
    assert (interactions.num_users, interactions.num_items, interactions.num_events) == (50_000, 19_220, 359_708)
    split = make_split(interactions, Protocol())
    assert (split.num_users, split.num_items, split.num_events) == (50_000, 19_099, 339_511)
    assert int((split.train_counts[1:] == 0).sum()) == 768


def test_interactions_survive_the_disk(tmp_path: Path) -> None:
    release = write_pairs(tmp_path, random_sequences(30, 15))
    interactions = interactions_of_pairs(read_pairs(release / "tiny_pairs.tsv"))
    write_arrays(interactions, tmp_path / "arrays")
    opened = Interactions.open(tmp_path / "arrays")
    assert isinstance(opened.items, np.memmap)
    for name in ("offsets", "items", "times", "user_ids", "item_ids"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(interactions, name))
    with pytest.raises(ValueError, match="read-only"):
        opened.items[0] = 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=9, unique=True), min_size=1, max_size=12),
    st.integers(1, 6),
)
def test_rare_items_leave_before_the_cut(sequences: list[list[int]], least: int) -> None:
    interactions = interactions_of(sequences)
    flat = [item for items in sequences for item in items]
    left = [[item for item in items if flat.count(item) >= least] for items in sequences]
    protocol = Protocol(min_length=3, max_length=5, min_item_count=least)
    if max(map(len, left)) < 3:
        with pytest.raises(InputError, match="no user has 3 or more items"):
            make_split(interactions, protocol)
        return
    assert_equals_loop(make_split(interactions, protocol), interactions, left, protocol)


def test_reports_from_before_a_field_stay_comparable() -> None:
    assert Protocol().hash == "74119ea3f839"
    assert Protocol(min_item_count=0).hash == Protocol().hash
    assert Protocol(min_item_count=1).hash != Protocol().hash
