"""Datasets and runs of version 0.1.0 still open, with the same hashes and the same numbers."""

import json
import shutil
from pathlib import Path

import pytest

import microlens as ml
from microlens.files.run_manifest import replace_text
from microlens.files.writing import MARK
from microlens.runs.folder import claim_run_folder
from tests.conftest import REPOSITORY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "tests" / "golden" / "version-0.1.0", tmp_path / "old")
    return tmp_path / "old"


def test_a_dataset_opens_with_its_checksum(folder: Path) -> None:
    dataset = ml.Dataset(folder / "dataset")
    assert dataset.checksum == json.loads((folder / "dataset" / "manifest.json").read_text())["checksum"]
    assert (dataset.interactions.num_users, dataset.interactions.num_items) == (40, 25)
    assert dataset.item_ids.to_list() == list(range(1, 26))
    assert dataset.items["title"][18] == "Title 19"


def test_a_run_opens_and_gives_the_same_numbers(folder: Path) -> None:
    written = json.loads((folder / "run" / "report.json").read_text())
    assert written["provenance"]["packages"]["microlens"] == "0.1.0"
    files, problems = ml.check_run(folder / "run")
    assert set(files.values()) == {"ok"}
    assert problems == []
    run = ml.load(folder / "run", dataset=folder / "dataset")
    assert run.config.hash == written["provenance"]["config_hash"]
    assert run.report.metrics == written["metrics"]
    assert run.evaluate()["metrics"] == written["metrics"]
    assert run.recommend([7], k=3)["item"].to_list() == [19, 5, 2]
    assert run.history(7) == [16, 7, 9, 22, 14, 10, 21, 17]


def test_the_same_configuration_reads_the_finished_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    config = ml.RunConfig.load(
        folder / "run" / "config.toml", [f'dataset="{folder / "dataset"}"', f'output="{folder / "run"}"']
    )
    monkeypatch.setattr("microlens.runs.train.Trainer", None)  # nothing is trained
    assert ml.train(config).provenance["packages"]["microlens"] == "0.1.0"


def test_a_run_that_was_accelerated_opens_and_can_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = folder / "run", folder / "run" / "config.toml"
    replace_text(run, "config.toml", path.read_text().replace("accelerate = false", "accelerate = true"))
    opened = ml.load(run, dataset=folder / "dataset")
    assert opened.config.train.compile
    (run / MARK).unlink()  # as in runs of the first version
    claim_run_folder(run)
    assert opened.evaluate()["metrics"] == json.loads((run / "report.json").read_text())["metrics"]
    monkeypatch.chdir(folder)
    text = path.read_text().replace("accelerate = true", "compile = true\nchannels_last = true")
    (folder / "now.toml").write_text(text.replace('"fp32"', '"bf16"'))
    config = ml.RunConfig.load(folder / "now.toml", [f'dataset="{folder / "dataset"}"', f'output="{run}"'])
    monkeypatch.setattr("microlens.runs.train.Trainer", None)  # nothing is trained
    assert ml.train(config).provenance["packages"]["microlens"] == "0.1.0"
