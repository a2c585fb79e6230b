"""A table of runs from Python."""

from pathlib import Path

import pytest

import microlens as ml
from microlens.building import listed
from microlens.data.dataset import Dataset
from tests.bench.test_bench import configs, dataset

__all__ = ["configs", "dataset"]  # fixtures


def test_a_table_is_trained_shown_and_written(dataset: Path, configs: Path, tmp_path: Path) -> None:
    def made() -> ml.Table:
        return ml.table(
            "baseline", Dataset(dataset), configs=configs, output=tmp_path / "out", only=["Popularity", "markov"]
        )

    first = made()
    assert first.frame["row"].to_list() == ["Popularity", "Markov, first order"]
    run = ml.load(next((tmp_path / "out").glob("markov-*")), dataset)
    assert first.frame["NDCG@10"][1] == run.report.metrics["test"]["all"]["NDCG@10"]
    assert "| Popularity |" in repr(first)
    assert "<td>Popularity</td>" in first._repr_html_()
    assert first.path.with_suffix(".json").exists()
    again = made()
    assert again.frame.equals(first.frame)


def test_rows_that_fail_are_named(dataset: Path, configs: Path, tmp_path: Path) -> None:
    with pytest.raises(ml.InputError, match=r"1 rows failed \(EASE of baseline\)"):
        ml.table("baseline", dataset, configs=configs, output=tmp_path / "out", only=["ease"])
    with pytest.raises(ml.InputError, match="there is no table 'baselin'; did you mean 'baseline'"):
        ml.table("baselin", dataset)


def test_names_with_commas_stay_apart() -> None:
    assert listed(["DSSM", "NFM"]) == "DSSM, NFM"
    assert listed(["DSSM", "NFM, tuned"]) == "DSSM; NFM, tuned"
