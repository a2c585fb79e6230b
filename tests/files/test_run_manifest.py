"""The manifest of a run: what is changed is found, what is killed goes on, what is moved stays whole."""

import errno
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.evaluation.report import Report, adopt_run, check_run
from microlens.files import run_manifest
from microlens.files.run_manifest import (
    BEST,
    BEYOND,
    CONFIG,
    EPOCHS,
    LAST,
    LISTED,
    MANIFEST,
    RANKS,
    REPORT,
    replace_text,
)
from microlens.media.decoding import Settings
from microlens.page.comparison import read_runs
from microlens.runs.list_metrics import summarise
from microlens.runs.run import load
from microlens.runs.train import train
from microlens.training import checkpoint
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import run_command


def config_of(dataset: Path, output: Path, **train: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": output,
            "model": {"name": "sasrec", "dim": 8},
            "encoder": {"name": "id"},
            "train": {"epochs": 2, "batch_size": 32, "lr": 1e-2, "device": "cpu", **train},
        }
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run_manifest")
    prepare(write_pairs(folder / "release", random_sequences(60, 40)), folder / "dataset", Settings())
    return folder / "dataset"


@pytest.fixture(scope="module")
def trained(dataset: Path) -> Path:
    """A finished run, to be copied."""
    output = dataset.parent / "trained"
    train(config_of(dataset, output))
    summarise(output)
    return output


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


class KilledError(BaseException):
    """Stands for a kill: nothing after it runs."""


@contextmanager
def killed_before_rename(number: int) -> Iterator[None]:
    """The process ends before its ``number``-th rename, from 0; it cleans nothing up."""
    with pytest.MonkeyPatch.context() as patch:
        rename, unlink = Path.replace, Path.unlink
        left, alive = number, True

        def replace(self: Path, target: Path) -> Path:
            nonlocal left, alive
            alive = alive and left > 0
            if not alive:
                raise KilledError
            left -= 1
            return rename(self, target)

        patch.setattr(Path, "replace", replace)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: unlink(self, missing_ok) if alive else None)
        yield


def flip_a_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def problems(folder: Path) -> list[str]:
    return check_run(folder)[1]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_a_file_killed_while_it_is_replaced_is_the_old_or_the_new(tmp_path: Path, number: int, there: bool) -> None:
    if there:
        replace_text(tmp_path, EPOCHS, "old")
    with pytest.raises(KilledError), killed_before_rename(number):
        replace_text(tmp_path, EPOCHS, "new")
    path = tmp_path / EPOCHS
    assert (path.read_text() if path.exists() else None) == ("new" if number == 2 else "old" if there else None)
    run_manifest.check(tmp_path, EPOCHS)
    if path.exists():
        before = path.read_bytes()
        flip_a_bit(path, 5)
        with pytest.raises(InputError, match="is not the file that microlens wrote"):
            run_manifest.check(tmp_path, EPOCHS)
        path.write_bytes(before)
    replace_text(tmp_path, CONFIG, "other")
    run_manifest.check(tmp_path, EPOCHS, CONFIG)
    if path.exists():  # what it was is settled: no other state is right any more
        path.write_text("old" if number == 2 else "new")
        with pytest.raises(InputError, match=rf"{EPOCHS} is not the file"):
            run_manifest.check(tmp_path, EPOCHS)
    replace_text(tmp_path, EPOCHS, "newest")
    run_manifest.check(tmp_path, EPOCHS, CONFIG)


