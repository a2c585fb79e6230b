"""The report of the scaling study: its front, its order, its picture."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

STUDY = REPOSITORY / "results" / "scaling"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(STUDY)
    return runpy.run_path(str(STUDY / "report.py"))


def study(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for everything that is to be trained, each slower and worse than the one before but for the last."""
    rows = [
        {
            **row,
            "valid": {"HR@10": 0.09 - 0.001 * number, "NDCG@10": 0.04},
            "best_epoch": 2,
            "seconds": 10.0 + number,
            "parameters": 1_000_000,
            "valid HR@10 by epoch": [0.01, 0.02],
        }
        for number, row in enumerate(runpy.run_path(str(STUDY / "study.py"))["rows"]())
    ]
    rows[-1]["valid"]["HR@10"] = 0.1
    return rows


def test_the_front_has_the_rows_that_no_other_is_ahead_of(report: dict[str, Any]) -> None:
    rows = study(report)
    front = report["pareto"](rows)
    assert front == [rows[0], rows[-1]]
    for row in rows:
        better = [
            other for other in rows
            if other is not row
            and other["seconds"] <= row["seconds"]
            and other["valid"]["HR@10"] >= row["valid"]["HR@10"]
        ]  # fmt: skip
        assert (row in front) == (not better)


def test_every_row_is_in_the_table_and_the_picture_is_drawn(report: dict[str, Any], tmp_path: Path) -> None:
    rows = study(report)
    table = report["table"](rows)
    assert table.count("\n") == 2 + len(rows)
    assert table.count("**") == 4
    assert "| ids and titles, frozen | 64 | 10 | 50 % |" in table
    report["draw"](rows, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_the_documented_study_is_the_stored_one(report: dict[str, Any]) -> None:
    table = report["table"](json.loads((STUDY / "microlens-50k.json").read_text())["rows"])
    assert table in (REPOSITORY / "docs" / "results.md").read_text()
