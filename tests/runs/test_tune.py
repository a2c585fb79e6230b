"""Searching options: what is found, what is never read, and going on after a kill."""

import errno
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from microlens.config.run_config import RunConfig
from microlens.data.split import Split
from microlens.errors import InputError
from microlens.runs.train import train
from tests.conftest import random_sequences
from tests.data.test_prepare import run_command

pytest.importorskip("optuna")
tune = pytest.importorskip("microlens.runs.tune")

MakeDataset = Callable[[list[list[int]]], Path]
LEARNABLE = [[1 + (start + step) % 30 for step in range(7)] for start in range(30)] * 4  # the next number comes next


def write_config(dataset: Path, ranges: str, model: str = 'name = "sasrec"\ndim = 8', epochs: int = 3) -> Path:
    encoder = '[encoder]\nname = "id"\n[train]\nbatch_size = 16\nlr = 1e-2\ndevice = "cpu"\n'
    path = dataset.parent / "config.toml"
    path.write_text(
        f'dataset = "{dataset}"\noutput = "{dataset.parent / "run"}"\n[model]\n{model}\n'
        + (f"{encoder}epochs = {epochs}\n" if "sasrec" in model else "")
        + f"[tune]\n{ranges}\n"
    )
    return path


def test_the_better_of_two_values_is_found_and_trains(make_dataset: MakeDataset) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { choices = [1e-6, 3e-2] }', epochs=6)
    search = tune.Search(path)
    found = search.run(6)
    assert found.config.train.lr == 3e-2
    assert set(found.trials["train.lr"]) == {1e-6, 3e-2}
    best = RunConfig.load(search.output / "best.toml")
    assert best.tune == {}
    assert best.output == search.output / "best"
    report = train(best)
    assert report.metrics["valid"]["all"]["HR@10"] == pytest.approx(found.value)
    written = pl.read_csv(search.output / "trials.csv")
    assert written["HR@10"].max() == pytest.approx(found.value)


def test_a_fusion_is_not_searched(make_dataset: MakeDataset) -> None:
    path = write_config(make_dataset(LEARNABLE), '"model.warm_loss" = { low = 0.0, high = 0.5 }', 'name = "fusion"')
    path.write_text(path.read_text() + '[[parts]]\nmodel = { name = "popularity" }\n')
    with pytest.raises(InputError, match="is a fusion, which is not searched; search the configurations of its parts"):
        tune.Search(path)


