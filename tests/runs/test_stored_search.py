"""The stored search of the rows of MicroLens-50K can be continued from its trials."""

import importlib
import json
from types import ModuleType

import pytest

from microlens.config.run_config import RunConfig
from microlens.runs.search_study import distribution, installed_optuna
from tests.conftest import REPOSITORY

SEARCH = REPOSITORY / "results" / "search"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SEARCH)
    return importlib.import_module("run")


def test_stored_trials_fit_the_ranges_of_their_configurations(program: ModuleType) -> None:
    rows = json.loads(program.RESULTS.read_text())["rows"]
    assert set(rows) == set(program.BUDGETS)
    library = installed_optuna()
    for row, trials in rows.items():
        ranges = RunConfig.load(program.CONFIGS / f"{row}.toml").tune
        distributions = {name: distribution(range_) for name, range_ in ranges.items()}
        assert [trial["trial"] for trial in trials] == list(range(len(trials)))
        for trial in trials:
            assert trial["epochs"] == len(trial[program.METRIC]) <= program.BUDGETS[row]["epochs"]
            library.trial.create_trial(params=trial["options"], distributions=distributions, value=0.0)


def test_the_documented_search_is_the_stored_one(program: ModuleType) -> None:
    report = importlib.import_module("report")
    table = report.table(json.loads(program.RESULTS.read_text())["rows"])
    assert table.count("\n") > 20
    assert table in (REPOSITORY / "docs" / "results.md").read_text()


def test_winners_are_written_as_configurations(program: ModuleType) -> None:
    write_configs = importlib.import_module("write_configs")
    for row, trials in json.loads(program.RESULTS.read_text())["rows"].items():
        path = program.CONFIGS / f"{row}-tuned.toml"
        if path.exists():
            assert path.read_text() == write_configs.tuned(row, (program.CONFIGS / f"{row}.toml").read_text(), trials)
