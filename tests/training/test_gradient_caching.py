"""Affordable end-to-end training changes no number: gradient caching, and frozen trunks that are run once."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from microlens.config.run_config import RunConfig
from microlens.data.batches import Batch, ItemBatch, Process, train_batches
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.item_arrays import Rows, RowWriter
from microlens.encoders import build_encoder
from microlens.encoders.content import ContentEncoder
from microlens.errors import InputError
from microlens.recommenders.sasrec import SASRec
from microlens.runs.assembly import Experiment, build_experiment, use_caches
from microlens.runs.run import load
from microlens.runs.train import train
from microlens.training import gradient_caching
from microlens.training.extraction import ITEMS_AT_ONCE, extract
from microlens.training.gradient_caching import equal_parts
from microlens.training.step import TrainingStep
from microlens.training.trainer import Trainer

NETWORKS = {
    "a CNN": {"name": "x3d_xs"},
    "a two-pathway CNN": {"name": "slowfast_r50"},
    "a video transformer": {"name": "videomae"},
    "a text transformer": {"name": "minilm"},
}


def config_of(dataset: Path, output: Path, encoder: dict[str, Any], **settings: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": output,
            "model": {"name": "sasrec", "dim": 8, "dropout": 0.0},
            "encoder": encoder,
            "train": {"epochs": 1, "batch_size": 12, "lr": 1e-3, "device": "cpu", **settings},
        }
    )


def one_batch(run: Experiment, batch_size: int = 12) -> Batch:
    return next(train_batches(run.split, run.content, batch_size=batch_size, seed=1, epoch=0))


def loss_and_gradients(config: RunConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Of one step from the same weights; BatchNorm by its running statistics, which no cut into parts moves."""
    run = build_experiment(config)
    use_caches(run, Process())
    step = TrainingStep(run.model, torch.from_numpy(run.split.train_counts), settings=config.train).eval()
    loss = step(one_batch(run))
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in run.model.named_parameters() if value.grad is not None}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    scale = max(float(gradient.norm()) for gradient in one.values())
    for name, gradient in one.items():
        assert (other[name] - gradient).norm() <= tolerance * (gradient.norm() + 1e-3 * scale), name


@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_caching_equals_one_big_batch(video_dataset: Path, tmp_path: Path, network: str) -> None:
    pytest.importorskip("transformers", reason="the extra [encoders] is not installed")
    losses, gradients = zip(
        *(
            loss_and_gradients(config_of(video_dataset, tmp_path, NETWORKS[network], micro_batch=size))
            for size in (1000, 3)
        ),
        strict=True,
    )
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    assert len(gradients[0]) > 20
    assert_close(gradients[0], gradients[1], 1e-3)


