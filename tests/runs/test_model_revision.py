"""A run of a model whose equations have changed since is refused; all others keep their identity."""

from collections.abc import Callable
from pathlib import Path

import pytest

import microlens as ml
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.runs.assembly import build_experiment
from tests.conftest import random_sequences

MakeDataset = Callable[[list[list[int]]], Path]
REVISED = ["grcn", "mmgcn"]  # since 0.2.0
OTHER_DEFAULTS = ["bpr_mf", "co_visitation", "ease"]  # since 0.2.0


def config_of(dataset: Path, name: str) -> ml.RunConfig:
    return ml.RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": dataset.parent / name,
            "model": {"name": name, "dim": 4},
            "encoder": {"name": "id"},
            "train": {"epochs": 1, "batch_size": 64, "device": "cpu", "loss": "bpr", "num_negatives": 1},
        }
    )


@pytest.mark.parametrize("name", REVISED)
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_with_former_equations_is_refused(
    name: str, finished: bool, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(make_dataset(random_sequences(30, 20)), name)
    with monkeypatch.context() as former:
        former.setattr(RECOMMENDERS[name], "revision", 1)
        ml.train(config)
    if not finished:
        (config.output / "report.json").unlink()
    sentence = rf"whose '{name}' had other equations or defaults; train the run again with fresh=True"
    with pytest.raises(InputError, match=sentence):
        ml.train(config)
    if finished:
        with pytest.raises(InputError, match=sentence):
            ml.load(config.output).recommend()
    ml.train(config, fresh=True)
    assert ml.load(config.output).evaluate()["metrics"] == ml.train(config).metrics


def test_models_whose_equations_never_changed_have_the_identity_of_the_first_version(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(30, 20))
    assert build_experiment(config_of(dataset, "sasrec")).identity.keys() == {"config_hash", "data_hash"}
    assert build_experiment(config_of(dataset, "grcn")).identity["model_revision"] == "2"
    revised = [
        name
        for name, model in RECOMMENDERS.items()
        if isinstance(model, type) and issubclass(model, Recommender) and model.revision > 1
    ]
    assert sorted(revised) == sorted(REVISED + OTHER_DEFAULTS)
