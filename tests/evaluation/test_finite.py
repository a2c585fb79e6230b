"""NaN and infinity: refused as settings, as weights, and before they win a ranking."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from microlens.building import build
from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.encoders.finite import all_finite, broken_weight
from microlens.encoders.weights import load_weights
from microlens.errors import InputError
from microlens.evaluation.ranking import rank_targets
from microlens.files.run_manifest import BEST, LAST, REPORT, replaced
from microlens.media.decoding import Settings
from microlens.page.run_page import write_page
from microlens.recommenders.ease import EASE
from microlens.recommenders.sasrec import SASRec
from microlens.runs.assembly import Experiment, build_experiment, open_experiment
from microlens.runs.list_metrics import recommended_lists, summarise
from microlens.runs.recommend import Ranker
from microlens.runs.run import load
from microlens.runs.train import evaluate, train
from microlens.training import checkpoint
from microlens.training.trainer import Trainer
from tests.conftest import random_sequences, write_pairs

NAN, INFINITY = math.nan, math.inf


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 users and 40 items, whose ids are a hundred more than their numbers."""
    folder = tmp_path_factory.mktemp("finite")
    sequences = [[100 + item for item in sequence] for sequence in random_sequences(60, 40)]
    prepare(write_pairs(folder / "release", sequences), folder / "dataset", Settings())
    return folder / "dataset"


def config_of(dataset: Path, output: Path, model: str = "sasrec", **settings: Any) -> RunConfig:
    sections: dict[str, Any] = {"dataset": dataset, "output": output, "model": {"name": model}}
    if model not in ("ease", "markov"):
        sections["model"]["dim"] = 8
        sections["encoder"] = {"name": "id"}
    sections["train"] = {"epochs": 2, "batch_size": 32, "lr": 1e-2, "device": "cpu", **settings}
    return RunConfig.model_validate(sections)


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([1.0, -2.0], True),
        ([3e38, 3e38], True),  # their sum is beyond float32
        ([NAN, 1.0], False),
        ([INFINITY, 1.0], False),
        ([INFINITY, -INFINITY], False),
        ([], True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_finite(values: list[float], finite: bool, dtype: torch.dtype) -> None:
    assert all_finite(torch.tensor(values, dtype=dtype)) is finite


def test_the_broken_one_of_parameters_and_buffers_is_named() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert broken_weight(module) is None
    module[1].running_var[1] = INFINITY
    assert broken_weight(module) == "1.running_var"
    module[0].bias.data[0] = NAN
    assert broken_weight(module) == "0.bias"


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("train.lr", "train.lr"),
        ("train.encoder_lr", "train.encoder_lr"),
        ("train.weight_decay", "train.weight_decay"),
        ("train.clip_norm", "train.clip_norm"),
        ("train.gbce_calibration", "train.gbce_calibration"),
        ("train.checkpoint_minutes", "train.checkpoint_minutes"),
        ('tune."train.lr".low', "tune.train.lr.low"),
        ('tune."train.lr".high', "tune.train.lr.high"),
    ],
)
def test_settings_that_are_not_finite_are_refused(tmp_path: Path, name: str, shown: str, value: str) -> None:
    section, _, key = name.rpartition(".")
    path = tmp_path / "config.toml"
    path.write_text(f'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\n[{section}]\n{key} = {value}\n')
    if value == "1e400":
        value = "inf"
    with pytest.raises(InputError, match=rf"{shown} is {value}; it must be a finite number\."):
        RunConfig.load(path)


@pytest.mark.parametrize("value", [INFINITY, NAN])
def test_options_of_models_that_are_not_finite_are_refused(dataset: Path, tmp_path: Path, value: float) -> None:
    config = config_of(dataset, tmp_path / "run")
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": value})})
    with pytest.raises(InputError, match=rf"model\.dropout is {value}; it must be a finite number"):
        build_experiment(config)
    with pytest.raises(InputError, match=rf"model\.regularization is {value}; it must be a finite number"):
        build(EASE, {"regularization": value}, {"num_items": 5}, "model")


def break_weights(run: Path, name: str, value: float) -> None:
    """Put a number into a tensor of the best checkpoint, as a training of before might have."""
    tensors, facts = checkpoint.load(run / BEST)
    tensors[f"model.{name}"].flatten()[3] = value
    with replaced(run, BEST) as path:
        checkpoint.save(path, tensors, facts)


