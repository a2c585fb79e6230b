"""What users get wrong: one sentence on stderr, exit status 2, and nothing half-written; and what is put right."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from microlens.data.synthetic import write_release
from microlens.report import Report
from tests.conftest import random_sequences, write_pairs
from tests.test_prepare import manifest_of, run_command

HEADER = "user,item,timestamp\n"
SASREC = """
dataset = "{dataset}"
output = "{output}"

[model]
name = "sasrec"
dim = 8

[encoder]
name = "id"

[train]
epochs = 1
batch_size = 16
lr = 1e-2
device = "cpu"
"""


def refusal(*arguments: object) -> str:
    """The one sentence that a command refuses with."""
    status, _, told = run_command(*arguments)
    assert status == 2
    assert told.startswith("microlens: ")
    assert told.count("\n") == 1
    return told


def entries(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_installed_command_refuses_with_status_2_and_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microlens", "data", "prepare", str(tmp_path / "nowhere"), str(tmp_path / "out")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith(f"microlens: {tmp_path / 'nowhere'} is not a folder")
    assert process.stderr.count("\n") == 1
    assert process.stdout.strip() == ""
    assert not entries(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x_pairs.csv", "", "x_pairs.csv is empty; expected three integers a line: user,item,timestamp"),
        ("x_pairs.csv", HEADER, "x_pairs.csv holds no interactions; expected three integers a line"),
        ("x_pairs.csv", HEADER + "1,2,3\n1,3\n", "x_pairs.csv, line 3: 2 columns instead of 3; expected"),
        ("x_pairs.csv", HEADER + "1,2,3\n1,three,3\n", "x_pairs.csv, line 3: 'three' is not an integer; expected"),
        ("x_pairs.tsv", "1\t2 3\n2\tx\n", "x_pairs.tsv, line 2: 'x' is not an integer; expected a user, a tab"),
        ("x_pairs.tsv", "1\t1 2 3\n2\t1 2\n", "no user has 5 or more items"),
        ("interactions.csv", HEADER, "holds no interactions; expected a file named *pairs.csv"),
    ],
)
def test_a_release_that_cannot_be_used_is_refused(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / name).write_text(content)
    before = entries(tmp_path)
    assert sentence in refusal("data", "prepare", tmp_path / "release", tmp_path / "dataset")
    assert entries(tmp_path) == before


def test_what_is_wrong_but_clear_is_put_right_and_said(tmp_path: Path) -> None:
    """A byte-order mark, repeats, times out of order, and a user with too few items."""
    rows = [(1, item, 100 + item) for item in (3, 1, 2, 4, 5)]
    rows += [(1, 4, 900), (1, 4, 901), (2, 7, 5), (2, 8, 6)]
    (tmp_path / "release").mkdir()
    lines = HEADER + "".join(f"{user},{item},{time}\r\n" for user, item, time in rows)
    (tmp_path / "release" / "x_pairs.csv").write_text("\ufeff" + lines, encoding="utf-8")
    status, told, wrong = run_command("data", "prepare", tmp_path / "release", tmp_path / "dataset")
    assert (status, wrong) == (0, "")
    assert "release: 2 users, 7 items, 7 interactions\n" in told
    assert "after the paper's cut: 1 users, 5 items, 5 interactions\n" in told
    assert "sorted: 1 interactions stood before an earlier one of the same user\n" in told
    assert "dropped: 2 interactions (a later repeat of the same user and item)\n" in told
    assert "dropped: 1 users (fewer than 5 items; left out by the paper's protocol)\n" in told
    events = pl.read_parquet(tmp_path / "dataset" / "interactions.parquet").rows()
    assert events == [(1, item, 100 + item) for item in range(1, 6)] + [(2, 7, 5), (2, 8, 6)]
    manifest = manifest_of(tmp_path / "dataset")
    assert manifest["counts"]["out_of_order"] == 1
    assert [(drop["what"], drop["count"]) for drop in manifest["dropped"]] == [("interactions", 2), ("users", 1)]


def test_nothing_is_said_of_a_release_without_faults(tmp_path: Path) -> None:
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    _, told, _ = run_command("data", "prepare", tmp_path / "release", tmp_path / "dataset")
    assert not re.search("sorted|dropped|fault", told)


def test_faults_are_printed_at_the_end(tmp_path: Path) -> None:
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    (tmp_path / "release" / "videos").mkdir()
    for item in (1, 2):
        (tmp_path / "release" / "videos" / f"{item}.mp4").write_bytes(b"")
    (tmp_path / "release" / "videos" / "77.mp4").write_bytes(b"")
    status, told, _ = run_command("data", "prepare", tmp_path / "release", tmp_path / "dataset", "--workers", "1")
    assert status == 0
    assert "dropped: 1 videos files (not a file named by the id of an item that has interactions)\n" in told
    assert told.count("fault: ") == 2
    assert "fault: item 1, videos/1.mp4, clips lost: the file is empty\n" in told


@pytest.mark.parametrize("option", [("--workers", "0"), ("--frames", "all"), ("--crop", "left")])
def test_options_out_of_range_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    status, _, told = run_command("data", "prepare", tmp_path / "release", tmp_path / "dataset", *option)
    assert status == 2
    assert option[0] in told
    assert not (tmp_path / "dataset").exists()


def test_clip_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    told = refusal("data", "prepare", tmp_path / "release", tmp_path / "dataset", "--size", "4")
    assert "size is 4; accepted are 8 to 4096 pixels" in told
    assert not (tmp_path / "dataset").exists()


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    (tmp_path / "file").write_text("in the way")
    told = refusal("data", "prepare", tmp_path / "release", tmp_path / "file" / "dataset")
    assert "file" in told
    assert "cannot be used: Not a directory" in told


def test_an_interruption_is_said_and_has_its_own_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("microlens.data.prepare.prepare", interrupted)
    status, _, told = run_command("data", "prepare", tmp_path, tmp_path / "dataset")
    assert status == 130
    assert told == "microlens: interrupted; run the same command again to go on.\n"


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("microlens.data.prepare.prepare", broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_command("data", "prepare", tmp_path, tmp_path / "dataset")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small dataset of interactions, and a configuration for it."""
    folder = tmp_path_factory.mktemp("world")
    write_pairs(folder / "release", random_sequences(40, 20))
    assert run_command("data", "prepare", folder / "release", folder / "dataset")[0] == 0
    text = SASREC.format(dataset=folder / "dataset", output=folder / "run")
    (folder / "config.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ('train.epochs="3"', "train.epochs is '3'; it must be integer."),
        ("train.epochs=true", "train.epochs is True; it must be integer."),
        ("train.lr=0", "train.lr is 0; it must be greater than 0."),
        ("train.select=MRR", "train.select is 'MRR'; it must be 'HR@10', 'NDCG@10', 'HR@20' or 'NDCG@20'."),
        ("train.epoch=3", "train.epoch is unknown; did you mean 'epochs'?"),
        ("sead=3", "sead is unknown; did you mean 'seed'?"),
        ("protocol.min_lenght=5", "protocol.min_lenght is unknown; did you mean 'min_length'?"),
        ('protocol.require=["clip"]', "protocol.require.0 is 'clip'; it must be 'clips', 'covers' or 'sound'."),
        ("model.block=2", "model.block is unknown; did you mean 'blocks'?"),
        ("model.blocks=two", "model.blocks is 'two': input should be a valid integer."),
        ("model.blocks=true", "model.blocks is True: input should be a valid integer."),
        ("model.heads=3", "model: dim = 8 cannot be shared among heads = 3."),
        ("encoder.weight=1", "encoder.weight is unknown; accepted: nothing."),
        ("model.name=sasrek", "model.name is 'sasrek', which is unknown; did you mean 'sasrec'?"),
        ("encoder.name=x3d_xxs", "encoder.name is 'x3d_xxs', which is unknown; did you mean 'x3d_xs'?"),
        ("encoder.name=bert", "encoder.name is 'bert', which is unknown; accepted: features, id, sum"),
        ("model=3", "model is 3; it must be"),
        ("train.lr.x=3", "--set train.lr.x=3: 'lr' is not a table."),
        ("train.lr", "--set train.lr: expected key=value, such as train.lr=1e-3."),
    ],
)
def test_a_wrong_configuration_is_refused_in_the_file_and_by_set(world: Path, wrong: str, sentence: str) -> None:
    config, before = world / "config.toml", entries(world)
    assert sentence in refusal("train", config, "--set", wrong)
    assert entries(world) - {world / "run", world / "run" / ".lock"} == before
    key, _, value = wrong.partition("=")
    section, _, name = key.rpartition(".")
    if section not in ("train", "protocol", "model", "encoder") or not value:
        return
    line = f"{name} = {value if re.match('[0-9\"[]|true', value) else json.dumps(value)}"
    text = re.sub(f"(?m)^{name} =.*\n", "", config.read_text()) if f"\n{name} =" in config.read_text() else None
    text = (text or config.read_text()) + (f"[{section}]\n" if f"[{section}]" not in config.read_text() else "")
    if name == "name":
        text = config.read_text().replace(f'[{section}]\nname = "sasrec"', f"[{section}]")
        text = text.replace(f'[{section}]\nname = "id"', f"[{section}]")
    (world / "wrong.toml").write_text(text.replace(f"[{section}]\n", f"[{section}]\n{line}\n"))
    try:
        assert sentence in refusal("train", world / "wrong.toml")
    finally:
        (world / "wrong.toml").unlink()
