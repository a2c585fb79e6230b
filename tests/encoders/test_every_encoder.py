"""Every video encoder of the paper, and every tuning regime, takes real steps through the whole of `microlens train`.

What a regime trains of each encoder, gradient by gradient, is in test_tuning.py.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest
import torch

from microlens.config.run_config import RunConfig
from microlens.encoders.video import VIDEO_ENCODERS
from microlens.runs.assembly import build_experiment
from microlens.runs.train import train
from microlens.training import checkpoint

PAPER = (
    *("r3d_r18", "x3d_xs", "c2d_r50", "i3d_r50", "x3d_s", "slow_r50", "r3d_r50", "slowfast_r50", "x3d_m", "csn_r101"),
    *("x3d_l", "slowfast_r101", "mvit_b_16x4", "mvit_b_32x3", "videomae"),
)
REGIMES = ("frozen", "top1", "top", "full", "scratch", "lora")
# The smallest network in every regime, and every other network in one; large ones in those that keep few moments.
PAIRS = [
    *(("x3d_xs", tune) for tune in REGIMES),
    ("x3d_s", "scratch"), ("x3d_m", "full"), ("x3d_l", "top"), ("r3d_r18", "lora"), ("csn_r101", "scratch"),
    ("c2d_r50", "top"), ("i3d_r50", "top1"), ("slow_r50", "full"), ("r3d_r50", "top1"), ("slowfast_r50", "frozen"),
    ("slowfast_r101", "top1"), ("mvit_b_16x4", "top"), ("mvit_b_32x3", "lora"), ("videomae", "frozen"),
]  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    rmtree(tmp_path / "run", ignore_errors=True)  # checkpoints of large networks


def test_the_papers_encoders_are_there() -> None:
    assert VIDEO_ENCODERS.keys() >= set(PAPER)
    assert len(PAPER) == 15
    assert {name for name, _ in PAIRS} == set(PAPER)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tune"),
    [pytest.param(*pair, marks=() if pair[0] == "x3d_xs" else pytest.mark.published) for pair in PAIRS],
)
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
    model = build_experiment(config).model
    report = train(config)
    line = json.loads((output / "metrics.jsonl").read_text())
    assert math.isfinite(line["loss"])
    assert report.num_targets["test"]["all"] == 24
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    best = output / "checkpoints" / "best.safetensors"
    checkpoint.load_model(model, checkpoint.load(best)[0], best)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    wanted = {name for name, value in model.named_parameters() if value.requires_grad}
    assert report.cost["trainable_parameters"] == sum(before[name].numel() for name in wanted)
    assert moved <= wanted
    if tune == "lora":  # adapters behind a branch that is silent and frozen, as in a random X3D, have nothing to do
        assert any(".lora_" in name for name in moved)
    else:
        assert len(moved) > 0.9 * len(wanted)
