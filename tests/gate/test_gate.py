"""The gate: what it declares, what it refuses, and its short form on real data."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gate.checks import faults_of
from gate.declared import Figure, Row, read_declared
from gate.fitting import dataset_of
from microlens.data.protocol import Protocol
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS
from tests.conftest import REPOSITORY

POPULARITY = {"NDCG@10": 0.10, "Recall@10": 0.10}
ROW = Row(name="EASE", model="ease")


def test_every_default_without_gradients_is_held_to_popularity() -> None:
    rows = [row for data in read_declared() for part in data.parts for row in part.rows]
    fitted = {"als", "bpr_mf", "co_visitation", "content_knn", "ease", "item_knn", "markov", "popularity"}
    assert fitted == {row.model for row in rows} & fitted
    assert len({row.model for row in rows} - fitted) == 3
    assert all(row.model in RECOMMENDERS for row in rows)
    for data in read_declared():
        for part in data.parts:
            Protocol(**part.protocol)
            assert any(row.small for row in part.rows)


def test_a_row_that_reaches_everything_has_no_fault() -> None:
    found = {"NDCG@10": 0.2, "Recall@10": 0.2}
    assert faults_of(ROW, found, POPULARITY, None, deterministic=True) == []
    assert faults_of(ROW, found, POPULARITY, {"NDCG@10": 0.2009}, deterministic=True) == []
    assert faults_of(ROW, found, POPULARITY, {"NDCG@10": 0.205}, deterministic=False) == []


@pytest.mark.parametrize("value", [0.05, 0.10])
def test_a_row_not_above_popularity_fails(value: float) -> None:
    (fault,) = faults_of(ROW, {"NDCG@10": value, "Recall@10": 0.3}, POPULARITY, None, deterministic=True)
    assert fault == f"NDCG@10 is {value:.4f}, not above Popularity's 0.1000"
    assert faults_of(replace(ROW, model="popularity"), POPULARITY, POPULARITY, None, deterministic=True) == []


def test_a_row_below_its_published_figure_fails() -> None:
    row = replace(ROW, published=Figure(metrics={"NDCG@10": 0.3, "Recall@10": 0.2}, tolerance=0.1, source="a paper"))
    good, bad = {"NDCG@10": 0.271, "Recall@10": 0.181}, {"NDCG@10": 0.269, "Recall@10": 0.181}
    assert faults_of(row, good, POPULARITY, None, deterministic=True) == []
    assert faults_of(row, bad, POPULARITY, None, deterministic=True) == [
        "NDCG@10 is 0.2690, below the published 0.3000"
    ]


@pytest.mark.parametrize(("last", "deterministic"), [(0.202, True), (0.198, True), (0.21, False), (0.19, False)])
def test_a_row_away_from_the_last_run_fails(last: float, deterministic: bool) -> None:
    found = {"NDCG@10": 0.2, "Recall@10": 0.2}
    (fault,) = faults_of(ROW, found, POPULARITY, {"NDCG@10": last}, deterministic=deterministic)
    assert "away from the last run's" in fault


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_row_may_move_by_three_deviations_of_its_mean_over_seeds(seeds: int) -> None:
    found, row = {"NDCG@10": 0.2, "Recall@10": 0.2}, replace(ROW, seeds=seeds, seed_deviation=0.04 * seeds**0.5)
    assert faults_of(row, found, POPULARITY, {"NDCG@10": 0.226}, deterministic=False) == []
    for last in (0.174, 0.25):
        (fault,) = faults_of(row, found, POPULARITY, {"NDCG@10": last}, deterministic=False)
        assert "more than 12.0% away" in fault


def test_data_that_is_not_the_declared_one_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "ml-100k"
    source.mkdir()
    (source / "ml-100k_pairs.csv").write_text("user,item,timestamp\n1,2,3\n")
    with pytest.raises(InputError, match=r"is not MovieLens-100K: the checksum of ml-100k_pairs\.csv differs"):
        dataset_of(read_declared()[0], source, tmp_path / "work")


def test_absent_data_is_named_and_skipped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gate", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert f"ml-100k is skipped: there is no {tmp_path / 'ml-100k'}; get it from https://grouplens.org" in done.stdout


@pytest.mark.published
@pytest.mark.real_data
def test_the_small_gate_is_green(shared_data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gate", str(shared_data), "--work", str(tmp_path / "work"), "--small"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ok ") >= 8
