"""A run finds its dataset from any working folder, after both have moved, and where it is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from microlens.data.dataset import Dataset
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.runs.dataset_location import find_dataset
from microlens.runs.run import load
from tests.cli.test_cli import SASREC, refusal
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import run_command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with datasets/mine and runs/one, trained there with relative paths."""
    folder = tmp_path_factory.mktemp("trained")
    prepare(write_pairs(folder / "release", random_sequences(40, 20)), folder / "datasets" / "mine", Settings())
    prepare(write_pairs(folder / "release2", random_sequences(30, 20)), folder / "datasets" / "other", Settings())
    (folder / "config.toml").write_text(SASREC.format(dataset="datasets/mine", output="runs/one"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert run_command("train", "config.toml")[0] == 0
    return folder


@pytest.fixture
def world(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that, moved since it was trained, and another working folder."""
    world = shutil.copytree(trained, tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    return world


def test_from_another_working_folder_and_after_moving_together(
    trained: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads((trained / "runs" / "one" / "report.json").read_text())["metrics"]
    assert load(trained / "runs" / "one").evaluate()["metrics"] == expected  # as it was recorded
    run = world / "runs" / "one"
    checksum = json.loads((run / "report.json").read_text())["provenance"]["data_hash"]
    written = Path("datasets/mine")
    assert find_dataset(run, written, checksum).folder == trained / "datasets" / "mine"
    shutil.move(trained / "datasets", trained / "hidden")
    try:
        assert find_dataset(run, written, checksum).folder == world / "datasets" / "mine"
        assert find_dataset(Path("world/runs/one"), written, checksum).folder == world / "datasets" / "mine"
        assert load(run).evaluate()["metrics"] == expected
        monkeypatch.chdir(world)
        assert find_dataset(run, written, checksum).folder == world / "datasets" / "mine"
    finally:
        shutil.move(trained / "hidden", trained / "datasets")


def test_other_data_of_the_same_name_is_passed_over(trained: Path, world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "datasets" / "other", tmp_path / "datasets" / "mine")
    run = world / "runs" / "one"
    checksum = json.loads((run / "report.json").read_text())["provenance"]["data_hash"]
    assert find_dataset(run, Path("datasets/mine"), checksum).folder == trained / "datasets" / "mine"
    told = r"looked at .*datasets/mine \(other data\); say where it is with dataset=PATH"
    with pytest.raises(InputError, match=told):
        find_dataset(run, Path("datasets/mine"), checksum, given=tmp_path / "datasets" / "mine")


def test_a_dataset_that_is_nowhere_is_told_with_every_place_and_can_be_named(world: Path, tmp_path: Path) -> None:
    run = world / "runs" / "one"
    facts = json.loads((run / "environment.json").read_text())
    facts["dataset"]["path"] = str(tmp_path / "gone")
    (run / "environment.json").write_text(json.dumps(facts))
    found = shutil.move(world / "datasets" / "mine", tmp_path / "elsewhere")
    places = f"{tmp_path}/datasets/mine (no dataset), {tmp_path}/gone (no dataset), {world}/datasets/mine (no dataset)"
    for command in (("evaluate", run), ("recommend", run, "--user", 1), ("report", run, "--html", "page.html")):
        assert f"{run} was trained on a dataset that was not found; looked at {places}; say" in refusal(*command)
        assert run_command(*command, "--dataset", found)[0] == 0
        assert f"looked at {tmp_path}/nope (no dataset); say" in refusal(*command, "--dataset", "nope")
        assert f"looked at {world}/datasets/other (other" in refusal(
            *command, "--dataset", world / "datasets" / "other"
        )


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"dataset": 3}', '{"dataset": {"path": 3}}'])
def test_a_run_without_a_record_looks_where_its_configuration_says(world: Path, content: str | None) -> None:
    record = world / "runs" / "one" / "environment.json"
    record.unlink()
    if content is not None:
        record.write_text(content)
    with pytest.raises(InputError, match=r"looked at \S+/datasets/mine \(no dataset\); say"):
        find_dataset(world / "runs" / "one", Path("datasets/mine"), "0")


def test_files_of_the_dataset_that_a_run_names_move_along(world: Path) -> None:
    from microlens.config.run_config import RunConfig

    assignments = ["encoder.name=features", "encoder.path=datasets/mine/features/video.npy"]
    config = RunConfig.load(world / "config.toml", assignments)
    moved = config.on_dataset(Path('/data/"x"/é'))
    assert moved.dataset == Path('/data/"x"/é')
    assert moved.encoder is not None
    assert moved.encoder.model_extra == {"path": '/data/"x"/é/features/video.npy'}
    assert config.on_dataset(config.dataset) == config


@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        ("./datasets/mine", "datasets/mine/features/video.npy"),
        ("datasets/mine", "./datasets/../datasets/mine/features/video.npy"),
        ("{trained}/datasets/mine", "datasets/mine/features/video.npy"),
        ("datasets/mine", "{trained}/datasets/mine/features/video.npy"),
    ],
)
def test_a_run_whose_features_are_spelled_otherwise_than_its_dataset_opens_elsewhere(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, path: str
) -> None:
    world = shutil.copytree(trained, tmp_path / "first")
    monkeypatch.chdir(world)
    features = world / "datasets" / "mine" / "features"
    features.mkdir()
    ids = Dataset(world / "datasets" / "mine").items["item_id"].to_list()
    np.save(features / "video.npy", np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32))
    np.save(features / "video.ids.npy", np.array(ids))
    spelled = (path.format(trained=world), dataset.format(trained=world))
    (world / "config.toml").write_text(SASREC.format(dataset=spelled[1], output="runs/with"))
    chosen = ("--set", "encoder.name=features", "--set", f"encoder.path={spelled[0]}")
    assert run_command("train", "config.toml", *chosen)[0] == 0
    expected = json.loads((world / "runs" / "with" / "report.json").read_text())["metrics"]
    moved = world.rename(tmp_path / "second")
    monkeypatch.chdir(tmp_path)
    assert load(moved / "runs" / "with").evaluate()["metrics"] == expected


def test_training_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(SASREC.format(dataset="datasets/mine", output="run"))
    assert f"(no {tmp_path}/datasets/mine/manifest.json); make one with" in refusal("train", "config.toml")
    assert not (tmp_path / "run").exists()
