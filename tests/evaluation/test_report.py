"""Cohorts, and what a report holds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from microlens.config.run_config import RunConfig
from microlens.data.protocol import Protocol
from microlens.data.split import make_split
from microlens.errors import InputError
from microlens.evaluation.report import COHORTS, PARTS, Report, cohorts, measure, read_ranks, write_ranks
from microlens.files.run_manifest import REPORT, replace_text
from microlens.runs.assembly import build_experiment
from microlens.runs.train import train
from tests.conftest import REPOSITORY, random_sequences
from tests.data.test_split import interactions_of

MakeDataset = Callable[[list[list[int]]], Path]


def popularity_config(dataset: Path) -> RunConfig:
    return RunConfig.model_validate(
        {"dataset": dataset, "output": dataset.parent / "run", "model": {"name": "popularity"}}
    )


def test_cohorts_by_hand(make_dataset: MakeDataset) -> None:
    """Items 1 to 5 occur 1, 2, 3, 4, 5 times in train; item 9 only as a test target."""
    train_part = [[5, 4, 3], [5, 4, 3], [5, 4, 2], [5, 4, 1], [5, 3, 2]]
    held_out = [[1, 9], [2, 1], [3, 9], [2, 3], [1, 4]]
    sequences = [part + pair for part, pair in zip(train_part, held_out, strict=True)]
    split = build_experiment(popularity_config(make_dataset(sequences))).split
    assert split.train_counts.tolist() == [0, 1, 2, 3, 4, 5, 0]
    masks = cohorts(split, "test")
    assert masks["all"].tolist() == [True] * 5
    assert masks["cold"].tolist() == [True, False, True, False, False]
    assert masks["warm"].tolist() == [False, True, False, True, True]
    assert masks["popularity-1"].tolist() == [False, True, False, False, False]
    assert masks["popularity-3"].tolist() == [False, False, False, True, False]
    assert masks["popularity-4"].tolist() == [False, False, False, False, True]
    assert tuple(masks) == COHORTS


def test_groups_part_the_warm_targets(make_dataset: MakeDataset) -> None:
    split = build_experiment(popularity_config(make_dataset(random_sequences(200, 50)))).split
    for part in ("valid", "test"):
        masks = cohorts(split, part)
        groups = np.stack([masks[f"popularity-{number}"] for number in range(1, 6)])
        np.testing.assert_array_equal(groups.sum(axis=0), masks["warm"])
        np.testing.assert_array_equal(masks["warm"], ~masks["cold"])


def test_a_cohort_without_targets_has_no_metrics(make_dataset: MakeDataset) -> None:
    sequences = [[1, 2, 3, 4, 5], [2, 3, 4, 5, 1], [3, 4, 5, 1, 2]]
    split = build_experiment(popularity_config(make_dataset(sequences))).split
    measured = measure(split, {"test": np.array([1, 2, 3])})
    assert measured["num_targets"]["test"]["cold"] == 0
    assert measured["metrics"]["test"]["cold"] == {}
    assert measured["metrics"]["test"]["all"]["HR@10"] == 1.0


def test_ranks_survive_the_disk(make_dataset: MakeDataset, tmp_path: Path) -> None:
    split = build_experiment(popularity_config(make_dataset([[1, 2, 3, 4, 5], [2, 3, 4, 5, 1]]))).split
    write_ranks(tmp_path, {"valid": np.array([1, 2]), "test": np.array([3, 4])}, split)
    read = read_ranks(tmp_path)
    assert np.load(tmp_path / "ranks.npy").tolist() == [[1, 2], [3, 4]]
    assert [values.tolist() for values in read["valid"]] == [[1, 2], [0, 1]]
    assert [values.tolist() for values in read["test"]] == [[3, 4], [0, 1]]


def test_ranks_of_several_targets_survive_with_their_users(tmp_path: Path) -> None:
    protocol = Protocol(split="cold-items", max_length=0, min_length=3)
    split = make_split(interactions_of(random_sequences(30, 20)), protocol)
    ranks = {part: np.arange(1, len(split.targets(part)) + 1) for part in PARTS}
    assert len(ranks["valid"]) != len(ranks["test"])
    write_ranks(tmp_path, ranks, split)
    for part, (read, users) in read_ranks(tmp_path).items():
        np.testing.assert_array_equal(read, ranks[part])
        np.testing.assert_array_equal(users, split.target_users(part))


def test_popularity_ranks_by_train_counts(make_dataset: MakeDataset) -> None:
    config = popularity_config(make_dataset(random_sequences(120, 40)))
    report = train(config)
    split = build_experiment(config).split
    ranks = {part: of_part for part, (of_part, _) in read_ranks(config.output).items()}
    for part in ("valid", "test"):
        for user in range(split.num_users):
            number = np.array([user])
            target, seen = int(split.targets(part)[user]), set(split.history(part, number)[0].tolist())
            counts = split.train_counts
            others = [item for item in range(1, split.num_items + 1) if item != target and item not in seen]
            assert ranks[part][user] == 1 + sum(counts[item] >= counts[target] for item in others)
    assert report.encoder == "none"
    assert report.cost["trainable_parameters"] == 0


def test_a_report_carries_what_others_rely_on(make_dataset: MakeDataset) -> None:
    config = popularity_config(make_dataset(random_sequences(40, 20)))
    train(config)
    report = Report.read(config.output)
    assert report.dataset == "tiny"
    assert report.protocol["hash"] == Protocol().hash
    assert set(report.metrics["test"]["all"]) == {"HR@10", "NDCG@10", "HR@20", "NDCG@20"}
    assert {"parameters", "trainable_parameters", "flops_per_step", "seconds_per_epoch", "best_epoch"} < set(
        report.cost
    )
    assert {"peak_memory_bytes", "device"} < set(report.cost)
    assert {"commit", "seed", "config_hash", "data_hash", "packages"} <= set(report.provenance)


def test_a_missing_or_foreign_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no report\.json"):
        Report.read(tmp_path)
    replace_text(tmp_path, REPORT, "{}")
    with pytest.raises(InputError, match=r"report\.json is damaged \(dataset is missing\)"):
        Report.read(tmp_path)


def test_the_documented_hash_is_the_default_protocols() -> None:
    assert Protocol().hash in (REPOSITORY / "docs" / "protocol.md").read_text()
