"""Files that a run reads beside its dataset: a run is used only with those it was trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microlens.bench.rows import Job
from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.evaluation.report import adopt_run
from microlens.runs.input_files import named_files
from microlens.runs.run import load
from microlens.runs.train import train
from tests.conftest import random_sequences

ITEMS = 12
CHANGED = r"f\.npy has changed since .* was trained with it"


@pytest.fixture
def features(tmp_path: Path) -> Path:
    path = tmp_path / "f.npy"
    np.save(path, np.random.default_rng(0).normal(size=(ITEMS, 5)).astype(np.float32))
    np.save(path.with_suffix(".ids.npy"), np.arange(1, ITEMS + 1))
    return path


@pytest.fixture
def dataset(make_dataset: Callable[[list[list[int]]], Path]) -> Path:
    return make_dataset(random_sequences(30, ITEMS))


def tables_of(features: Path) -> dict[str, dict[str, Any]]:
    """Configurations that read the features: as an option of the model, of a tower, and of a part."""
    training = {"epochs": 1, "batch_size": 16, "device": "cpu"}
    tower = {"name": "features", "path": str(features)}
    knn = {"model": {"name": "content_knn", "features": str(features)}}
    sasrec = {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "sum", "towers": [{"name": "id"}, tower]}}
    return {
        "model": knn,
        "tower": {**sasrec, "train": training},
        "part": {"model": {"name": "fusion"}, "parts": [{"model": {"name": "co_visitation"}}, knn]},
    }


@pytest.mark.parametrize("place", ["model", "tower", "part"])
@pytest.mark.parametrize("changed", ["values", "ids"])
def test_a_run_is_not_used_with_other_files(
    dataset: Path, features: Path, tmp_path: Path, place: str, changed: str
) -> None:
    config = RunConfig.of({"dataset": str(dataset), "output": str(tmp_path / "run"), **tables_of(features)[place]})
    assert list(named_files(config).values()) == [features]
    report = train(config)
    data_hash = report.provenance["data_hash"]
    assert train(config).metrics == report.metrics
    assert Job(name="row", config=config, data_hash=data_hash).report() is not None

    path = features if changed == "values" else features.with_suffix(".ids.npy")
    before = path.read_bytes()
    np.save(path, np.load(path)[::-1])
    uses: dict[str, Callable[[], object]] = {
        "train": lambda: train(config),
        "evaluate": lambda: load(config.output).evaluate(),
        "recommend": lambda: load(config.output).recommend(k=1),
        "bench": Job(name="row", config=config, data_hash=data_hash).report,
    }
    for use in uses.values():
        with pytest.raises(InputError, match=CHANGED):
            use()
    path.write_bytes(before)
    assert load(config.output).evaluate()["metrics"] == report.metrics
    np.save(path, np.load(path)[::-1])
    assert train(config, fresh=True).metrics != report.metrics or changed == "ids"


def test_a_file_that_is_gone_is_missing_not_changed(dataset: Path, features: Path, tmp_path: Path) -> None:
    config = RunConfig.of({"dataset": str(dataset), "output": str(tmp_path / "run"), **tables_of(features)["model"]})
    train(config)
    features.unlink()
    assert list(named_files(config).values()) == [features]  # which notes of tables name
    with pytest.raises(InputError, match=r"f\.npy does not exist|f\.npy is missing|no such file"):
        load(config.output).recommend(k=1)


def test_weights_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    encoder = {"name": "x3d_xs", "weights": str(tmp_path / "w.pth")}
    config = RunConfig.of({"dataset": "d", "output": "o", "model": {"name": "sasrec"}, "encoder": encoder})
    assert named_files(config) == {}


def test_a_run_of_an_earlier_version_names_no_files(dataset: Path, features: Path, tmp_path: Path) -> None:
    config = RunConfig.of({"dataset": str(dataset), "output": str(tmp_path / "run"), **tables_of(features)["model"]})
    train(config)
    for name in ("environment.json", "run-manifest.json"):
        (config.output / name).unlink()
    adopt_run(config.output)
    assert len(load(config.output).recommend(k=1)) > 0