@pytest.mark.parametrize("tune", ["frozen", "top1"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_cached_trunk_equals_one_that_is_run(video_dataset: Path, tmp_path: Path, network: str, tune: str) -> None:
    pytest.importorskip("transformers", reason="the extra [encoders] is not installed")
    encoder = {**NETWORKS[network], "tune": tune}
    losses, gradients = zip(
        *(loss_and_gradients(config_of(video_dataset, tmp_path, encoder, cache=cache)) for cache in (False, True)),
        strict=True,
    )
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)
    assert_close(gradients[0], gradients[1], 2e-2)  # the cache holds half precision


def test_batch_statistics_do_not_depend_on_the_memory_there_is(video_dataset: Path, tmp_path: Path) -> None:
    states = []
    for size in (1000, 3):
        run = build_experiment(config_of(video_dataset, tmp_path, {"name": "x3d_xs"}, micro_batch=size, norm_batch=5))
        trainer = Trainer(
            run.model, run.split, run.content, run.config.train,
            seed=1, folder=tmp_path, device=run.device, identity={},
        )  # fmt: skip
        for batch in train_batches(run.split, run.content, batch_size=12, seed=1, epoch=0):
            trainer.step(batch)
        states.append({name: value.float() for name, value in run.model.state_dict().items()})
    for name, value in states[0].items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_the_second_pass_is_told_the_device_whose_random_state_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch keeps the random states of the GPUs that arguments are on; without them the second pass drops others."""
    told: list[torch.device] = []

    def recorded(_: Any, *arguments: Any, **__: Any) -> Tensor:
        told.extend(argument.device for argument in arguments if isinstance(argument, Tensor))
        return torch.zeros(1, 4)

    monkeypatch.setattr(gradient_caching, "checkpoint", recorded)
    encoder = build_encoder({"name": "x3d_xs"}, {"dim": 4, "clip_shape": (2, 32)})
    model = SASRec(item_encoder=encoder, dim=4, history_length=3)
    gpu = torch.device("meta")  # stands for a device that is not the content's
    items = ItemBatch(items=torch.arange(3), content={"clips": torch.zeros(3, 2, 32, 32, 3, dtype=torch.uint8)})
    gradient_caching.encode_in_parts(model, items, gpu, micro_batch=1, norm_batch=1)
    assert told == [gpu] * 3


def test_parts_are_equal_and_few() -> None:
    assert list(equal_parts(10, 4)) == [(0, 3), (3, 6), (6, 10)]
    assert list(equal_parts(4, 4)) == [(0, 4)]
    assert list(equal_parts(0, 4)) == [(0, 0)]


def test_a_run_on_a_cache_reports_what_evaluating_it_finds(video_dataset: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(video_dataset, dataset, ignore=shutil.ignore_patterns("cache"))
    config = config_of(dataset, tmp_path / "run", {"name": "x3d_xs", "tune": "top1"})
    report = train(config)
    (cache,) = (dataset / "cache").iterdir()
    assert json.loads((cache / "provenance.json").read_text())["frozen_links"] == 4
    assert np.load(cache / "0.npy").dtype == np.float16
    assert load(config.output).evaluate()["metrics"] == report.metrics
    changed = (cache / "0.npy").stat().st_mtime_ns
    train(config, fresh=True)
    assert [path.name for path in (dataset / "cache").iterdir()] == [cache.name]
    assert (cache / "0.npy").stat().st_mtime_ns == changed
    other = config.model_copy(update={"seed": 7, "output": tmp_path / "other"})  # other random weights
    train(other)
    assert len(list((dataset / "cache").iterdir())) == 2


def test_items_without_a_kind_are_an_error_or_a_mask(video_dataset: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(video_dataset, dataset, ignore=shutil.ignore_patterns("cache"))
    (dataset / "covers.lmdb").unlink()
    without = Dataset(dataset).items.with_columns(covers=pl.lit(False))
    without.write_parquet(dataset / "items.parquet")
    with pytest.raises(InputError, match=r"14 of 14 items have no covers .* encoder.missing"):
        build_experiment(config_of(dataset, tmp_path, {"name": "resnet18", "missing": "mask"}))
    item_ids = np.append(np.arange(15), 999)  # an item nobody filmed
    opened = Dataset(video_dataset)
    with pytest.raises(InputError, match=r"1 of 15 items have no clips \(items 999\)"):
        ItemContent(opened, item_ids, frozenset({"clips"}))
    content = ItemContent(opened, item_ids, frozenset({"clips", "sound"}), may_lack=frozenset({"clips", "sound"}))
    read = content.read(np.array([3, 15]))
    assert read["clips.missing"].tolist() == read["sound.missing"].tolist() == [False, True]
    assert read["clips"][0].any()
    assert not read["clips"][1].any()
    assert content.read(np.array([15]))["clips"].shape == (1, 4, 32, 32, 3)


def squares(items: ItemBatch) -> tuple[Tensor, Tensor]:
    return items.items.float()[:, None] ** 2, items.items[:, None, None].repeat(1, 2, 3)


class Nothing(ItemContent):
    """Content of which nothing is read."""

    def __init__(self) -> None:
        self.reads = frozenset()

    def read(self, items: Any) -> dict[str, Tensor]:
        return {}


def rows_of(folder: Path, compute: Any = squares, num_items: int = 100, **options: Any) -> list[Rows]:
    return extract(compute, Nothing(), num_items, folder, {"of": "squares"}, device=torch.device("cpu"), **options)


def test_extraction_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microlens.training.extraction.SECONDS_BETWEEN_SYNCS", 0.0)
    seen: list[int] = []

    def failing(items: ItemBatch) -> tuple[Tensor, Tensor]:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(items))
        return squares(items)

    with pytest.raises(KeyboardInterrupt):
        rows_of(tmp_path / "rows", failing)
    assert not (tmp_path / "rows").exists()
    seen.clear()

    def counting(items: ItemBatch) -> tuple[Tensor, Tensor]:
        seen.append(len(items))
        return squares(items)

    values, repeated = rows_of(tmp_path / "rows", counting)
    assert sum(seen) == 100 - 2 * ITEMS_AT_ONCE
    np.testing.assert_array_equal(values.read(np.arange(100))[:, 0], np.arange(1, 101) ** 2)
    np.testing.assert_array_equal(repeated.read(np.array([9, 4]))[:, 1, 2], [10, 5])
    rows_of(tmp_path / "rows", None)  # what is there is read
    with pytest.raises(InputError, match="was made of something else"):
        extract(squares, Nothing(), 100, tmp_path / "rows", {"of": "cubes"}, device=torch.device("cpu"))
    assert {path.name for path in (tmp_path / "rows").iterdir()} == {"0.npy", "1.npy", "provenance.json"}


def test_unfinished_work_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    thesis = tmp_path / ".rows.partial" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    with pytest.raises(InputError, match=r"thesis\.txt was not written by microlens"):
        rows_of(tmp_path / "rows")
    assert [path.name for path in tmp_path.rglob("*")] == [".rows.partial", "thesis.txt"]


def test_extraction_refuses_what_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="item number 256 is NaN, infinite or beyond float16"):
        rows_of(tmp_path / "rows", num_items=300, half=True)  # 256 squared is the first beyond 65504
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match=r"needs [0-9.,]+ GB and the disk has"):
        rows_of(tmp_path / "other")


def test_rows_are_those_of_numpy(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float16)
    np.save(tmp_path / "saved.npy", values)
    with RowWriter(tmp_path / "written.npy", (7, 3, 2), np.float16) as writer:
        writer.write(4, values[4:])
        writer.write(0, values[:4])
    np.testing.assert_array_equal(np.load(tmp_path / "written.npy"), values)
    for name in ("saved", "written"):
        rows = Rows(tmp_path / f"{name}.npy")
        np.testing.assert_array_equal(rows.read(np.array([6, 0, 0])), values[[6, 0, 0]])
    whole = (tmp_path / "saved.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-1])
    np.save(tmp_path / "objects.npy", np.array([{}]))
    (tmp_path / "text.npy").write_text("no array")
    for name in ("short", "objects", "text", "nowhere"):
        with pytest.raises(InputError, match=rf"{name}\.npy (is|has|does not)"):
            Rows(tmp_path / f"{name}.npy")


def test_frozen_links_run_without_a_graph(video_dataset: Path, tmp_path: Path) -> None:
    run = build_experiment(config_of(video_dataset, tmp_path, {"name": "x3d_xs", "tune": "top1"}))
    encoder = run.model.item_encoder
    assert isinstance(encoder, ContentEncoder)
    state = encoder.frozen_state(one_batch(run).share)
    assert not any(tensor.requires_grad for tensor in state)
    assert isinstance(encoder.trunk.blocks[0], nn.Module)


# All users' 12 items in two equal parts, so that one network is compiled, for one shape.
COMPILED = {"name": "sound_cnn", "tune": "top1"}
FASTER = {"precision": "bf16", "compile": True, "channels_last": True}
COMPILED_ONCE = {"batch_size": 24, "micro_batch": 6, "cache": False}


def trainer_of(run: Experiment, folder: Path) -> Trainer:
    return Trainer(
        run.model, run.split, run.content, run.config.train, seed=1, folder=folder, device=run.device, identity={}
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inside torch.compile
def test_compilation_keeps_the_loss(video_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # its processes would each load PyTorch
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, real=torch.compile: compiled.append(1) or real(function))
    losses = {}
    for setting in (False, True):
        run = build_experiment(config_of(video_dataset, tmp_path, COMPILED, compile=setting, **COMPILED_ONCE))
        batch = one_batch(run, batch_size=24)
        assert list(equal_parts(len(batch.distinct), 6)) == [(0, 6), (6, 12)]
        losses[setting] = float(trainer_of(run, tmp_path).step(batch))
        assert len(compiled) == setting
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_channels_last_lays_out_the_weights_and_keeps_the_loss(video_dataset: Path, tmp_path: Path) -> None:
    losses = {}
    for setting in (False, True):
        run = build_experiment(config_of(video_dataset, tmp_path, {"name": "sound_cnn"}, channels_last=setting))
        trainer = trainer_of(run, tmp_path)
        last = [
            module.weight.is_contiguous(memory_format=torch.channels_last)
            for module in run.model.modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1) and module.in_channels > 1
        ]
        assert last
        assert set(last) == {setting}
        losses[setting] = float(trainer.step(one_batch(run)))
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_a_loss_that_is_not_finite_ends_the_run_in_one_sentence(video_dataset: Path, tmp_path: Path) -> None:
    config = config_of(video_dataset, tmp_path / "run", {"name": "id"})
    run = build_experiment(config)
    with torch.no_grad():
        next(run.model.parameters()).fill_(float("nan"))
    trainer = Trainer(
        run.model, run.split, run.content, config.train, seed=0, folder=tmp_path, device=run.device, identity={}
    )
    with pytest.raises(InputError, match=r"The loss is nan in epoch 1, step 1; try a smaller train.lr"):
        trainer.step(one_batch(run))


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {**FASTER, **COMPILED_ONCE}])
def test_a_whole_run_with_what_makes_steps_faster(
    video_dataset: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A sound encoder under torch.compile, and convolutions over time in bfloat16, up to the report with its costs."""
    encoder = COMPILED if "compile" in settings else {"name": "slowfast_r50"}
    report = train(config_of(video_dataset, tmp_path / "run", encoder, **settings))
    assert report.cost["multiply_adds_per_item"] > 0
    assert load(tmp_path / "run").evaluate()["metrics"] == report.metrics
