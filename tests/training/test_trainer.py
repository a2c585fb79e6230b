"""The training step, resuming, and several processes."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch.nn import functional

from microlens.cli import main
from microlens.config.run_config import RunConfig
from microlens.data.batches import Process, prefetch, train_batches
from microlens.data.prepare import prepare
from microlens.encoders.base import ContentGroup
from microlens.errors import InputError
from microlens.evaluation.report import Report, read_ranks
from microlens.files.run_manifest import BEST, replaced
from microlens.media.decoding import Settings
from microlens.runs.assembly import build_experiment
from microlens.runs.run import load
from microlens.runs.train import new_trainer, train
from microlens.training import checkpoint, row_adamw
from microlens.training import trainer as trainer_module
from microlens.training.trainer import Trainer
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import run_command
from tests.processes import PythonProcess

MakeDataset = Callable[[list[list[int]]], Path]

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def config_of(dataset: Path, name: str = "run", **sections: Any) -> RunConfig:
    settings = {"epochs": 3, "batch_size": 16, "lr": 1e-2, "device": "cpu", **sections.pop("train", {})}
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": dataset.parent / name,
            "model": {"name": "sasrec", "dim": 8, **sections.pop("model", {})},
            "encoder": {"name": "id"},
            "train": settings,
            **sections,
        }
    )


def trainer_of(config: RunConfig) -> Trainer:
    run = build_experiment(config)
    return Trainer(
        run.model, run.split, run.content, config.train,
        seed=config.seed, folder=config.output, device=run.device, identity=run.identity,
    )  # fmt: skip


def batches(trainer: Trainer, epoch: int = 0, skip: int = 0) -> list[Any]:
    size = trainer.settings.batch_size
    return list(train_batches(trainer.split, trainer.content, batch_size=size, seed=1, epoch=epoch, skip=skip))


@pytest.mark.parametrize(("items", "by_rows"), [(20, False), (3000, True)])
def test_step_equals_a_step_written_by_hand(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, items: int, by_rows: bool
) -> None:
    monkeypatch.setattr(row_adamw, "SMALLEST", 0)
    settings = {"clip_norm": 0.5, "batch_size": 2 if by_rows else 16}
    config = config_of(make_dataset(random_sequences(40, items)), model={"dropout": 0.0}, train=settings)
    ours, theirs = trainer_of(config), trainer_of(config)
    theirs.model.item_encoder.table.before_reading = None
    optimizer = torch.optim.AdamW(theirs.model.parameters(), lr=1e-2, weight_decay=0.1)
    for batch in batches(ours):
        loss = ours.step(batch)
        expected = theirs.step_module(batch)
        optimizer.zero_grad()
        expected.backward()
        torch.nn.utils.clip_grad_norm_(theirs.model.parameters(), 0.5)
        optimizer.step()
        torch.testing.assert_close(loss, expected.detach())
    assert (ours.model.item_encoder.table.before_reading is not None) == by_rows
    ours.optimizer.catch_up()
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_parameters_that_see_content_have_their_own_rate_and_no_decay(make_dataset: MakeDataset) -> None:
    trainer = trainer_of(config_of(make_dataset(random_sequences(40, 20)), train={"encoder_lr": 3e-4}))
    table = trainer.model.item_encoder.table
    trainer.model.item_encoder.content_groups = lambda: [ContentGroup([table])]
    others, content = trainer._parameter_groups()
    assert content["params"] == [table]
    assert (content["lr"], content["weight_decay"]) == (3e-4, 0.0)
    assert (others["lr"], others["weight_decay"]) == (1e-2, 0.1)
    assert len(others["params"]) + 1 == len(list(trainer.model.parameters()))


def test_every_user_is_in_an_epoch_once_and_in_another_order_in_the_next(make_dataset: MakeDataset) -> None:
    trainer = trainer_of(config_of(make_dataset(random_sequences(50, 20))))
    first, second = (torch.cat([batch.users for batch in batches(trainer, epoch)]).tolist() for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    rest = torch.cat([batch.users for batch in batches(trainer, 0, skip=2)]).tolist()
    assert rest == first[32:]


def test_a_batch_names_each_item_once_and_where_it_stands(make_dataset: MakeDataset) -> None:
    trainer = trainer_of(config_of(make_dataset(random_sequences(50, 20))))
    for batch in batches(trainer):
        with_padding = functional.pad(batch.distinct, (0, 1))
        assert torch.equal(with_padding[batch.slots], batch.sequence)
        assert len(batch.distinct.unique()) == len(batch.distinct)
        assert batch.counts.tolist() == [int((batch.sequence == item).sum()) for item in batch.distinct]
        assert batch.num_targets == int((batch.targets > 0).sum())


def test_reading_ahead_keeps_order_and_hands_errors_on() -> None:
    assert list(prefetch(range(20), 3)) == list(range(20))

    def failing() -> Any:
        yield 1
        raise InputError("broken")

    values = prefetch(failing(), 2)
    assert next(values) == 1
    with pytest.raises(InputError, match="broken"):
        next(values)


def assert_same_numbers(one: Report, other: Report) -> None:
    assert one.metrics == other.metrics
    assert one.intervals == other.intervals
    assert one.cost["best_epoch"] == other.cost["best_epoch"]


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle."""


