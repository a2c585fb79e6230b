"""Training curves of a table, and the mark of rows that were cut off."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microlens.bench import FORMATS, Sheet, read_results, sheets
from microlens.bench.curves import curve, cut_off, cut_off_notes, epoch_count
from microlens.bench.results import write_json
from microlens.bench.rows import Job
from microlens.config.run_config import RunConfig
from microlens.evaluation.report import Report
from microlens.files.run_manifest import EPOCHS
from microlens.runs.train import train
from tests.bench.test_bench import dataset
from tests.conftest import REPOSITORY

__all__ = ["dataset"]  # fixture


@pytest.fixture(scope="module")
def job(dataset: Path) -> tuple[Job, Report]:
    config = RunConfig.of(
        {
            "dataset": dataset,
            "output": dataset.parent / "curve",
            "model": {"name": "sasrec", "dim": 8},
            "encoder": {"name": "id"},
            "train": {"epochs": 5, "patience": 4, "batch_size": 32, "device": "cpu"},
        }
    )
    return Job(name="SASRec", config=config, data_hash="x"), train(config)


def test_a_curve_is_the_training_in_the_run_folder(job: tuple[Job, Report]) -> None:
    found = curve(*job)
    lines = [json.loads(line) for line in (job[0].folder / EPOCHS).read_text().splitlines()]
    assert found["loss"] == pytest.approx([line["loss"] for line in lines], rel=1e-3)
    for metric in ("HR@10", "NDCG@10"):
        assert found[metric] == pytest.approx([line["valid"][metric] for line in lines], abs=1e-5)
    assert found["epochs"] == len(lines)
    assert max(found["HR@10"]) == found["HR@10"][found["best_epoch"] - 1]
    assert (found["seed"], found["most_epochs"]) == (42, 5)


@pytest.mark.parametrize(("epochs", "best", "early"), [(5, 5, False), (5, 2, False), (5, 1, True)])
def test_whether_training_stopped_early(job: tuple[Job, Report], epochs: int, best: int, early: bool) -> None:
    report = replace(job[1], cost={**job[1].cost, "epochs": epochs, "best_epoch": best})
    assert curve(job[0], report)["stopped_early"] == early


def row(*ends: tuple[int, int]) -> dict[str, Any]:
    return {"name": "A row", "curves": [{"epochs": epochs, "best_epoch": best} for epochs, best in ends]}


def test_a_row_whose_best_epoch_is_its_last_is_marked() -> None:
    assert epoch_count(row((12, 7))) == "12 (7)"
    assert epoch_count(row((10, 10))) == "10 (10)†"
    assert epoch_count(row((12, 7), (10, 10), (11, 6))) == "10-12 (6-10)†"
    assert epoch_count(row()) == "-"
    assert not cut_off(row())
    assert epoch_count({"name": "Old", "cost": {"epochs": 9, "best_epoch": 9}}) == "9 (9)†"  # of the first versions
    assert cut_off_notes([row((12, 7))]) == []
    assert cut_off_notes([row((12, 7)), row((2, 2))]) == [
        "† The best epoch is the last, so training was cut off: A row."
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_shows_the_mark(form: str) -> None:
    marked = Sheet(title="T", columns=["epochs (best)"], groups={"G": [["A row", "3 (3)†"]]}, notes=["† cut off"])
    assert ("\\textdagger{}" if form == "tex" else "3 (3)†") in FORMATS[form]([marked])


def test_stored_tables_name_the_rows_that_were_cut_off() -> None:
    results = read_results(REPOSITORY / "results" / "baseline-microlens-50k.json")
    cut = [found["name"] for found in results["rows"] if cut_off(found)]
    accuracy = sheets(results)[0]
    column = 1 + accuracy.columns.index("epochs (best)")
    assert [cells[0] for rows in accuracy.groups.values() for cells in rows if cells[column].endswith("†")] == cut
    assert [note for note in accuracy.notes if note.startswith("†")] == cut_off_notes(results["rows"])


def test_a_list_of_numbers_is_one_line_of_the_json(tmp_path: Path) -> None:
    content = {"curves": [{"loss": [1.5, -2e-05, 3], "name": "[1,\n 2]"}], "none": [], "text": ["a", "b"]}
    write_json(tmp_path / "table.json", content)
    text = (tmp_path / "table.json").read_text()
    assert '"loss": [1.5, -2e-05, 3]' in text
    assert json.loads(text) == content
