"""Training from Python is training from a configuration, and says what is wrong without a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import microlens as ml
from microlens.building import options_of
from microlens.config.run_config import RunConfig
from microlens.config.sections import TrainSection
from microlens.errors import InputError
from microlens.evaluation.report import read_ranks
from microlens.evaluation.significance import difference
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.sasrec import SASRec
from microlens.runs.assembly import GIVEN
from tests.conftest import random_sequences

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "device": "cpu"}


class Sum(ml.Recommender):
    """The sum of a history's vectors, times a factor."""

    def __init__(self, *, item_encoder: ml.ItemEncoder, factor: float = 1.0) -> None:
        super().__init__(item_encoder)
        self.factor = factor

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The sum."""
        return self.factor * vectors.sum(1)


@pytest.fixture
def data(make_dataset: Callable[[list[list[int]]], Path]) -> ml.Dataset:
    return ml.Dataset(make_dataset(random_sequences(60, 25)))


def test_fit_is_the_run_of_the_same_configuration(data: ml.Dataset, tmp_path: Path) -> None:
    run = ml.fit(data, "sasrec", output=tmp_path / "fit", dim=8, dropout=0.2, protocol={"max_history": 6}, **QUICK)
    config = RunConfig.of(
        {
            "dataset": data.folder,
            "output": tmp_path / "file",
            "protocol": {"max_history": 6},
            "model": {"name": "sasrec", "dim": 8, "dropout": 0.2},
            "encoder": {"name": "id"},
            "train": QUICK,
        }
    )
    assert run.config.hash == config.hash
    assert ml.train(config).metrics == run.report.metrics
    assert ml.load(tmp_path / "file").report.metrics == run.report.metrics
    assert run.evaluate()["metrics"] == run.report.metrics


def test_a_class_of_the_package_is_its_name(data: ml.Dataset, tmp_path: Path) -> None:
    named, given = (
        ml.fit(data, model, output=tmp_path / str(n), dim=8, **QUICK) for n, model in enumerate(("sasrec", SASRec))
    )
    assert named.config.hash == given.config.hash


def test_a_class_of_ones_own_is_an_import_path(data: ml.Dataset, tmp_path: Path) -> None:
    run = ml.fit(data, Sum, output=tmp_path / "own", factor=0.5, dim=8, **QUICK)
    assert run.config.model.name == "tests.runs.test_fit:Sum"
    assert ml.load(tmp_path / "own").experiment.model.factor == 0.5


def test_the_same_call_again_reads_and_another_is_refused(data: ml.Dataset, tmp_path: Path) -> None:
    first = ml.fit(data, "sasrec", output=tmp_path / "run", dim=8, **QUICK)
    again = ml.fit(data, "sasrec", output=tmp_path / "run", dim=8, **QUICK)
    assert again.report == first.report
    with pytest.raises(
        ml.InputError, match=r"another configuration \(model\.dim was 8, now 16\).*fresh=True"
    ) as refused:
        ml.fit(data, "sasrec", output=tmp_path / "run", dim=16, **QUICK)
    assert "--" not in str(refused.value)
    assert ml.fit(data, "sasrec", output=tmp_path / "run", dim=16, fresh=True, **QUICK).config.model.dim == 16


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learning_rate": 0.1}, "model.learning_rate is unknown; did you mean 'train.lr'?"),
        ({"epochs": 0}, "train.epochs is 0"),
        ({"encoder": {"tune": "full"}}, "has no name"),
        ({"encoder": "x3d"}, "encoder.name is 'x3d', which is unknown"),
        ({"protocol": {"max_histori": 3}}, "protocol.max_histori is unknown"),
        ({"protocol": 5}, "protocol is 5; expected a table such as {'split': 'random'}"),
        ({"parts": None}, "parts is None; it takes a list such as"),
        ({"parts": ["sasrec"]}, "a part is 'sasrec'; expected a table such as"),
    ],
)
def test_wrong_options_are_named_without_a_file(
    data: ml.Dataset, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ml.InputError) as refused:
        ml.fit(data, "sasrec", output=tmp_path / "run", **options)
    assert sentence in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folder", [None, 5, "a\0b"])
def test_folders_are_paths(data: ml.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name, folders in (("output", (data, folder)), ("data", (folder, "run"))):
        with pytest.raises(ml.InputError, match=f"{name} is .*; it must be the path of a folder"):
            ml.fit(folders[0], "popularity", output=folders[1])
    assert not (tmp_path / "None").exists()


def test_a_configuration_is_no_table() -> None:
    config: Any = {"model": {"name": "popularity"}}
    with pytest.raises(ml.InputError, match=r"config is \{'model': .*; it must be a RunConfig"):
        ml.train(config)


def test_a_protocol_is_an_object_or_a_table(data: ml.Dataset, tmp_path: Path) -> None:
    fields = {"max_history": 6, "split": "random", "max_length": 0}
    runs = [
        ml.fit(data, "popularity", output=tmp_path / str(number), protocol=protocol)
        for number, protocol in enumerate([fields, ml.Protocol(**fields)])
    ]
    assert runs[0].config.hash == runs[1].config.hash


@pytest.mark.parametrize("field", ["min_length", "max_length", "max_history", "min_item_count", "seed"])
def test_numbers_of_a_protocol_are_checked(field: str) -> None:
    for value in (-1, 2**63, "5", 5.5, True, None):
        with pytest.raises(ml.InputError, match=f"protocol.{field} is {value!r}; it must be"):
            ml.Protocol(**{field: value})
    assert ml.Protocol(**{field: np.int64(13)}).hash == ml.Protocol(**{field: 13}).hash


@pytest.mark.parametrize("field", ["split", "candidates", "masked", "ties"])
def test_words_of_a_protocol_are_checked(field: str) -> None:
    with pytest.raises(ml.InputError, match=f"protocol.{field} is 'nope'; accepted: \""):
        ml.Protocol(**{field: "nope"})


@pytest.mark.parametrize("name", sorted(RECOMMENDERS))
def test_no_option_of_a_model_is_also_one_of_training(name: str) -> None:
    """So that flat arguments have one meaning."""
    assert not options_of(RECOMMENDERS[name], GIVEN).keys() & TrainSection.model_fields.keys()


def test_nothing_is_printed_unless_asked_for(
    data: ml.Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = ml.fit(data, "sasrec", output=tmp_path / "run", dim=8, **QUICK)
    ml.load(tmp_path / "run").recommend([1], k=2)
    run.evaluate()
    assert capfd.readouterr() == ("", "")
    ml.fit(data, "sasrec", output=tmp_path / "shown", dim=8, progress=True, **QUICK)
    assert "epoch   2" in capfd.readouterr().out


def test_compare_tells_the_paired_difference(data: ml.Dataset, tmp_path: Path) -> None:
    one = ml.fit(data, "sasrec", output=tmp_path / "one", dim=8, **QUICK)
    two = ml.fit(data, "popularity", output=tmp_path / "two")
    three = ml.fit(data, "markov", output=tmp_path / "three")
    found = ml.compare([one, tmp_path / "two", three], metrics=["NDCG@10"])
    assert found["run"].to_list() == ["one", "two", "three"]
    ranks = [read_ranks(run.folder)["test"][0] for run in (one, two, three)]
    gains = [np.where(of <= 10, 1 / np.log2(of + 1), 0) for of in ranks]
    assert found["value"].to_list() == pytest.approx([gain.mean() for gain in gains])
    assert found["difference"][1:].to_list() == pytest.approx([(gain - gains[0]).mean() for gain in gains[1:]])
    raw = [difference([of], [ranks[0]], "NDCG@10")["p"] for of in ranks[1:]]
    small, large = sorted(raw)
    expected = {small: min(1, 2 * small), large: min(1, max(2 * small, large))}  # Holm, of two
    assert found["p"][1:].to_list() == pytest.approx([expected[p] for p in raw])
    assert found["p"][0] is None
    with pytest.raises(ml.InputError, match="at least two"):
        ml.compare([one])
    other = ml.fit(data, "popularity", output=tmp_path / "four", protocol={"max_history": 3})
    with pytest.raises(ml.InputError, match="differ in their protocol"):
        ml.compare([one, other])
    with pytest.raises(ml.InputError, match="no metric 'MAP@3'; accepted are HR@10"):
        ml.compare([one, two], metrics=["MAP@3"])


@pytest.mark.parametrize("folder", [None, 5, ["runs/mine"]])
def test_a_run_is_opened_by_a_path(folder: Any) -> None:
    with pytest.raises(InputError, match=r"folder is .*; it must be the path of a folder\."):
        ml.load(folder)
    with pytest.raises(InputError, match=r"dataset is 5; it must be the path of a folder\."):
        ml.load("runs/mine", 5)  # type: ignore[arg-type]


def test_towers_are_a_list(make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path) -> None:
    dataset = make_dataset(random_sequences(30, 12))
    with pytest.raises(InputError, match=r"encoder\.towers must be a list of at least two encoder tables"):
        ml.fit(str(dataset), "sasrec", output=tmp_path / "run", encoder={"name": "sum", "towers": "id"})