@pytest.mark.parametrize(("stop_after", "items"), [(1, 25), (4, 25), (7, 25), (40, 3000)])
def test_a_resumed_run_ends_in_the_same_weights(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, stop_after: int, items: int
) -> None:
    """Stopped in the middle of an epoch, after a checkpoint there, the rest is the same bit for bit."""
    monkeypatch.setattr(row_adamw, "SMALLEST", 0)
    dataset = make_dataset(random_sequences(60, items))
    settings = {"batch_size": 16 if items < 100 else 2}
    whole = train(config_of(dataset, "whole", train=settings))
    config = config_of(dataset, "stopped", train={**settings, "checkpoint_minutes": 1e-9})
    steps = 0
    original = Trainer.step

    def step(self: Trainer, batch: Any) -> Any:
        nonlocal steps
        if steps == stop_after:
            raise StoppedError
        steps += 1
        return original(self, batch)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(StoppedError):
        train(config)
    monkeypatch.setattr(Trainer, "step", original)
    resumed = train(config)
    assert_same_numbers(whole, resumed)
    lines = [
        [json.loads(line) for line in (dataset.parent / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "stopped")
    ]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    weights = [
        (dataset.parent / name / "checkpoints" / "best.safetensors").read_bytes() for name in ("whole", "stopped")
    ]
    assert weights[0] == weights[1]


def write_config(config: RunConfig, folder: Path) -> Path:
    path = folder / "config.toml"
    path.write_text(config.toml())
    return path


@pytest.mark.slow
def test_kill_9_in_the_middle_and_the_same_command_again(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(400, 60))
    settings = {"epochs": 12, "patience": 12, "batch_size": 8}
    whole = train(config_of(dataset, "whole", train=settings))
    config = config_of(dataset, "killed", train=settings)
    path = str(write_config(config, dataset))
    process = PythonProcess(["-m", "microlens", "train", path])  # one thread: sums over several round differently
    metrics = config.output / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (config.output / "report.json").exists(), "the run ended before it was killed"
    status, _, said = run_command("train", path, "--resume")
    assert status == 0, said
    assert_same_numbers(whole, Report.read(config.output))


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one(make_dataset: MakeDataset) -> None:
    """The same global batches, the same losses and the same ranks, with negatives from both processes."""
    dataset = make_dataset(random_sequences(61, 25))
    settings = {"checkpoint_minutes": 1e-9}  # the processes also have to agree on when to save
    runs = {name: config_of(dataset, name, model={"dropout": 0.0}, train=settings) for name in ("one", "two")}
    train(runs["one"])
    train_in_two_processes(runs["two"], dataset, TORCHRUN)
    one, two = (
        [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]
        for config in runs.values()
    )
    np.testing.assert_allclose([line["loss"] for line in two], [line["loss"] for line in one], rtol=0, atol=1e-5)
    reports = [Report.read(config.output) for config in runs.values()]
    for metric, value in reports[0].metrics["test"]["all"].items():
        assert reports[1].metrics["test"]["all"][metric] == pytest.approx(value, abs=0.02)
    assert reports[1].cost["processes"] == 2


def train_in_two_processes(config: RunConfig, folder: Path, launcher: tuple[str, ...] = ()) -> None:
    """``microlens train`` twice, with the environment that torchrun gives; or by ``launcher``."""
    command = ["-m", "microlens", "train", str(write_config(config, folder))]
    if launcher:
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launcher, *command], check=True, capture_output=True, env=one_thread)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [PythonProcess(command, environment={**group, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]
    said = [process.communicate() for process in processes]
    assert [process.wait() for process in processes] == [0, 0], said


@pytest.mark.slow
def test_processes_may_keep_to_their_own_negatives(make_dataset: MakeDataset) -> None:
    """Each process then has the loss of its own users' batch, and the step is their mean."""
    dataset = make_dataset(random_sequences(61, 25))
    settings = {"epochs": 1, "batch_size": 61, "negatives": "own-process"}
    config = config_of(dataset, model={"dropout": 0.0}, train=settings)
    train_in_two_processes(config, dataset)
    line = json.loads((config.output / "metrics.jsonl").read_text())
    trainer = trainer_of(config)
    losses = []
    for rank in range(2):
        (batch,) = train_batches(
            trainer.split,
            trainer.content,
            batch_size=61,
            seed=config.seed,
            epoch=0,
            process=Process(rank, 2),
            alone=True,
        )
        assert len(batch.users) == 31 - rank
        losses.append(float(trainer.step_module(batch).detach()))
    assert line["loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)


@pytest.mark.slow
def test_two_processes_share_a_trunk_cache_and_gradient_caching(video_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra [encoders] is not installed")
    dataset = tmp_path / "dataset"
    shutil.copytree(video_dataset, dataset, ignore=shutil.ignore_patterns("cache"))
    losses = []
    for name in ("two", "one"):  # the first makes the cache
        config = config_of(
            dataset,
            name,
            model={"dropout": 0.0},
            encoder={"name": "videomae", "tune": "top1"},
            train={"epochs": 1, "batch_size": 12, "lr": 1e-3, "micro_batch": 3},
        )
        if name == "two":
            train_in_two_processes(config, tmp_path)
        else:
            train(config)
        losses.append(json.loads((config.output / "metrics.jsonl").read_text())["loss"])
    assert len(list((dataset / "cache").iterdir())) == 1
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("writes_before", [0, 2, 5])
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], writes_before: int
) -> None:
    dataset = make_dataset(random_sequences(60, 25))
    undisturbed = train(config_of(dataset, "undisturbed"))
    config = config_of(dataset, "disturbed")
    monkeypatch.setattr(sys, "argv", ["microlens", "train", str(write_config(config, dataset))])
    left = writes_before
    original, save_file = Path.write_bytes, checkpoint.save_file

    def write_bytes(self: Path, content: bytes) -> int:
        nonlocal left
        if left == 0:
            original(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        left -= 1
        return original(self, content)

    def save(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal left
        save_file(tensors, path, metadata)
        if left == 0:
            os.truncate(path, path.stat().st_size // 2)
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        left -= 1

    with monkeypatch.context() as full_disk:
        full_disk.setattr(Path, "write_bytes", write_bytes)
        full_disk.setattr(checkpoint, "save_file", save)
        with pytest.raises(SystemExit, match="2"):
            main()
    sentence = capsys.readouterr().err
    assert sentence.startswith("microlens: no space left on the disk; free some and run the same command again")
    assert not list(config.output.rglob("*partial*"))
    with pytest.raises(SystemExit, match="0"):
        main()
    assert_same_numbers(undisturbed, Report.read(config.output))


def test_a_finished_run_is_read_and_not_trained_again(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(make_dataset(random_sequences(40, 20)))
    first = train(config)
    monkeypatch.setattr(Trainer, "step", None)
    assert_same_numbers(first, train(config))


def test_a_run_folder_of_another_configuration_is_refused_unless_fresh(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(40, 20))
    train(config_of(dataset))
    other = config_of(dataset, train={"lr": 2e-2})
    with pytest.raises(InputError, match=r"another configuration \(train.lr was 0.01, now 0.02\)"):
        train(other)
    assert train(other, fresh=True).provenance["config_hash"] == other.hash


def test_evaluate_finds_the_numbers_of_the_report(make_dataset: MakeDataset) -> None:
    config = config_of(make_dataset(random_sequences(80, 30)))
    report = train(config)
    assert load(config.output).evaluate()["metrics"] == report.metrics
    ranks = read_ranks(config.output)["test"][0]
    assert report.metrics["test"]["all"]["HR@10"] == pytest.approx((ranks <= 10).mean())


def test_the_checkpoint_of_another_model_is_refused(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(40, 20))
    small, large = config_of(dataset, "small"), config_of(dataset, "large", model={"dim": 16})
    train(small)
    train(large)
    for content, sentence in (
        ((large.output / BEST).read_bytes(), "is the checkpoint of another model"),
        (b"not a checkpoint", "damaged or not a checkpoint"),
    ):
        with replaced(small.output, BEST) as path:
            path.write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            load(small.output).evaluate()


@pytest.mark.parametrize("smallest", [0, row_adamw.SMALLEST])
def test_mixed_precision_trains(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, smallest: int) -> None:
    monkeypatch.setattr(row_adamw, "SMALLEST", smallest)
    monkeypatch.setattr(row_adamw, "DENSE_SHARE", 1.0)
    dataset = make_dataset(random_sequences(60, 25))
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        train(config_of(dataset, precision, model={"dropout": 0.0}, train={"precision": precision}))
        lines = (dataset.parent / precision / "metrics.jsonl").read_text().splitlines()
        losses[precision] = [json.loads(line)["loss"] for line in lines]
    for half in ("bf16", "fp16"):
        assert losses[half] != losses["fp32"]
        np.testing.assert_allclose(losses[half], losses["fp32"], rtol=0.02)


def test_a_step_whose_gradients_overflow_is_skipped(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_adamw, "SMALLEST", 0)
    monkeypatch.setattr(row_adamw, "DENSE_SHARE", 1.0)
    config = config_of(make_dataset(random_sequences(60, 25)), train={"precision": "fp16"})
    trainer = trainer_of(config)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.step(next(trainer.batches()))
    assert trainer.scaler.get_scale() < 2.0**126
    for name, tensor in trainer.model.state_dict().items():
        assert tensor.equal(before[name])


def test_a_run_starts_from_another_whose_items_are_others(make_dataset: MakeDataset, tmp_path: Path) -> None:
    source = config_of(make_dataset(random_sequences(40, 20)), "source")
    train(source)
    best = source.output / "checkpoints" / "best.safetensors"
    others = write_pairs(tmp_path / "target" / "release", random_sequences(50, 30, seed=1))
    prepare(others, tmp_path / "target" / "dataset", Settings())
    config = config_of(tmp_path / "target" / "dataset", train={"start_from": best, "epochs": 1})
    assert config.hash != config_of(config.dataset, train={"epochs": 1}).hash

    expected = build_experiment(source).model.state_dict()
    checkpoint.load_model(trained := build_experiment(source).model, checkpoint.load(best)[0], best)
    started = build_experiment(config).model
    ids = started.item_encoder.state_dict()
    checkpoint.start_from(started, best)
    for name, tensor in started.state_dict().items():
        if name.startswith("item_encoder."):
            assert tensor.equal(ids[name.removeprefix("item_encoder.")])
        else:
            assert tensor.equal(trained.state_dict()[name])
    assert any(not tensor.equal(expected[name]) for name, tensor in trained.state_dict().items())
    assert train(config).cost["epochs"] == 1


def test_a_start_that_does_not_fit_is_refused(make_dataset: MakeDataset, tmp_path: Path) -> None:
    source = config_of(make_dataset(random_sequences(40, 20)), "source", train={"epochs": 1})
    train(source)
    best = source.output / "checkpoints" / "best.safetensors"
    for message, sections in (
        ("which does not exist", {"train": {"start_from": tmp_path / "none.safetensors"}}),
        ("folder; it takes RUN/checkpoints/best", {"train": {"start_from": source.output}}),
        ("damaged or no checkpoint", {"train": {"start_from": source.output / "report.json"}}),
        ("a checkpoint of another model", {"train": {"start_from": best}, "model": {"dim": 16}}),
        ("this model has a vector per user", {"train": {"start_from": best}, "model": {"name": "lightgcn"}}),
    ):
        config = config_of(source.dataset, message.split()[0], **sections)
        with pytest.raises(InputError, match=message):
            train(config)
        # Nothing was trained, so the folder is free for the corrected configuration.
        corrected = config.model_copy(update={"train": config.train.model_copy(update={"start_from": None})})
        assert train(corrected).cost["epochs"]


def test_the_metric_of_train_select_decides_which_epoch_is_the_best(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(random_sequences(60, 25))
    rising, falling = [0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1]
    for select, stop, best in (("HR@10", 5, 5), ("NDCG@20", 3, 1)):
        names = ("HR@10", "NDCG@10", "HR@20", "NDCG@20")
        values = iter(
            [
                {name: one if name == "HR@10" else two for name in names}
                for one, two in zip(rising, falling, strict=True)
            ]
        )
        monkeypatch.setattr(trainer_module, "all_metrics", lambda *_, values=values: next(values))
        trainer = trainer_of(config_of(dataset, select[:2], train={"select": select, "epochs": 5, "patience": 2}))
        trainer.fit(lambda *_: None, lambda _: None)
        # Patience of two: the second epoch without a better value is the last.
        assert (trainer.progress.epoch, trainer.progress.best_epoch) == (stop, best)


def test_processes_draw_different_random_numbers(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build_experiment(config_of(make_dataset(random_sequences(60, 25))))
    monkeypatch.setattr(trainer_module, "DistributedDataParallel", lambda module: module)
    drawn = []
    for rank in (0, 1):
        new_trainer(run, Process(rank, 2))
        drawn.append(torch.rand(4))
    assert not drawn[0].equal(drawn[1])
