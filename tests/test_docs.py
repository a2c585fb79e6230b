"""What the documents show works."""

import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.encoders import ENCODERS
from microlens.encoders.video.clip import video_encoder
from microlens.media.decoding import Settings
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.runs.train import train
from tests.conftest import REPOSITORY, write_pairs
from tests.recommenders import test_contract as contract


def shown_file(document: str, heading: str, folder: Path) -> ModuleType:
    """The first Python file that a document shows under a heading, imported."""
    text = (REPOSITORY / "docs" / document).read_text()
    source = re.search(r"```python\n(.*?)```", text[text.index(heading) :], re.DOTALL)
    assert source
    (folder / "shown.py").write_text(source[1])
    spec = importlib.util.spec_from_file_location("shown", folder / "shown.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shown(tmp_path: Path) -> ModuleType:
    return shown_file("encoders.md", "## A sixteenth encoder", tmp_path)


@pytest.fixture
def recommender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which the recommender of docs/recommenders.md is registered."""
    module = shown_file("recommenders.md", "## Adding a recommender", tmp_path)
    monkeypatch.setitem(RECOMMENDERS, "fading_mean", module.FadingMean)
    return "fading_mean"


CONTRACT = [
    check
    for name, check in vars(contract).items()
    if name.startswith("test_") and list(inspect.signature(check).parameters) == ["model"]
]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_the_added_recommender_keeps_the_contract(
    recommender: str, tmp_path: Path, check: Callable[[Recommender], None]
) -> None:
    check(contract.build_recommender(recommender, tmp_path).eval())


def test_the_added_recommender_trains(recommender: str, tmp_path: Path) -> None:
    sequences = [[(start + step) % 40 + 1 for step in range(8)] for start in range(200)]  # what comes next is known
    prepare(write_pairs(tmp_path / "release", sequences), tmp_path / "dataset", Settings())
    config = RunConfig.model_validate(
        {
            "dataset": tmp_path / "dataset",
            "output": tmp_path / "run",
            "model": {"name": recommender, "dim": 16},
            "encoder": {"name": "id"},
            "train": {"epochs": 15, "batch_size": 20, "lr": 0.03, "device": "cpu"},
        }
    )
    report = train(config)
    assert report.metrics["test"]["all"]["HR@10"] > 3 * 10 / 40


def test_every_recommender_is_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "recommenders.md").read_text()
    assert [name for name in RECOMMENDERS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("tune", ["frozen", "top1", "full"])
def test_the_sixteenth_encoder_trains(
    shown: ModuleType, video_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: str
) -> None:
    for name, network in shown.SMALL_NETWORKS.items():
        monkeypatch.setitem(ENCODERS, name, video_encoder(network))
    config = RunConfig.model_validate(
        {
            "dataset": video_dataset,
            "output": tmp_path / "run",
            "model": {"name": "gru4rec", "dim": 8},
            "encoder": {"name": "three_convolutions", "tune": tune},
            "train": {"epochs": 1, "batch_size": 12, "device": "cpu"},
        }
    )
    report = train(config)
    assert report.encoder == "three_convolutions"
    assert report.cost["trainable_parameters"] > 64 * 8


def test_every_encoder_is_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "encoders.md").read_text()
    assert [name for name in ENCODERS if f"`{name}`" not in text] == []
