"""The stored search of the rows of MicroLens-50K can be continued from its trials."""

import importlib.util
import json
from types import ModuleType

import pytest

from microlens.config.run_config import RunConfig
from microlens.runs.search_study import distribution, installed_optuna
from tests.conftest import REPOSITORY

SEARCH = REPOSITORY / "results" / "search"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_run", SEARCH / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
