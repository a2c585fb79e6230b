"""Logging with other services: what they get, and that none of them can end a training."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.runs.train import train
from tests.conftest import random_sequences
from tests.training.test_trainer import config_of

MakeDataset = Callable[[list[list[int]]], Path]


class Recorder:
    """A stand-in for both packages that notes every call, and fails from the call named on."""

    def __init__(self, fails_at: str = "") -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.fails_at = fails_at

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> "Recorder":
            self.calls.append((name, arguments, named))
            if name == self.fails_at:
                raise ConnectionError("no network")
            return self

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, named) for called, arguments, named in self.calls if called == name]


def tracked_run(make_dataset: MakeDataset, **track: str) -> RunConfig:
    return config_of(make_dataset(random_sequences(40, 20)), track=track, train={"epochs": 2})


def test_both_services_get_every_epoch(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb, mlflow = Recorder(), Recorder()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    config = tracked_run(make_dataset, wandb="videos", mlflow="videos")
    report = train(config)
    ((_, begun),) = wandb.named("init")
    assert (begun["project"], begun["config"]["model.name"]) == ("videos", "sasrec")
    assert [named["step"] for _, named in wandb.named("log")] == [1, 2]
    assert [named["step"] for _, named in mlflow.named("log_metrics")] == [1, 2]
    best = max(arguments[0]["valid/HR@10"] for arguments, _ in wandb.named("log"))
    assert best == report.metrics["valid"]["all"]["HR@10"]
    assert set(mlflow.named("log_metrics")[0][0][0]) >= {"loss/train", "valid/HR_at_10"}
    assert mlflow.named("set_experiment") == [(("videos",), {})]
    assert wandb.calls[-1][0] == "finish"
    assert mlflow.calls[-1][0] == "end_run"


def test_a_resumed_run_goes_on_under_its_id_and_others_have_their_own(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = tracked_run(make_dataset, wandb="videos")
    again = config.model_copy(update={"output": config.output.with_name("again")})
    assert again.hash == config.hash

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wandb, "calls", calls := [])
        patch.setattr("microlens.runs.train.load_best", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    train(config)
    train(again)
    train(config, fresh=True)
    (first,) = (named["id"] for called, _, named in calls if called == "init")
    resumed, other, fresh = (named["id"] for _, named in wandb.named("init"))
    assert resumed == first
    assert len({first, other, fresh}) == 3


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_a_run_of_a_service_that_fails_is_ended(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    recorder = Recorder({"wandb": "log", "mlflow": "log_metrics"}[service])
    monkeypatch.setitem(sys.modules, service, recorder)
    with pytest.warns(UserWarning, match="no longer used"):
        train(tracked_run(make_dataset, **{service: "videos"}))
    assert recorder.calls[-1][0] == {"wandb": "finish", "mlflow": "end_run"}[service]


def test_no_service_is_begun_if_another_is_not_installed(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="mlflow is not installed"):
        train(tracked_run(make_dataset, wandb="videos", mlflow="videos"))
    assert wandb.calls == []


@pytest.mark.parametrize("fails_at", ["init", "log", "finish"])
def test_a_service_that_fails_ends_no_training(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, fails_at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb = Recorder(fails_at)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    report = train(tracked_run(make_dataset, wandb="videos"), progress=True)
    assert report.cost["epochs"] == 2
    assert capsys.readouterr().out.count("wandb failed and is no longer used: no network") == 1
    assert len(wandb.named(fails_at)) == 1


def test_a_service_without_its_package_is_named(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"track\.mlflow is set, but mlflow is not installed"):
        train(tracked_run(make_dataset, mlflow="videos"))


def test_where_a_run_is_logged_is_not_in_its_hash() -> None:
    config = RunConfig.model_validate({"dataset": "d", "output": "o", "model": {"name": "popularity"}})
    assert RunConfig.model_validate({**config.model_dump(), "track": {"wandb": "p"}}).hash == config.hash
    assert "track" not in config.toml()
