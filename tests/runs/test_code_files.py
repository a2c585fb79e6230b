"""Codes as files: under the right ids, with their report, whole or not at all, made once."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microlens as ml
from microlens.config.run_config import RunConfig
from microlens.data.feature_matrix import load_features
from microlens.data.item_codes import load_codes
from microlens.errors import InputError
from microlens.quantization import rqvae
from microlens.quantization.kmeans import residual_kmeans
from microlens.quantization.report import break_ties
from microlens.runs import code_files
from microlens.runs.assembly import build_experiment
from microlens.runs.code_files import write_codes
from microlens.runs.list_metrics import summarise
from microlens.runs.train import train
from tests.conftest import random_sequences
from tests.data.test_prepare import run_command

SMALL: dict[str, Any] = {"levels": 2, "codes": 4}


def write_features(folder: Path, ids: np.ndarray, name: str = "some") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.random.default_rng(0).normal(size=(len(ids), 5)).astype(np.float32)
    np.save(folder / f"{name}.npy", vectors)
    np.save(folder / f"{name}.ids.npy", ids)
    return folder / f"{name}.npy"


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Features of the items 30, 29, ... 1."""
    return write_features(tmp_path / "features", np.arange(30, 0, -1))


@pytest.mark.parametrize("method", ["kmeans", "balanced-kmeans"])
def test_codes_are_those_of_the_items(features: Path, method: str) -> None:
    files = write_codes(features, method=method, **SMALL)  # type: ignore[arg-type]
    found = residual_kmeans(np.load(features), levels=2, num_codes=4, seed=0, balanced=method != "kmeans")
    np.testing.assert_array_equal(load_codes(files.path, np.arange(1, 31)), break_ties(found.codes)[::-1])
    assert files.path.parent == features.parent
    assert files.provenance["features_sha256"]
    assert (files.report.num_items, files.report.new_items) == (30, None)


def test_codes_are_made_once_and_others_beside_them(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_codes(features, **SMALL)
    assert sorted(path.name for path in features.parent.iterdir() if path.stem.startswith(files.path.stem)) == [
        f"{files.path.stem}{suffix}" for suffix in (".ids.npy", ".json", ".npy")
    ]
    other = write_codes(features, **SMALL, seed=1)
    assert other.path != files.path
    monkeypatch.setattr(code_files, "_METHODS", {"balanced-kmeans": None})
    assert write_codes(features, **SMALL) == files
    np.save(features, np.load(features) + 1)
    with pytest.raises(InputError, match="made from other inputs"):
        write_codes(features, **SMALL)


def test_files_of_other_inputs_are_refused(features: Path) -> None:
    files = write_codes(features, **SMALL)
    note = files.path.with_suffix(".json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "seed": 5}))
    with pytest.raises(InputError, match="made from other inputs"):
        write_codes(features, **SMALL)
    note.write_text(json.dumps({**files.provenance, "report": {}}))
    with pytest.raises(InputError, match="to make it again"):
        write_codes(features, **SMALL)


def test_text_ids_are_kept(tmp_path: Path) -> None:
    ids = np.array([f"item {number}" for number in range(9)])
    files = write_codes(write_features(tmp_path, ids), **SMALL)
    assert load_codes(files.path, ids.astype(object)).shape == (9, 3)


def test_a_killed_rqvae_goes_on(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rqvae, "HIDDEN", (8,))
    monkeypatch.setattr(rqvae, "EPOCHS_BETWEEN_SAVES", 1)

    def killed(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {**SMALL, "method": "rqvae", "epochs": 5}
    with pytest.raises(KeyboardInterrupt):
        write_codes(features, **arguments, on_progress=killed)
    assert not list(features.parent.glob("some-rqvae*.npy"))
    seen: list[int] = []
    resumed = write_codes(features, **arguments, on_progress=lambda done, _: seen.append(done))
    assert seen == [4, 5] or seen == [3, 4, 5]
    whole = write_codes(features, **arguments, out=features.parent / "whole")
    np.testing.assert_array_equal(np.load(resumed.path), np.load(whole.path))
    assert not list(features.parent.glob(".*"))


def test_new_items_are_those_without_training_interactions(
    make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path
) -> None:
    """Item 9 is for validation, 40 for test, and 41 does not occur."""
    dataset = make_dataset([[*range(1, 9), 9, 40], [*range(1, 10), 3]])
    files = write_codes(write_features(tmp_path, np.array([*range(1, 9), 9, 40, 41])), dataset=dataset, **SMALL)
    assert files.report.new_items is not None
    assert files.report.new_items.num_items == 3
    assert files.provenance["dataset"]


def test_the_printed_configuration_can_be_built(
    make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path
) -> None:
    dataset = make_dataset(random_sequences(20, 12))
    features = write_features(tmp_path, np.arange(1, 13))
    status, printed, _ = run_command(
        "features", "codes", features, "--levels", 2, "--codes", 3, "--seed", 1, "--dataset", dataset
    )
    assert status == 0
    assert "codes up to here" in printed
    written = write_codes(features, levels=2, codes=3, seed=1, dataset=dataset)
    table = tomllib.loads(written.config)
    table["model"] |= {"dim": 8, "heads": 1, "layers": 1}
    config = RunConfig.model_validate({"dataset": dataset, "output": tmp_path / "run", **table})
    assert type(build_experiment(config).model).__name__ == "TIGER"
    status, printed, _ = run_command(
        "features", "codes", features, "--levels", 2, "--codes", 3, "--seed", 1, "--dataset", dataset, "--json"
    )
    assert json.loads(printed)["report"]["num_items"] == 12
    assert json.loads(printed)["path"] == str(written.path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codes": 31}, "codes = 31: at least 1 level is needed, and from 2 codes to as many as there are items, 30"),
        ({"levels": 0}, "levels = 0"),
        ({"method": "k-means"}, "did you mean 'kmeans'"),
        ({"method": "rqvae", "epochs": 0, "codes": 4}, "epochs = 0"),
        ({"seed": -1}, "seed is -1; accepted are integers from 0 to"),
    ],
)
def test_an_argument_out_of_range_is_refused(features: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ml.write_codes(features, **arguments)


def test_codes_are_no_features(features: Path, make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path) -> None:
    codes = write_codes(features, **SMALL).path
    for read in (lambda: load_features(codes, np.arange(1, 31)), lambda: write_codes(codes, **SMALL)):
        with pytest.raises(InputError, match="holds codes of items, which are no features"):
            read()
    dataset = make_dataset(random_sequences(20, 12))
    codes = write_codes(write_features(dataset / "features", np.arange(1, 13), "b"), **SMALL, out=dataset / "features")
    codes.path.rename(dataset / "features" / "a.npy")  # the first by name
    for suffix in (".ids.npy", ".json"):
        codes.path.with_suffix(suffix).rename(dataset / "features" / f"a{suffix}")
    config = RunConfig.model_validate({"dataset": dataset, "output": tmp_path / "run", "model": {"name": "popularity"}})
    train(config)
    assert summarise(config.output)["features"] == "b.npy"


def test_values_that_overflow_are_said_in_a_sentence(features: Path) -> None:
    np.save(features, np.load(features) * np.float32(1e25))
    with pytest.raises(InputError, match=r"the loss of the RQ-VAE is (nan|inf) in epoch 1; scale the features\.$"):
        write_codes(features, method="rqvae", **SMALL)


def test_a_feature_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write_codes(tmp_path / "none.npy")
