"""What the documents show works."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from microlens.config import RunConfig
from microlens.encoders import ENCODERS
from microlens.encoders.video.clip import video_encoder
from microlens.run import train
from tests.conftest import REPOSITORY


@pytest.fixture
def shown(tmp_path: Path) -> ModuleType:
    """The file that docs/encoders.md shows, imported."""
    text = (REPOSITORY / "docs" / "encoders.md").read_text()
    section = text[text.index("## A sixteenth encoder") :]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert source
    (tmp_path / "small.py").write_text(source[1])
    spec = importlib.util.spec_from_file_location("small", tmp_path / "small.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    report = train(config, quiet=True)
    assert report.encoder == "three_convolutions"
    assert report.cost["trainable_parameters"] > 64 * 8


def test_every_encoder_is_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "encoders.md").read_text()
    assert [name for name in ENCODERS if f"`{name}`" not in text] == []