def test_the_study_is_in_its_folder_whatever_the_name(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { choices = [1e-3] }', epochs=1)
    output = tmp_path / "a?b%20c{d}"
    assert len(tune.Search(path, output=output).run(1).trials) == 1
    assert len(tune.Search(path, output=output).run(2).trials) == 2
    assert (output / "study.db").is_file()
    assert not list(tmp_path.glob("**/a"))
    assert not list(tmp_path.glob("a*b c*"))


def test_the_test_part_is_never_read(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { low = 1e-4, high = 1e-2, log = true }', epochs=1)
    for name in ("targets", "inputs", "history"):
        method = getattr(Split, name)

        def refuse(self: Split, part: Any, *users: Any, method: Any = method) -> Any:
            assert part == "valid", "the test part was read"
            return method(self, part, *users)

        monkeypatch.setattr(Split, name, refuse)
    assert len(tune.Search(path).run(2).trials) == 2
    with pytest.raises(AssertionError, match="the test part was read"):
        train(RunConfig.load(path))


def test_a_killed_search_goes_on_as_if_it_had_not_been(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = '"train.lr" = { low = 1e-4, high = 1e-1, log = true }\n"model.dim" = { choices = [4, 8] }'
    path = write_config(make_dataset(LEARNABLE), ranges)
    undisturbed = tune.Search(path, output=path.parent / "undisturbed").run(4)
    for number in (1, 2, 1):
        killed = tune.Search(path)
        monkeypatch.setattr(killed, "_validate", _killed_at(number, killed._validate))
        with pytest.raises(KeyboardInterrupt):
            killed.run(4)
    found = tune.Search(path).run(4)
    columns = ["state", "HR@10", "epochs", "train.lr", "model.dim"]
    done = found.trials.filter(pl.col("HR@10").is_not_null())
    assert done.select(columns).rows() == undisturbed.trials.select(columns).rows()
    assert len(found.trials) == 4 + 3
    again = tune.Search(path).run(4)
    assert again.value == found.value == undisturbed.value
    assert len(again.trials) == len(found.trials)


def test_a_search_goes_on_after_the_trials_of_another_machine(make_dataset: MakeDataset) -> None:
    ranges = '"train.lr" = { low = 1e-4, high = 1e-1, log = true }\n"model.dim" = { choices = [4, 8] }'
    path = write_config(make_dataset(LEARNABLE), ranges)
    undisturbed = tune.Search(path, output=path.parent / "undisturbed")
    whole = undisturbed.run(6)
    trials = undisturbed.ended()
    assert [max(trial.metrics) for trial in trials] == whole.trials["HR@10"].to_list()
    assert [len(trial.metrics) for trial in trials] == whole.trials["epochs"].to_list()
    taken_over = tune.Search(path)
    taken_over.add(trials[:3])
    found = taken_over.run(6)
    assert taken_over.ended()[:3] == trials[:3]
    columns = ["trial", "state", "HR@10", "epochs", "train.lr", "model.dim"]
    assert found.trials.select(columns).rows() == whole.trials.select(columns).rows()
    assert found.value == whole.value
    with pytest.raises(InputError, match="has trials already"):
        taken_over.add(trials)


@pytest.mark.parametrize("options", [{"train.lr": 1.0}, {"train.lr": 1e-3, "model.dim": 8}, {}])
def test_a_trial_out_of_the_ranges_is_not_taken_over(make_dataset: MakeDataset, options: dict[str, float]) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { low = 1e-4, high = 1e-1, log = true }', epochs=1)
    trial = tune.EndedTrial(options=options, metrics=[0.1], pruned=False, seconds=1.0)
    with pytest.raises(InputError, match="does not fit the ranges"):
        tune.Search(path).add([trial])


def test_a_trial_killed_after_its_last_epoch_still_counts_once(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { low = 1e-4, high = 1e-1, log = true }', epochs=1)
    undisturbed = tune.Search(path, output=path.parent / "undisturbed").run(2)
    killed = tune.Search(path)
    with monkeypatch.context() as patch:
        patch.setattr(tune.Search, "_found", lambda search: search)
        killed.run(0)
        patch.setattr(type(killed.study), "tell", _killed_at(1, type(killed.study).tell))
        with pytest.raises(KeyboardInterrupt):
            killed.run(2)
    found = tune.Search(path).run(2)
    assert found.value == undisturbed.value
    assert (
        found.trials.filter(pl.col("state") == "complete")["HR@10"].to_list() == undisturbed.trials["HR@10"].to_list()
    )


def test_a_trial_killed_before_the_study_knows_that_it_is_pruned_is_not_trained_on(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { low = 1e-4, high = 1e-1, log = true }', epochs=6)
    undisturbed = tune.Search(path, output=path.parent / "undisturbed").run(8).trials
    assert "pruned" in undisturbed["state"].to_list()
    for number in range(8):
        killed = tune.Search(path)
        study = killed.optuna.study.Study
        with monkeypatch.context() as patch:
            patch.setattr(study, "tell", _killed_at(1, study.tell))
            with pytest.raises(KeyboardInterrupt):
                killed.run(number + 1)
        found = tune.Search(path).run(number + 1)
    columns = ["state", "HR@10", "epochs", "train.lr"]
    done = found.trials.filter(pl.col("state") != "fail")
    assert done.select(columns).rows() == undisturbed.select(columns).rows()


@pytest.mark.parametrize(
    "name", ["dataset", "protocol.split", "protocol.seed", "output", "seed", "track.wandb", "parts.0.model.dim"]
)
def test_trials_differ_in_the_model_alone(make_dataset: MakeDataset, name: str) -> None:
    path = write_config(make_dataset(LEARNABLE), f'"{name}" = {{ choices = ["random", "leave-one-out"] }}')
    with pytest.raises(InputError, match=f"tune.'{name}': trials have to differ in the model alone"):
        tune.Search(path)


def test_trials_are_compared_by_one_metric(make_dataset: MakeDataset) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.select" = { choices = ["HR@10", "NDCG@20"] }')
    with pytest.raises(InputError, match=r"it is the metric that trials are compared by; set it in \[train\]"):
        tune.Search(path)


def test_a_full_disk_and_a_damaged_study_are_said_in_a_sentence(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { choices = [1e-3] }', epochs=1)
    search = tune.Search(path)

    def fill(config: RunConfig, trial: Any) -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 2")
            database.execute("CREATE TABLE t (x)")
            try:
                database.execute("INSERT INTO t VALUES (zeroblob(100000))")
            except sqlite3.OperationalError as error:
                raise RuntimeError("what a library makes of it") from error

    monkeypatch.setattr(search, "_validate", fill)
    with pytest.raises(OSError, match="full") as full:
        search.run(1)
    assert full.value.errno == errno.ENOSPC
    assert tune.Search(path).run(1).value > 0
    study = search.output / "study.db"
    study.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"study\.db is damaged; remove it"):
        tune.Search(path).run(1)


def _killed_at(number: int, call: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def call_or_die(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return call(*arguments, **named)

    return call_or_die


def test_what_falls_behind_is_given_up(make_dataset: MakeDataset) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { low = 1e-7, high = 5e-2, log = true }', epochs=8)
    trials = tune.Search(path).run(12).trials
    pruned = trials.filter(pl.col("state") == "pruned")
    complete = trials.filter(pl.col("state") == "complete")
    assert len(pruned) > 0
    assert pruned["epochs"].max() < 8
    assert pruned["HR@10"].mean() < complete["HR@10"].mean()


def test_models_in_closed_form_are_searched(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(60, 25))
    path = write_config(dataset, '"model.regularization" = { low = 1, high = 500 }', model='name = "ease"')
    found = tune.Search(path).run(3)
    assert found.trials["epochs"].to_list() == [0, 0, 0]
    assert all(isinstance(value, int) for value in found.trials["model.regularization"])


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("", r"has no \[tune\] table"),
        ('"train.lrr" = { low = 1e-4, high = 1e-2 }', "train.lrr is unknown; did you mean 'lr'"),
        ('"model.nonsense" = { low = 1, high = 2 }', "nonsense"),
        ('"train.lr" = { low = 1e-2, high = 1e-4 }', "a range whose low is below its high"),
        ('"train.lr" = { low = 1e-2 }', "a range with choices, or with low and high"),
        ('"train.lr" = { choices = [] }', "at least 1"),
        ('"train.lr" = { low = 0.0, high = 1.0, log = true }', "a range above 0"),
        ('"train.epochs" = { choices = ["many"] }', "train.epochs is 'many'"),
    ],
)
def test_what_is_refused(make_dataset: MakeDataset, ranges: str, message: str) -> None:
    path = write_config(make_dataset(random_sequences(40, 20)), ranges)
    with pytest.raises(InputError, match=message):
        tune.Search(path)


def test_a_folder_holds_one_search(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(40, 20))
    tune.Search(write_config(dataset, '"train.lr" = { low = 1e-4, high = 1e-2 }', epochs=1)).run(1)
    other = tune.Search(write_config(dataset, '"train.lr" = { low = 1e-4, high = 1e-3 }', epochs=1))
    with pytest.raises(InputError, match="holds a search with another configuration, other ranges or other data"):
        other.run(1)


def test_trials_that_all_fail_are_said(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    search = tune.Search(
        write_config(make_dataset(random_sequences(40, 20)), '"train.lr" = { low = 1e-4, high = 1e-2 }')
    )

    def fail(config: RunConfig, trial: Any) -> Any:
        raise InputError("The loss is nan.")

    monkeypatch.setattr(search, "_validate", fail)
    with pytest.raises(InputError, match=r"no trial completed; the last one failed: The loss is nan\."):
        search.run(2)


def test_a_configuration_with_ranges_is_the_same_run(make_dataset: MakeDataset) -> None:
    path = write_config(make_dataset(random_sequences(40, 20)), '"train.lr" = { low = 1e-4, high = 1e-2 }')
    config = RunConfig.load(path)
    assert config.hash == config.model_copy(update={"tune": {}}).hash
    assert "tune" in config.toml()
    assert "tune" not in config.model_copy(update={"tune": {}}).toml()


def test_without_optuna_one_sentence_says_what_to_install(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(make_dataset(random_sequences(40, 20)), '"train.lr" = { low = 1e-4, high = 1e-2 }')
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'microlens\[tune\]'"):
        tune.Search(path)


def test_the_command_shows_the_best_trials(make_dataset: MakeDataset) -> None:
    path = write_config(make_dataset(LEARNABLE), '"train.lr" = { choices = [1e-3, 3e-2] }', epochs=1)
    status, told, said = run_command("tune", path, "--trials", "2")
    assert status == 0, said
    assert "trial 1:" in told
    assert "Next: microlens train" in told


def test_losses_with_and_without_sampling_are_searched_together(make_dataset: MakeDataset) -> None:
    ranges = '"train.loss" = { choices = ["bpr", "in-batch-softmax"] }\n"train.num_negatives" = { choices = [1] }'
    found = tune.Search(write_config(make_dataset(LEARNABLE), ranges, epochs=1)).run(5)
    assert found.trials["fault"].is_null().all()
    assert set(found.trials["train.loss"]) == {"bpr", "in-batch-softmax"}
    assert found.config.train.num_negatives == (1 if found.config.train.loss == "bpr" else None)
