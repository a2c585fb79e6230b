"""What a dry run says of the cost of a run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.evaluation import ranking
from microlens.runs import dry_run
from microlens.runs.assembly import build_experiment
from microlens.runs.train import train, trainer_of
from tests.conftest import random_sequences
from tests.data.test_prepare import run_command

MakeDataset = Callable[[list[list[int]]], Path]


def config_of(dataset: Path, **tables: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": dataset.parent / "run",
            "model": {"name": "sasrec", "dim": 8},
            "encoder": {"name": "id"},
            "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
            **tables,
        }
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "STEPS", 6)
    monkeypatch.setattr(dry_run, "SECONDS", 0.0)


def test_the_counts_are_those_of_the_trained_run_and_nothing_of_it_is_written(
    make_dataset: MakeDataset, quick: None
) -> None:
    config = config_of(make_dataset(random_sequences(30, 12)))
    (cost,) = dry_run.dry_run(config).values()
    assert not config.output.exists()
    measured = train(config)
    for name in ("parameters", "trainable_parameters", "flops_per_step", "device"):
        assert getattr(cost, name) == measured.cost[name]
    assert cost.steps_per_epoch == 4
    assert cost.most_epochs == 1


def test_seconds_are_those_of_all_steps_and_of_all_validation_targets(
    make_dataset: MakeDataset, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by a second for every step, by three for every chunk of users and by five for the items."""
    seconds = 0.0

    def slow(function: Callable[..., object], cost: float) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            nonlocal seconds
            seconds += cost
            return function(*arguments, **options)

        return run

    monkeypatch.setattr(dry_run.Trainer, "step", slow(dry_run.Trainer.step, 1.0))
    monkeypatch.setattr(ranking, "user_states", slow(ranking.user_states, 3.0))
    monkeypatch.setattr(dry_run, "encode_catalogue", slow(dry_run.encode_catalogue, 5.0))
    for module in (ranking, dry_run):
        monkeypatch.setattr(module, "USERS_AT_ONCE", 5)
    config = config_of(make_dataset(random_sequences(30, 12)))
    (cost,) = dry_run.dry_run(config, lambda: seconds).values()
    assert cost.training_seconds == pytest.approx(4.0)
    assert cost.validation_seconds == pytest.approx(5.0 + 3.0 * 30 / 5)
    assert cost.seconds_per_epoch == pytest.approx(4.0 + 23.0)


def test_what_training_would_refuse_is_refused(make_dataset: MakeDataset, tmp_path: Path, quick: None) -> None:
    dataset = make_dataset(random_sequences(30, 12))
    missing = {"epochs": 1, "device": "cpu", "start_from": tmp_path / "none.safetensors"}
    for config, told in (
        (config_of(dataset, train=missing), "which does not exist"),
        (config_of(dataset, output=dataset / "run"), "which is inside the dataset"),
    ):
        with pytest.raises(InputError, match=told):
            dry_run.dry_run(config)
        with pytest.raises(InputError, match=told):
            train(config)


def test_an_interrupted_run_in_the_folder_is_left_alone(make_dataset: MakeDataset, quick: None) -> None:
    config = config_of(make_dataset(random_sequences(30, 12)))
    config.output.mkdir()
    trainer, _ = trainer_of(build_experiment(config))
    trainer.progress.step = trainer.steps_per_epoch  # killed before its validation: no batch of the epoch is left
    trainer.save()
    files = {path: path.stat().st_mtime_ns for path in config.output.rglob("*")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dry_run.Trainer, "resume", lambda _: pytest.fail("the run was resumed"))
        (cost,) = dry_run.dry_run(config).values()
    assert cost.steps_per_epoch == 4
    assert {path: path.stat().st_mtime_ns for path in config.output.rglob("*")} == files


def test_a_fusion_is_the_cost_of_its_parts(make_dataset: MakeDataset, quick: None) -> None:
    dataset = make_dataset(random_sequences(30, 12))
    sasrec = {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "id"}, "train": {"device": "cpu"}}
    config = config_of(
        dataset, model={"name": "fusion"}, encoder=None, parts=[sasrec, {"model": {"name": "co_visitation"}}]
    )
    costs = dry_run.dry_run(config)
    assert list(costs) == ["0-sasrec", "1-co_visitation", "run"]
    assert [cost.steps_per_epoch for cost in costs.values()] == [1, 0, 0]


def test_the_command_prints_the_cost(
    make_dataset: MakeDataset, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(make_dataset(random_sequences(30, 12)))
    path = config.output.parent / "config.toml"
    path.write_text(config.toml())
    status, out, _ = run_command("train", str(path), "--dry-run")
    assert status == 0
    assert "steps an epoch" in out
    assert f"microlens train {path}" in out.replace("\n", "")
    assert not config.output.exists()
