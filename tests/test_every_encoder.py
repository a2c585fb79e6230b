"""Every video encoder of the paper takes real steps in every tuning regime, through the whole of `microlens train`."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest

from microlens.config import RunConfig
from microlens.encoders.video import VIDEO_ENCODERS
from microlens.run import train

PAPER = (
    *("r3d_r18", "x3d_xs", "c2d_r50", "i3d_r50", "x3d_s", "slow_r50", "r3d_r50", "slowfast_r50", "x3d_m", "csn_r101"),
    *("x3d_l", "slowfast_r101", "mvit_b_16x4", "mvit_b_32x3", "videomae"),
)
REGIMES = ("frozen", "top1", "top", "full", "scratch", "lora")


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    rmtree(tmp_path / "run", ignore_errors=True)  # checkpoints of large networks


def test_the_papers_encoders_are_there() -> None:
    assert VIDEO_ENCODERS.keys() >= set(PAPER)
    assert len(PAPER) == 15


@pytest.mark.slow
@pytest.mark.parametrize("tune", REGIMES)
@pytest.mark.parametrize("name", PAPER)
def test_it_trains(video_dataset: Path, output: Path, name: str, tune: str) -> None:
    pytest.importorskip("transformers", reason="the extra [encoders] is not installed")
    config = RunConfig.model_validate(
        {
            "dataset": video_dataset,
            "output": output,
            "model": {"name": "sasrec", "dim": 8},
            "encoder": {"name": name, "tune": tune, **({"top": 2} if tune == "top" else {})},
            "train": {"epochs": 1, "batch_size": 12, "device": "cpu", "micro_batch": 8, "norm_batch": 8},
        }
    )
    report = train(config, quiet=True)
    line = json.loads((output / "metrics.jsonl").read_text())
    assert 0 < line["loss"] < 2 * math.log(14)  # near chance over 14 items, and no NaN
    assert report.num_targets["test"]["all"] == 24
    trainable = report.cost["trainable_parameters"]
    assert trainable < report.cost["parameters"] if tune in ("frozen", "top1", "top", "lora") else trainable > 2_000_000