@pytest.mark.parametrize("number", range(2))
def test_a_disk_that_is_full_leaves_the_manifest_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    replace_text(tmp_path, EPOCHS, "old")
    original, calls = run_manifest.write_text, 0

    def write_text(path: Path, text: str) -> None:
        nonlocal calls
        calls += 1
        if calls > number:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, text)

    with monkeypatch.context() as full_disk:
        full_disk.setattr(run_manifest, "write_text", write_text)
        with pytest.raises(OSError, match="No space"):
            replace_text(tmp_path, EPOCHS, "new")
    assert (tmp_path / EPOCHS).read_text() == ("new" if number else "old")
    assert problems(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {EPOCHS, MANIFEST}
    replace_text(tmp_path, EPOCHS, "newest")
    assert problems(tmp_path) == []


def test_a_run_killed_at_any_rename_goes_on_to_the_same_numbers(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Also with checkpoints within an epoch; the manifest fits after the kill and at the end."""
    whole = Report.read(trained)
    stops = 0
    for number in range(0, 200, 7):
        config = config_of(dataset, tmp_path / str(number), checkpoint_minutes=1e-9)
        try:
            with killed_before_rename(number):
                train(config)
        except KilledError:
            stops += 1
            if (config.output / MANIFEST).exists():
                assert problems(config.output) == []
            assert train(config).metrics == whole.metrics
        assert problems(config.output) == []
        assert Report.read(config.output).intervals == whole.intervals
        if stops * 7 <= number:
            break
    assert stops > 6


ALL = {
    BEST: [lambda run: load(run).evaluate(), lambda run: load(run).recommend([1])],
    CONFIG: [lambda run: load(run).evaluate(), lambda run: load(run).recommend([1]), Report.read],
    REPORT: [Report.read, lambda run: read_runs([run]), summarise],
    RANKS: [Report.read, lambda run: read_runs([run]), summarise],
    EPOCHS: [lambda run: read_runs([run])],
    BEYOND: [summarise],
}


@pytest.mark.parametrize("name", ALL)
def test_a_flipped_bit_is_found_by_whatever_reads_the_file(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()
    for place in random.Random(name).sample(range(8 * len(whole)), 20):
        flip_a_bit(run / name, place)
        with pytest.raises(InputError, match=rf"{name} is not the file that microlens wrote"):
            run_manifest.check(run, name)
        (run / name).write_bytes(whole)
    for place, read in enumerate(ALL[name]):
        flip_a_bit(run / name, 8 * len(whole) // 2 + place)
        with pytest.raises(InputError, match=rf"{name} is not the file .* restore it from a copy, or train the run ag"):
            read(run)
        (run / name).write_bytes(whole)
        read(run)


@pytest.mark.parametrize("name", [CONFIG, LAST, BEST])
def test_training_does_not_go_on_from_a_changed_file(run: Path, dataset: Path, name: str) -> None:
    (run / REPORT).unlink()
    flip_a_bit(run / name, 8 * (run / name).stat().st_size - 20)
    with pytest.raises(InputError, match=rf"{name} is not the file that microlens wrote"):
        train(config_of(dataset, run))
    assert train(config_of(dataset, run), fresh=True).metrics
    assert problems(run) == []


def test_a_finished_run_is_read_only_as_it_was_written(run: Path, dataset: Path) -> None:
    flip_a_bit(run / RANKS, 8 * (run / RANKS).stat().st_size - 20)
    with pytest.raises(InputError, match=r"ranks\.npy is not the file that microlens wrote"):
        train(config_of(dataset, run))


def test_a_run_starts_from_no_changed_checkpoint(run: Path, dataset: Path, tmp_path: Path) -> None:
    start = run / BEST
    shutil.copy(start, tmp_path / "copy.safetensors")
    flip_a_bit(start, 8 * start.stat().st_size - 20)
    with pytest.raises(InputError, match=r"best.safetensors is not the file that microlens wrote"):
        train(config_of(dataset, tmp_path / "next", start_from=start))
    train(config_of(dataset, tmp_path / "other", start_from=tmp_path / "copy.safetensors"))


def forge(report: Path, part: str, metric: str, value: float) -> None:
    content = json.loads(report.read_text())
    content["metrics"][part]["all"][metric] = value
    report.write_text(json.dumps(content))


@pytest.mark.parametrize(("part", "metric"), [("test", "HR@10"), ("valid", "NDCG@20")])
def test_a_report_of_other_numbers_than_its_ranks_is_refused(run: Path, part: str, metric: str) -> None:
    """Even where the manifest was made to fit."""
    Report.read(run)
    forge(run / REPORT, part, metric, 0.999)
    with pytest.raises(InputError, match=r"report\.json is not the file that microlens wrote"):
        Report.read(run)
    (run / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"report.json does not agree with ranks\.npy beside it"):
        adopt_run(run)
    run_manifest.adopt(run)
    with pytest.raises(InputError, match=r"does not agree with ranks\.npy"):
        Report.read(run)
    assert ["does not agree" in problem for problem in problems(run)] == [True]


def test_ranks_forged_together_with_the_report_are_found(run: Path) -> None:
    ranks = np.load(run / RANKS)
    np.save(run / RANKS, np.ones_like(ranks))
    for part in ("valid", "test"):
        for metric in ("HR@10", "HR@20", "NDCG@10", "NDCG@20"):
            forge(run / REPORT, part, metric, 1.0)
    assert Report.parsed(run).metrics["test"]["all"]["HR@10"] == 1.0  # they agree with each other
    with pytest.raises(InputError, match=r"report\.json is not the file that microlens wrote"):
        Report.read(run)


@pytest.mark.parametrize("content", [b"", b"\x00" * 200, b"\x93NUMPY\x01\x00", "dtype", "shape", "pickle"])
def test_ranks_that_are_none_are_one_sentence(run: Path, content: bytes | str) -> None:
    if content == "dtype":
        np.save(run / RANKS, np.load(run / RANKS).astype(float))
    elif content == "shape":
        np.save(run / RANKS, np.load(run / RANKS)[0])
    elif content == "pickle":
        np.save(run / RANKS, np.array([{"a": 1}], dtype=object))
    else:
        assert isinstance(content, bytes)
        (run / RANKS).write_bytes(content)
    (run / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"ranks\.npy (is|has|holds) .*; train the run again"):
        adopt_run(run)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"metrics": 1}', "null", "[" * 100_000, '{"metrics": {}}', '"text"', "\x00"]
)
def test_reports_that_are_none_are_one_sentence(run: Path, content: str) -> None:
    (run / REPORT).write_text(content)
    (run / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"report\.json is damaged \(.*\); train the run again"):
        adopt_run(run)


def test_a_run_that_is_moved_or_copied_stays_whole(run: Path, tmp_path: Path) -> None:
    numbers = load(run).evaluate()["metrics"]
    moved = run.rename(tmp_path / "elsewhere")
    copied = shutil.copytree(moved, tmp_path / "deep" / "er" / "copy")
    for folder in (moved, copied):
        assert problems(folder) == []
        assert load(folder).evaluate()["metrics"] == numbers == Report.read(folder).metrics


def test_a_run_without_a_manifest_is_refused_until_it_is_adopted(run: Path, dataset: Path) -> None:
    (run / MANIFEST).unlink()
    for read in (
        lambda folder: load(folder).evaluate(),
        Report.read,
        summarise,
        lambda folder: train(config_of(dataset, folder)),
    ):
        with pytest.raises(InputError, match=rf"has no {MANIFEST}.*microlens runs adopt {run}"):
            read(run)
    assert run_command("runs", "adopt", run.parent) == (0, f"{run / MANIFEST} is written.\n", "")
    assert run_command("runs", "adopt", run.parent) == (0, "", "")
    assert problems(run) == []
    assert load(run).evaluate()["metrics"] == train(config_of(dataset, run)).metrics
    with pytest.raises(InputError, match=r"has a run-manifest\.json already"):
        run_manifest.adopt(run)


def test_a_damaged_manifest_is_named(run: Path) -> None:
    path = run / MANIFEST
    whole = path.read_bytes()
    digest = json.loads(whole)["files"][BEST]["sha256"].encode()
    swapped = whole.replace(digest, digest[::-1])
    for content in (b"", whole[: len(whole) // 2], b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, swapped):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{MANIFEST} is damaged or was changed"):
            load(run).evaluate()
    assert ["is damaged" in problem for problem in problems(run)] == [True]
    for place in random.Random(0).sample(range(8 * len(whole)), 40):
        path.write_bytes(whole)
        flip_a_bit(path, place)
        found = problems(run)
        assert json.loads(whole) == json.loads(path.read_text()) if not found else "is damaged" in found[0]


def test_files_are_looked_at_one_by_one(run: Path, tmp_path: Path) -> None:
    assert set(check_run(run)[0].values()) == {"ok"}
    assert set(check_run(run)[0]) == set(LISTED)
    flip_a_bit(run / BEST, 4000)
    (run / LAST).unlink()
    (run / "notes.txt").write_text("mine")
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events").write_text("")
    replace_text(run / "tune" / "trials" / "1", EPOCHS, "")
    shutil.copy(run / MANIFEST, tmp_path / "manifest")
    status, told, wrong = run_command("runs", "check", run.parent)
    assert status == 2
    assert f"{run}\n" in told
    assert f"  changed     {BEST}\n  missing     {LAST}\n  ok          config.toml\n" in told
    assert "  not listed  notes.txt\n" in told
    assert f"{run / 'tune' / 'trials' / '1'}\n  ok          {EPOCHS}\n" in told
    sentences = wrong.splitlines()
    assert len(sentences) == 2
    assert sentences[0].startswith(f"microlens: {run / BEST} is not the file that microlens wrote")
    assert sentences[1].startswith(f"microlens: {run / LAST} is gone, but {MANIFEST} lists it")
    status, told, _ = run_command("runs", "check", run, "--json")
    assert status == 2
    found = json.loads(told)[str(run)]
    assert (found["files"][BEST], found["files"][LAST], found["files"][RANKS]) == ("changed", "missing", "ok")
    assert len(found["problems"]) == 2


def test_a_file_of_a_runs_name_that_it_did_not_write_is_a_problem(trained: Path, tmp_path: Path) -> None:
    replace_text(tmp_path, CONFIG, "")
    shutil.copy(trained / REPORT, tmp_path)
    assert check_run(tmp_path)[0] == {CONFIG: "ok", REPORT: "not listed"}
    (problem,) = problems(tmp_path)
    assert f"{tmp_path / REPORT} was not written by microlens" in problem
    with pytest.raises(InputError, match="was not written by microlens"):
        run_manifest.check(tmp_path, REPORT)


def test_runs_are_looked_for_below_a_folder(run: Path, dataset: Path, tmp_path: Path) -> None:
    assert run_command("runs", "check", run) == (0, run_command("runs", "check", run, run)[1], "")
    for folder in (dataset, tmp_path / "nowhere"):
        status, _, told = run_command("runs", "check", folder)
        assert status == 2
        assert told == f"microlens: {folder} holds no run; name a run folder, or one with runs below it.\n"


def test_a_large_file_is_read_once_a_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = run_manifest.sha256
    monkeypatch.setattr(run_manifest, "LARGE", 1)
    monkeypatch.setattr(run_manifest, "sha256", lambda path: (read.append(path), original(path))[1])
    for _ in range(3):
        run_manifest.check(run, BEST)
    assert read == [run / BEST]
    flip_a_bit(run / BEST, 4000)
    with pytest.raises(InputError, match="is not the file"):
        run_manifest.check(run, BEST)


def test_a_file_may_be_replaced_while_it_is_checked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is evaluated while it trains: the manifest is read, then the file and the manifest change."""
    original = run_manifest._read

    def late(folder: Path) -> Any:
        manifest = original(folder)
        monkeypatch.setattr(run_manifest, "_read", original)
        replace_text(run, EPOCHS, "new")
        return manifest

    monkeypatch.setattr(run_manifest, "_read", late)
    run_manifest.check(run, EPOCHS)


def test_a_trial_of_a_search_goes_on_from_no_changed_checkpoint(dataset: Path, trained: Path, tmp_path: Path) -> None:
    tune = pytest.importorskip("microlens.runs.tune")
    path = tmp_path / "config.toml"
    config = config_of(dataset, tmp_path / "run")
    path.write_text(config.toml() + '[tune]\n"train.lr" = { choices = [1e-2] }\n')
    search = tune.Search(path)
    trial = shutil.copytree(trained, search.output / "trials" / search._config({"train.lr": 1e-2}).hash)
    flip_a_bit(trial / LAST, 4000)
    events: list[str] = []
    with pytest.raises(InputError, match=rf"no trial completed; the last one failed: .*{LAST} is not the file"):
        search.run(1, on_trial=lambda number, event: events.append(event))
    assert events[1].startswith("failed: ")


def test_a_checkpoint_that_was_written_is_the_one_that_is_read(run: Path) -> None:
    tensors, facts = checkpoint.load(run / BEST)
    with run_manifest.replaced(run, BEST) as path:
        checkpoint.save(path, tensors, facts)
    assert problems(run) == []
    assert load(run).evaluate()["metrics"] == Report.read(run).metrics
