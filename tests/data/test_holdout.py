"""What each way of holding out holds out, and that nothing of it is known before."""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.interactions import Interactions, Labels
from microlens.data.prepare import prepare
from microlens.data.protocol import NAMED_PROTOCOLS, Protocol, described
from microlens.data.split import Split, make_split
from microlens.errors import InputError
from microlens.evaluation.metrics import METRICS, all_metrics
from microlens.evaluation.report import PARTS
from microlens.media.decoding import Settings
from microlens.page.comparison import chance
from microlens.page.run_page import write_page
from microlens.runs.assembly import build_experiment
from microlens.runs.run import load
from microlens.runs.train import train
from tests.conftest import random_sequences
from tests.data.test_split import interactions_of
from tests.reference.holdout_loop import Event, Parts, given_loop, global_time_loop, whole_loop

NAMES = [name for name in NAMED_PROTOCOLS if name != "paper"]
Sequences = list[list[int]]


def protocol_of(name: str, **fields: Any) -> Protocol:
    return Protocol(**{**NAMED_PROTOCOLS[name], **fields})


def events_of(sequences: Sequences, seed: int) -> tuple[list[Event], Interactions]:
    """Interactions at random moments, ten to a moment or so, that go up within a user."""
    random = np.random.default_rng(seed)
    interactions = interactions_of(sequences)
    moments = [np.sort(random.integers(0, 1 + sum(map(len, sequences)) // 2, len(items))) for items in sequences]
    times = [moment * 1000 + place for of_user in moments for place, moment in enumerate(of_user)]
    users = np.repeat(np.arange(len(sequences)), list(map(len, sequences)))
    events = [
        (int(user), int(interactions.item_ids[item]), int(time))
        for user, item, time in zip(users, interactions.items, times, strict=True)
    ]
    return events, Interactions(**{**vars(interactions), "times": np.array(times)})


def parts_of(split: Split, interactions: Interactions) -> Parts:
    ids = interactions.item_ids[split.items_kept]
    parts: Parts = {"train": {}, "valid": {}, "test": {}}
    users, places = split.train_events
    for name, owners, items in (
        ("train", users, split.sequences[places]),
        *((part, split.target_users(part), split.targets(part)) for part in PARTS),
    ):
        for user, item in zip(split.users_kept[owners].tolist(), ids[items].tolist(), strict=True):
            parts[name].setdefault(user, []).append(item)
    return parts


def labels_for(interactions: Interactions, seed: int) -> Labels:
    """A split that somebody gave: most of it train."""
    return np.random.default_rng(seed).choice(3, interactions.num_events, p=[0.6, 0.2, 0.2]).astype(np.int8)


sequences_drawn = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=25, unique=True), min_size=6, max_size=14)


@settings(max_examples=60, deadline=None)
@given(sequences_drawn, st.integers(0, 99))
def test_global_time_equals_the_loop_twin(sequences: Sequences, seed: int) -> None:
    events, interactions = events_of(sequences, seed)
    expected = global_time_loop(events, least=2)
    protocol = protocol_of("global-time", min_length=4)
    if not expected["valid"] or not expected["test"]:
        with pytest.raises(InputError, match=r"none has a target in|too many interactions share a"):
            make_split(interactions, protocol)
        return
    split = make_split(interactions, protocol)
    assert parts_of(split, interactions) == expected


@settings(max_examples=60, deadline=None)
@given(sequences_drawn, st.integers(0, 99))
def test_a_given_split_equals_the_loop_twin(sequences: Sequences, seed: int) -> None:
    events, interactions = events_of(sequences, seed)
    labels = labels_for(interactions, seed)
    expected = given_loop(events, dict(zip(events, labels.tolist(), strict=True)))
    labelled = replace(interactions, split=labels)
    if not expected["valid"] or not expected["test"]:
        with pytest.raises(InputError, match="none has a target in"):
            make_split(labelled, protocol_of("given"))
        return
    split = make_split(labelled, protocol_of("given"))
    assert parts_of(split, interactions) == expected
    assert interactions.item_ids[split.items_kept[1:]].tolist() == sorted({item for _, item, _ in events})
    for user in range(split.num_users):
        train = expected["train"][int(split.users_kept[user])]
        for part in PARTS:
            assert (
                split.history(part, np.array([user]))[0].tolist()[-len(train) :]
                == split.inputs(part, np.array([user]))[0].tolist()[-len(train) :]
            )
            assert split.history_lengths(part)[user] == len(train)


def test_a_given_split_is_kept_as_it_is_or_refused() -> None:
    _, interactions = world()
    for fields in ({"min_length": 5}, {"max_length": 13}, {"min_item_count": 2}):
        with pytest.raises(InputError, match="keeps a published split as it is"):
            protocol_of("given", **fields)
    with pytest.raises(InputError, match="the dataset came without a split"):
        make_split(replace(interactions, split=None), protocol_of("given"))


def items_of(split: Split, user: int) -> list[int]:
    return split.sequences[split.offsets[user] : split.offsets[user + 1]].tolist()


@settings(max_examples=40, deadline=None)
@given(sequences_drawn)
def test_whole_histories_equal_the_loop_twin(sequences: Sequences) -> None:
    long = [items for items in sequences if len(items) >= 4] or [[1, 2, 3, 4]]
    events, interactions = events_of(long, 0)
    split = make_split(interactions, protocol_of("whole-histories", min_length=4))
    assert parts_of(split, interactions) == whole_loop(events, least=2)
    longest = max(map(len, long))
    assert split.history("test", np.arange(split.num_users)).shape == (len(long), longest - 1)
    assert split.train_items(np.arange(split.num_users)).shape == (len(long), longest - 2)
    for user in range(split.num_users):  # a batch is as wide as its own longest user
        alone = np.array([user])
        assert split.history("test", alone).tolist() == [items_of(split, user)[:-1]]
        assert split.train_items(alone).tolist() == [items_of(split, user)[:-2]]


def world(seed: int = 0, users: int = 60) -> tuple[Sequences, Interactions]:
    sequences = random_sequences(users, 60, seed=seed)
    interactions = events_of(sequences, seed)[1]
    return sequences, replace(interactions, split=labels_for(interactions, seed))


@pytest.mark.parametrize("name", NAMES)
def test_every_interaction_is_in_one_part_and_no_target_is_known(name: str) -> None:
    sequences, interactions = world()
    split = make_split(interactions, protocol_of(name))
    parts = parts_of(split, interactions)
    for user in split.users_kept.tolist():
        items = [item for of_part in parts.values() for item in of_part.get(user, [])]
        assert sorted(items) == sorted(sequences[user])
    every = np.arange(split.num_users)
    for part in PARTS:
        history = split.history(part, every)
        assert ((history > 0).sum(1) == split.history_lengths(part)).all()
        for user, target in zip(split.target_users(part), split.targets(part), strict=True):
            assert target not in history[user]
        inputs = split.inputs(part, every)
        width = min(history.shape[1], inputs.shape[1])
        if split.protocol.masked == "history":
            np.testing.assert_array_equal(inputs[:, -width:], history[:, -width:])
    train = Counter(item for items in parts["train"].values() for item in items)
    ids = interactions.item_ids[split.items_kept]
    assert dict(zip(ids[1:].tolist(), split.train_counts[1:].tolist(), strict=True)) == {
        item: train[item] for item in ids[1:].tolist()
    }


def test_random_holds_out_a_tenth_and_at_least_one() -> None:
    lengths = [5, 9, 10, 19, 20, 25, 31]
    sequences = [list(np.random.default_rng(n).permutation(50)[:n] + 1) for n in lengths]
    interactions = events_of(sequences, 0)[1]
    split = make_split(interactions, protocol_of("random"))
    for part in PARTS:
        assert np.bincount(split.target_users(part)).tolist() == [1, 1, 1, 1, 2, 2, 3]
    np.testing.assert_array_equal(split.history_lengths("test"), split.history_lengths("valid"))
    again, other = (make_split(interactions, protocol_of("random", seed=seed)) for seed in (0, 1))
    np.testing.assert_array_equal(split.sequences, again.sequences)
    assert not np.array_equal(split.sequences, other.sequences)


def test_random_draws_every_place_alike() -> None:
    sequences = [list(range(1, 11))] * 3000
    split = make_split(events_of(sequences, 0)[1], protocol_of("random"))
    counts = np.bincount(split.targets("test"), minlength=11)[1:]
    assert (np.abs(counts - 300) < 5 * np.sqrt(300)).all()
    train = split.train_sequences(np.arange(split.num_users))
    assert (np.diff(train[:, -8:]) > 0).all()  # what is left stays in order


def test_cold_items_have_no_interaction_in_train() -> None:
    _, interactions = world()
    split = make_split(interactions, protocol_of("cold-items"))
    held_out = {part: set(split.targets(part).tolist()) for part in PARTS}
    assert not held_out["valid"] & held_out["test"]
    for part in PARTS:
        assert not split.train_counts[list(held_out[part])].any()
        assert len(held_out[part]) <= max(1, interactions.num_items // 10)
        assert not np.isin(
            split.history(part, np.arange(split.num_users)), list(held_out["valid"] | held_out["test"])
        ).any()


def test_global_time_knows_nothing_of_what_comes_later() -> None:
    """Whatever happens from the cut on, the train part and the histories at validation stay as they are."""
    _, interactions = world()
    split = make_split(interactions, protocol_of("global-time"))
    cut = np.sort(interactions.times)[int(0.8 * interactions.num_events)]
    items = interactions.items.copy()
    later = interactions.times >= cut
    items[later] = np.random.default_rng(0).permutation(items[later])
    other = make_split(Interactions(**{**vars(interactions), "items": items}), protocol_of("global-time"))
    assert not np.array_equal(split.targets("test"), other.targets("test"))
    first, second = (part.items_kept[part.train_items(np.arange(part.num_users))] for part in (split, other))
    np.testing.assert_array_equal(first, second)


def test_global_time_needs_timestamps_and_no_look_ahead() -> None:
    with pytest.raises(InputError, match="the release has no timestamps"):
        make_split(interactions_of(random_sequences(30, 20)), protocol_of("global-time"))
    with pytest.raises(InputError, match="must not use later"):
        Protocol(split="global-time")
    with pytest.raises(InputError, match="must not use later"):
        protocol_of("global-time", min_item_count=5)
    _, interactions = world()
    still = Interactions(**{**vars(interactions), "times": np.ones(interactions.num_events, np.int64)})
    with pytest.raises(InputError, match="too many interactions share a timestamp"):
        make_split(still, protocol_of("global-time"))


def test_nothing_to_be_found_is_said() -> None:
    """All that comes late is of a user who was not there before."""
    interactions = interactions_of([[1, 2, 3, 4, 5]] * 8 + [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    moments = Interactions(**{**vars(interactions), "times": np.arange(interactions.num_events) + 7})
    with pytest.raises(InputError, match=r"8 users with 3 or more training items, .* none has a target"):
        make_split(moments, protocol_of("global-time"))


def test_protocols_differ_by_hash_and_say_what_they_hold_out() -> None:
    protocols = [protocol_of(name) for name in NAMED_PROTOCOLS]
    assert len({protocol.hash for protocol in protocols}) == len(NAMED_PROTOCOLS)
    assert protocol_of("random", seed=1).hash != protocol_of("random").hash
    assert len({described(asdict(protocol)) for protocol in protocols}) == len(NAMED_PROTOCOLS)
    assert "13" in described(asdict(Protocol()))
    assert "13" not in described(asdict(protocol_of("random")))


@pytest.fixture(scope="module")
def timed_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of interactions with timestamps."""
    folder = tmp_path_factory.mktemp("timed")
    events, interactions = events_of(random_sequences(80, 40), seed=3)
    (folder / "release").mkdir()
    lines = (",".join(map(str, event)) for event in events)
    (folder / "release" / "timed_pairs.csv").write_text("\n".join(["user,item,timestamp", *lines]) + "\n")
    parts = labels_for(interactions, 3).tolist()
    lines = (f"{user},{item},{part}" for (user, item, _), part in zip(events, parts, strict=True))
    (folder / "release" / "timed_split.csv").write_text("\n".join(["user,item,split", *lines]) + "\n")
    prepare(folder / "release", folder / "dataset", Settings())
    return folder / "dataset"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["sasrec", "dssm", "lightgcn", "ease", "co_visitation"])
def test_models_train_and_are_ranked_under_every_protocol(
    name: str, model: str, timed_dataset: Path, tmp_path: Path
) -> None:
    named = NAMED_PROTOCOLS[name]
    short = {**named, "max_history": min(50, named["max_history"])}  # no user has more
    sections: dict[str, Any] = {"model": {"name": model, "dim": 8}, "protocol": short}
    if model in ("sasrec", "dssm", "lightgcn"):
        sections["encoder"] = {"name": "id"}
    training = {"epochs": 1, "batch_size": 16, "device": "cpu"}
    config = RunConfig.model_validate(
        {"dataset": timed_dataset, "output": tmp_path / "run", "train": training, **sections}
    )
    report = train(config)
    split = build_experiment(config).split
    for part in PARTS:
        several = len(split.targets(part)) > len(set(split.target_users(part).tolist()))
        assert ("Recall@10" in report.metrics[part]["all"]) == several
        assert report.num_targets[part]["all"] == len(split.targets(part))
    if name == "cold-items":
        assert report.num_targets["test"]["warm"] == 0
    assert load(config.output).evaluate()["metrics"] == report.metrics
    assert 0 < chance(split)["HR@10"] < 1


def test_chance_of_several_targets_is_that_of_random_orders(timed_dataset: Path) -> None:
    split = Dataset(timed_dataset).split(protocol_of("cold-items"))
    random = np.random.default_rng(0)
    users = split.target_users("test")
    found = []
    for _ in range(400):
        ranks = np.empty(len(users), np.int64)
        for user in np.unique(users):
            own = np.flatnonzero(users == user)
            free = split.num_items - split.history_lengths("test")[user]
            ranks[own] = random.permutation(free)[: len(own)] + 1
        found.append(all_metrics(ranks, users))
    expected = chance(split)
    for metric in METRICS:
        assert expected[metric] == pytest.approx(np.mean([of[metric] for of in found]), abs=0.01)


def test_a_user_of_a_random_split_is_recommended_to_by_what_they_had_last(timed_dataset: Path, tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {"dataset": timed_dataset, "output": tmp_path / "run", "model": {"name": "popularity"},
         "protocol": NAMED_PROTOCOLS["random"]}
    )  # fmt: skip
    train(config)
    interactions = Dataset(timed_dataset).interactions
    in_order = interactions.item_ids[interactions.items[interactions.offsets[4] : interactions.offsets[5]]]
    shown = load(tmp_path / "run").history(int(interactions.user_ids[4]))
    assert shown == in_order.tolist()


def test_a_page_compares_runs_with_several_targets(timed_dataset: Path, tmp_path: Path) -> None:
    folders = []
    for model in ("popularity", "ease"):
        config = RunConfig.model_validate(
            {"dataset": timed_dataset, "output": tmp_path / model, "model": {"name": model},
             "protocol": NAMED_PROTOCOLS["cold-items"]}
        )  # fmt: skip
        train(config)
        folders.append(tmp_path / model)
    write_page(tmp_path / "page.html", folders)
    assert "All interactions with a random tenth of the items" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("name", ["random", "cold-items"])
def test_validation_items_can_be_masked_at_test_without_being_read(name: str) -> None:
    _, interactions = world()
    default = make_split(interactions, protocol_of(name))
    masked = make_split(interactions, protocol_of(name, masked="train-and-validation"))
    every = np.arange(masked.num_users)
    for part in PARTS:
        np.testing.assert_array_equal(masked.inputs(part, every), default.inputs(part, every))
        np.testing.assert_array_equal(masked.targets(part), default.targets(part))
    np.testing.assert_array_equal(masked.history("valid", every), default.history("valid", every))
    validation: dict[int, set[int]] = {user: set() for user in every.tolist()}
    for user, item in zip(masked.target_users("valid").tolist(), masked.targets("valid").tolist(), strict=True):
        validation[user].add(item)
    for user, (with_validation, alone) in enumerate(
        zip(masked.history("test", every), default.history("test", every), strict=True)
    ):
        assert set(with_validation[with_validation > 0].tolist()) == set(alone[alone > 0].tolist()) | validation[user]
    assert masked.protocol.hash != default.protocol.hash


@pytest.mark.parametrize("name", ["whole-histories", "global-time"])
def test_masking_validation_items_is_refused_where_they_are_history(name: str) -> None:
    with pytest.raises(InputError, match=r'protocol.masked is "train-and-validation", but with protocol.split'):
        protocol_of(name, masked="train-and-validation")
