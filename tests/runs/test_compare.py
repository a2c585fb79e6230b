"""Comparing runs: those that differ in the seed alone are one configuration, and the error counts their seeds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import microlens as ml
from microlens.cli import app
from microlens.evaluation.report import read_ranks
from microlens.evaluation.significance import difference
from tests.conftest import random_sequences

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 32, "lr": 1e-2, "device": "cpu", "dim": 4}


@pytest.fixture
def runs(make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path) -> list[ml.Run]:
    """Three seeds of SASRec around a run of popularity."""
    data = ml.Dataset(make_dataset(random_sequences(60, 25)))
    trained = [ml.fit(data, "sasrec", output=tmp_path / f"sasrec-{seed}", seed=seed, **QUICK) for seed in range(3)]
    return [trained[0], ml.fit(data, "popularity", output=tmp_path / "popularity"), *trained[1:]]


def test_seeds_of_a_configuration_are_averaged(runs: list[ml.Run]) -> None:
    found = ml.compare(runs, metrics=["NDCG@10"])
    assert found["run"].to_list() == ["sasrec-0", "popularity"]
    assert found["seeds"].to_list() == [3, None]
    assert found.schema["seeds"] == pl.Int64
    ranks = [read_ranks(run.folder)["test"][0] for run in runs]
    expected = difference([ranks[1]], [ranks[0], *ranks[2:]], "NDCG@10")
    names = {"difference": "mean", "difference_low": "low", "difference_high": "high", "p": "p"}
    assert {name: found[name][1] for name in names} == pytest.approx(
        {name: expected[other] for name, other in names.items()}
    )
    values = [run.report.metrics["test"]["all"]["NDCG@10"] for run in runs]
    assert found["value"].to_list() == pytest.approx([np.mean([values[0], *values[2:]]), values[1]])
    single = ml.compare(runs[:2], metrics=["NDCG@10"])
    assert single["seeds"].to_list() == [1, None]
    assert single["value"][0] == pytest.approx(values[0])


def test_a_seed_that_is_there_twice_is_no_second_seed(runs: list[ml.Run]) -> None:
    found = ml.compare([runs[0], runs[0], runs[2]], metrics=["HR@10"])
    assert found["seeds"].to_list() == [2, 1]
    with pytest.raises(ml.InputError, match="the 2 runs differ in nothing but their seed"):
        ml.compare([runs[0], runs[2]])


def test_runs_on_other_features_are_other_rows(make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path) -> None:
    data = ml.Dataset(make_dataset(random_sequences(60, 25)))
    path = tmp_path / "features.npy"
    np.save(path.with_suffix(".ids.npy"), data.item_ids.to_numpy())
    runs = []
    for seed in range(2):
        np.save(path, np.random.default_rng(seed).normal(size=(len(data.item_ids), 4)).astype(np.float32))
        encoder = {"name": "features", "path": str(path)}
        output = tmp_path / f"run-{seed}"
        runs.append(ml.fit(data, "sasrec", output=output, encoder=encoder, seed=seed, **QUICK))
    assert ml.compare(runs, metrics=["HR@10"])["seeds"].to_list() == [1, 1]


def test_the_command_says_what_one_seed_leaves_out(runs: list[ml.Run]) -> None:
    folders = [str(run.folder) for run in runs]
    told = CliRunner().invoke(app, ["compare", *folders[:2]]).output
    assert "One seed of sasrec-0: intervals and p are over users only" in " ".join(told.split())
    assert "One seed" not in CliRunner().invoke(app, ["compare", *folders]).output


def test_no_column_is_cut_in_a_pipe(runs: list[ml.Run]) -> None:
    folders = [str(run.folder) for run in runs]
    told = CliRunner().invoke(app, ["compare", *folders]).output
    assert "\u2026" not in told
    found = ml.compare(runs)
    for name in found.columns:
        assert name in told
    listed = json.loads(CliRunner().invoke(app, ["compare", *folders, "--json"]).output)
    assert listed == found.to_dicts()


def test_the_correction_is_said_where_there_is_one(runs: list[ml.Run]) -> None:
    other = ml.fit(runs[0].dataset, "markov", output=runs[0].folder.parent / "markov")
    folders = [str(run.folder) for run in (*runs, other)]
    assert "p: with Holm's correction" in CliRunner().invoke(app, ["compare", *folders]).output
    assert "Holm" not in CliRunner().invoke(app, ["compare", *folders[:-1]]).output


def test_a_part_without_targets_is_refused(runs: list[ml.Run]) -> None:
    part: Any = "train"
    with pytest.raises(ml.InputError, match=r"part is 'train'; accepted: 'valid', 'test'\."):
        ml.compare(runs, part=part)
