"""A table of runs from Python."""

import subprocess
import sys
from pathlib import Path
from typing import Any

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


def test_a_script_needs_no_main_guard(dataset: Path, configs: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import microlens as ml\n"
        "print('begun')\n"
        f"table = ml.table('baseline', {str(dataset)!r}, configs={str(configs)!r}, output='out', only=['Popularity'])\n"
        "print(table.frame['row'].to_list())\n"
    )
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["begun", "['Popularity']"]


def test_rows_that_fail_are_named(dataset: Path, configs: Path, tmp_path: Path) -> None:
    with pytest.raises(ml.InputError, match=r"1 rows failed \(EASE of baseline\)"):
        ml.table("baseline", dataset, configs=configs, output=tmp_path / "out", only=["ease"])
    with pytest.raises(ml.InputError, match="there is no table 'baselin'; did you mean 'baseline'"):
        ml.table("baselin", dataset)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"jobs": 0}, "jobs is 0; it must be a whole number, at least 1"),
        ({"jobs": True}, "jobs is True; it must be a whole number, at least 1"),
        ({"seeds": 0}, "seeds is 0; it must be a whole number, from 1 to 10"),
        ({"seeds": 12}, "seeds is 12; it must be a whole number, from 1 to 10"),
        ({"seeds": 2.0}, r"seeds is 2\.0; it must be a whole number"),
        ({"minutes": "x"}, "minutes is 'x'; it must be a number above 0"),
        ({"minutes": -1}, "minutes is -1; it must be a number above 0"),
        ({"minutes": float("nan")}, "minutes is nan; it must be a number above 0"),
    ],
)
def test_numbers_are_those_that_the_command_accepts(
    dataset: Path, configs: Path, tmp_path: Path, choices: dict[str, Any], said: str
) -> None:
    with pytest.raises(ml.InputError, match=said):
        ml.table("baseline", dataset, configs=configs, output=tmp_path / "out", only=["Popularity"], **choices)
    assert not (tmp_path / "out").exists()


def test_names_with_commas_stay_apart() -> None:
    assert listed(["DSSM", "NFM"]) == "DSSM, NFM"
    assert listed(["DSSM", "NFM, tuned"]) == "DSSM; NFM, tuned"