def explode_at(monkeypatch: pytest.MonkeyPatch, step: int, value: float = NAN) -> None:
    """The loss of the ``step``-th step, from 1, is a number like the others; what the step leaves behind is not."""
    original, steps = Trainer.step, 0

    def explode(self: Trainer, batch: Any) -> Any:
        nonlocal steps
        loss, steps = original(self, batch), steps + 1
        if steps == step:
            next(iter(self.model.parameters())).data[2, 1] = value
        return loss

    monkeypatch.setattr(Trainer, "step", explode)


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_the_last_step_of_an_epoch_is_looked_at(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    config = config_of(dataset, tmp_path / "run")
    saved: dict[str, bytes] = {}
    original = Trainer.fit

    def fit(self: Trainer, on_step: Any, on_epoch: Callable[[dict[str, Any]], None]) -> None:
        def note(line: dict[str, Any]) -> None:
            saved.update({name: (config.output / name).read_bytes() for name in (BEST, LAST)})
            on_epoch(line)

        original(self, on_step, note)

    monkeypatch.setattr(Trainer, "fit", fit)
    explode_at(monkeypatch, 4, value)
    with pytest.raises(InputError, match=r"weights 'positions' are NaN or infinite in epoch 2, after step 2; t"):
        train(config)
    assert {name: (config.output / name).read_bytes() for name in (BEST, LAST)} == saved
    assert checkpoint.load_facts(config.output / BEST)["epoch"] == 1
    assert not (config.output / REPORT).exists()
    assert evaluate(open_experiment(config.output))["metrics"]["test"]["all"]["HR@10"] <= 1
    monkeypatch.undo()
    assert train(config).cost["epochs"] == 2  # the rest from where it was


def test_a_broken_weight_is_not_kept_in_the_middle_of_an_epoch(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(dataset, tmp_path / "run", checkpoint_minutes=1e-9)
    explode_at(monkeypatch, 3)
    with pytest.raises(InputError, match=r"in epoch 2, after step 1; try a smaller train\.lr"):
        train(config)
    assert checkpoint.load_facts(config.output / LAST)["progress"]["epoch"] == 1
    monkeypatch.undo()
    assert train(config).cost["epochs"] == 2


def test_a_rate_beyond_all_reason_gives_no_report(dataset: Path, tmp_path: Path) -> None:
    for rate in (1e20, 1e38, 1e300):
        config = config_of(dataset, tmp_path / f"{rate}", lr=rate)
        with pytest.raises(InputError, match=r"NaN|nan|infinite|inf"):
            train(config)
        assert not (config.output / REPORT).exists()


@pytest.fixture(scope="module")
def trained(dataset: Path) -> Path:
    output = dataset.parent / "trained"
    train(config_of(dataset, output))
    return output


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_a_checkpoint_with_a_broken_weight_is_read_by_nothing(
    dataset: Path, trained: Path, tmp_path: Path, value: float
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    break_weights(run, "norm.weight", value)
    for read in (
        lambda folder: load(folder).evaluate(),
        summarise,
        lambda folder: load(folder).recommend([1]),
        lambda folder: write_page(tmp_path / "page.html", [folder]),
        lambda folder: train(config_of(dataset, tmp_path / "next", start_from=folder / BEST)),
    ):
        with pytest.raises(InputError, match=rf"the weights 'norm\.weight' of {run / BEST} are NaN or infinite"):
            read(run)
    assert not (tmp_path / "page.html").exists()


def test_what_is_fitted_at_once_is_looked_at_too(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = EASE.fit

    def fit(self: EASE, split: Any) -> None:
        original(self, split)
        self.weights[2, 3] = NAN

    monkeypatch.setattr(EASE, "fit", fit)
    config = config_of(dataset, tmp_path / "run", "ease")
    with pytest.raises(InputError, match=r"the weights 'weights' of .* are NaN or infinite"):
        train(config)
    assert not (config.output / BEST).exists()


def ranked(run: Experiment) -> np.ndarray:
    return rank_targets(run.model, run.content, run.split, "test", run.device)


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_an_item_whose_vector_is_broken_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """By its id; such an item would come first everywhere, or take others' places."""
    run = open_experiment(trained)
    original = type(run.model).encode_items

    def encode(self: SASRec, items: Any) -> torch.Tensor:
        vectors = original(self, items).clone()
        vectors[items.items == 7, 2] = value
        return vectors

    monkeypatch.setattr(type(run.model), "encode_items", encode)
    sentence = f"the vector of item {run.item_ids()[7]} is NaN or infinite"
    for rank in (ranked, Ranker, recommended_lists):
        with pytest.raises(InputError, match=sentence):
            rank(run)


def test_a_user_whose_vector_is_broken_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_experiment(trained)
    original = type(run.model).last_states

    def last_states(self: SASRec, users: torch.Tensor, history: Any, vectors: Any) -> torch.Tensor:
        states = original(self, users, history, vectors).clone()
        states[users == 5, 2] = NAN
        return states

    ranker = Ranker(run)
    monkeypatch.setattr(type(run.model), "last_states", last_states)
    for rank in (ranked, recommended_lists, lambda run: ranker.scores(np.array([3, 4]), user=5)):
        with pytest.raises(InputError, match="the vector of user number 5 is NaN or infinite"):
            rank(run)


@pytest.mark.parametrize("name", ["sasrec", "nfm", "deepfm", "lightgcn", "dssm", "markov"])
def test_a_score_that_is_broken_is_named(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also of models whose score is no dot product, of those over a graph, and of those that count."""
    run = build_experiment(config_of(dataset, tmp_path / "run", name))
    if name == "markov":
        run.model.fit(run.split)
    assert ranked(run).min() >= 1
    original = type(run.model).score
    for value in (NAN, INFINITY, -INFINITY):

        def score(self: Any, users: Any, items: Any, value: float = value) -> torch.Tensor:
            scores = original(self, users, items).clone()
            scores[1, 9] = value
            return scores

        with monkeypatch.context() as patch:
            patch.setattr(type(run.model), "score", score)
            for rank in (ranked, recommended_lists):
                with pytest.raises(InputError, match=f"the score of item number 9 for user number 1 is {value}"):
                    rank(run)


@pytest.mark.parametrize("name", ["sasrec", "lightgcn", "deepfm"])
def test_scores_beyond_what_numbers_can_hold_are_refused(dataset: Path, tmp_path: Path, name: str) -> None:
    """Every weight is finite, and the products are not."""
    run = build_experiment(config_of(dataset, tmp_path / "run", name))
    for parameter in run.model.parameters():
        parameter.data.mul_(1e30)
    assert broken_weight(run.model) is None
    with pytest.raises(InputError, match=r"is NaN or infinite|user number .* is (inf|-inf|nan)"):
        ranked(run)


def test_pretrained_weights_with_a_broken_number_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    network.weight.data[1, 1] = NAN
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    fresh = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"weights\.pt: 'weight' holds NaN or infinity\."):
        load_weights(fresh, tmp_path / "weights.pt")
    assert fresh.weight.isfinite().all()
