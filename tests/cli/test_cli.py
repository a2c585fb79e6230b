"""What users get wrong: one sentence on stderr, exit status 2, and nothing half-written; and what is put right."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomli_w

from microlens.evaluation.report import Report
from microlens.files.run_manifest import BEST, replaced
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import manifest_of, run_command

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
        ("x_pairs.csv", "", "x_pairs.csv is empty; expected user,item,timestamp in each line"),
        ("x_pairs.csv", HEADER, "x_pairs.csv holds no interactions; expected user,item,timestamp in each line"),
        ("x_pairs.csv", HEADER + "1,2,3\n1,3\n", "x_pairs.csv, line 3: 2 columns instead of 3; expected"),
        ("x_pairs.csv", HEADER + "1,2,3\n1,three,3\n", "x_pairs.csv, line 3: 'three' is not an integer; expected"),
        ("x_pairs.tsv", "1\t2 3\n2\tx\n", "x_pairs.tsv, line 2: 'x' is not an integer; expected a user, a tab"),
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
    assert "paper's protocol: 1 users, 5 items, 5 interactions\n" in told
    assert "sorted: 1 interactions were listed before an earlier one of the same user\n" in told
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
    assert "(not named by the id of an item that has interactions): " in told
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
    assert told == "microlens: interrupted; run the same command again to resume.\n"


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
    ("key", "value", "sentence"),
    [
        ("train.epochs", "3", "train.epochs is '3'; it must be integer."),
        ("train.epochs", True, "train.epochs is True; it must be integer."),
        ("train.epochs", 2.5, "train.epochs is 2.5; it must be integer"),
        ("train.lr", 0, "train.lr is 0; it must be greater than 0."),
        ("train.select", "MRR", "train.select is 'MRR'; it must be 'HR@10', 'NDCG@10', 'HR@20' or 'NDCG@20'."),
        ("train.epoch", 3, "train.epoch is unknown; did you mean 'epochs'?"),
        ("sead", 3, "sead is unknown; did you mean 'seed'?"),
        ("optimiser.lr", 3, "optimiser is unknown; accepted: dataset, encoder, model, output, parts, protocol, "),
        ("protocol.min_lenght", 5, "protocol.min_lenght is unknown; did you mean 'min_length'?"),
        ("protocol.require", ["clip"], "protocol.require.0 is 'clip'; it must be 'clips', 'covers' or 'sound'."),
        ("model.block", 2, "model.block is unknown; did you mean 'blocks'?"),
        ("model.blocks", "two", "model.blocks is 'two': input should be a valid integer."),
        ("model.blocks", True, "model.blocks is True: input should be a valid integer."),
        ("model.heads", 3, "model: blocks = 2, heads = 3: both must be at least 1, and heads divide dim = 8."),
        ("encoder.weight", 1, "encoder.weight is unknown; accepted: dropout."),
        ("model.name", "sasrek", "model.name is 'sasrek', which is unknown; did you mean 'sasrec'?"),
        ("model.name", 3, "model.name is 3; it must be string."),
        ("encoder.name", "x3d_xxs", "encoder.name is 'x3d_xxs', which is unknown; did you mean 'x3d_xs'?"),
        ("encoder.name", "bert", "encoder.name is 'bert', which is unknown; did you mean 'bert_small'?"),
        (
            "encoder.name",
            "zzz",
            "encoder.name is 'zzz', which is unknown; accepted: attention_pool, bert_small, ",
        ),
        ("model", 3, "model is 3; it must be"),
        ("model.blocks", 10**6, "model.blocks is 1000000; it must be at most 65,536."),
        ("model.hidden_size", 8, "model.hidden_size is unknown; did you mean 'model.dim'?"),
        ("model.num_layers", 2, "model.num_layers is unknown; did you mean 'blocks'?"),
        ("model.learning_rate", 1, "model.learning_rate is unknown; did you mean 'train.lr'?"),
        ("encoder.pretrained", True, "encoder.pretrained is unknown; accepted: dropout."),
        ("encoder", {"name": "sum", "towers": [3, 4]}, "encoder.towers[0] must be an encoder table, such as { name"),
        ("protocol.max_history", 10**12, "protocol.max_history is 1000000000000; it must be at most 10,000."),
        ("output", "", "output is ''; it must be a path."),
        ("output", ".", "output is ., which contains the working or home folder; name a folder for this run."),
        ("dataset", "", "dataset is ''; it must be a path."),
    ],
)
def test_a_wrong_configuration_is_refused_in_the_file_and_by_set(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    toml = "{ name = 'sum', towers = [3, 4] }" if isinstance(value, dict) else json.dumps(value)
    output = f"output={json.dumps(str(tmp_path / 'run'))}"
    assert sentence in refusal("train", world / "config.toml", "--set", output, "--set", f"{key}={toml}")
    table = tomllib.loads((world / "config.toml").read_text()) | {"output": str(tmp_path / "run")}
    section, _, name = key.rpartition(".")
    (table.setdefault(section, {}) if section else table)[name] = value
    (tmp_path / "wrong.toml").write_text(tomli_w.dumps(table))
    assert sentence in refusal("train", tmp_path / "wrong.toml")
    assert entries(tmp_path) == {tmp_path / "wrong.toml"}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.lr.x=3", "assignment train.lr.x=3: 'lr' is not a table."),
        ("train.lr", "assignment train.lr: expected key=value, such as train.lr=1e-3."),
    ],
)
def test_an_override_that_is_none_is_refused(world: Path, override: str, sentence: str) -> None:
    assert sentence in refusal("train", world / "config.toml", "--set", override)


def test_a_bare_word_is_a_string_and_an_option_of_the_encoder_is_checked(world: Path, tmp_path: Path) -> None:
    video = ("--set", "encoder.name=x3d_xs", "--set", f"output={json.dumps(str(tmp_path / 'run'))}")
    told = refusal("train", world / "config.toml", *video, "--set", "encoder.weight=random")
    assert "encoder.weight is unknown; did you mean 'weights'?" in told
    told = refusal("train", world / "config.toml", *video, "--set", "encoder.weights=3")
    assert "encoder.weights is 3: input should be a valid string." in told


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "does not exist; a configuration is a TOML file"), ("[model\n", "is not TOML: ")],
)
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "config.toml").write_text(content)
    assert sentence in refusal("train", tmp_path / "config.toml")
    assert "is a folder; name a TOML file" in refusal("train", tmp_path)


def test_a_dataset_that_is_missing_foreign_or_of_another_version_is_refused(world: Path, tmp_path: Path) -> None:
    def train_on(dataset: Path) -> str:
        overrides = (f"dataset={json.dumps(str(dataset))}", f"output={json.dumps(str(tmp_path / 'run'))}")
        return refusal("train", world / "config.toml", "--set", overrides[0], "--set", overrides[1])

    assert "nowhere is not a prepared dataset (no manifest.json); make one with" in train_on(tmp_path / "nowhere")
    other = shutil.copytree(world / "dataset", tmp_path / "other")
    manifest = manifest_of(other)
    (other / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    assert "has dataset format version 99; this microlens reads version" in train_on(other)
    (other / "manifest.json").write_text("{}")
    assert "manifest.json is damaged (format_version is missing); prepare the dataset again." in train_on(other)
    assert not (tmp_path / "run" / "config.toml").exists()


def test_a_run_is_trained_evaluated_compared_and_a_foreign_checkpoint_refused(world: Path) -> None:
    for name, dim in (("small", 8), ("large", 16)):
        overrides = (f"model.dim={dim}", f"output={json.dumps(str(world / name))}")
        arguments = ("train", world / "config.toml", "--set", overrides[0], "--set", overrides[1])
        status, told, _ = run_command(*arguments)
        assert status == 0
        assert f"{world / name / 'report.json'} is written." in told
    status, told, _ = run_command("evaluate", world / "small", "--json")
    assert status == 0
    assert json.loads(told)["metrics"] == Report.read(world / "small").metrics
    assert run_command("report", world / "small", world / "large")[0] == 0
    with replaced(world / "small", BEST) as path:
        shutil.copy(world / "large" / BEST, path)
    for arguments in (("evaluate", world / "small"), ("recommend", world / "small", "--user", "1")):
        assert "best.safetensors is the checkpoint of another model" in refusal(*arguments)
    assert "is not a run folder (no config.toml)" in refusal("evaluate", world / "dataset")


def test_runs_under_different_protocols_are_not_put_into_one_table(world: Path) -> None:
    for name, longest in (("thirteen", 13), ("nine", 9)):
        output = f"output={json.dumps(str(world / name))}"
        protocol = f"protocol.max_length={longest}"
        assert run_command("train", world / "config.toml", "--set", output, "--set", protocol)[0] == 0
    told = refusal("report", world / "thirteen", world / "nine")
    assert "cannot be compared: their protocol differs" in told


def test_lists_name_models_encoders_and_datasets(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"sasrec.*blocks = 2.*heads = 2", run_command("list", "models")[1])
    assert re.search(r"(?s)x3d_xs.*weights = \"random\"", run_command("list", "encoders")[1])  # the table wraps
    (world / "here" / "datasets").mkdir(parents=True)
    (world / "here" / "datasets" / "tiny").symlink_to(world / "dataset")
    monkeypatch.chdir(world / "here")
    assert re.search("datasets/tiny .* 40 .* 20 ", run_command("list", "datasets")[1])


def test_an_item_without_content_is_named_with_the_way_out_and_the_way_out_works(tmp_path: Path) -> None:
    release, dataset = tmp_path / "release", tmp_path / "dataset"
    assert run_command("data", "synth", release, "--users", "20", "--items", "14")[0] == 0
    rows = np.loadtxt(release / "synthetic_pairs.csv", delimiter=",", skiprows=1, dtype=np.int64)
    item = int(np.bincount(rows[:, 1]).argmax())  # every item that has been seen is a candidate
    (release / "videos" / f"{item}.mp4").write_bytes(b"")
    prepared = run_command("data", "prepare", release, dataset, "--num-frames", "2", "--size", "32")
    assert f"fault: item {item}, videos/{item}.mp4, clips lost: the file is empty" in prepared[1]
    config = tmp_path / "config.toml"
    config.write_text(SASREC.format(dataset=dataset, output=tmp_path / "run"))
    arguments = ("train", config, "--set", "encoder.name=x3d_xs")
    told = refusal(*arguments)
    assert f"1 of 14 items have no clips (items {item}), which the encoder needs" in told
    way_out = re.search(r"protocol\.require = \[\"clips\"\]", told)
    assert way_out is not None
    assert run_command(*arguments, "--set", way_out[0])[0] == 0
    assert Report.read(tmp_path / "run").protocol["require"] == ["clips"]
    status, ranked, _ = run_command("recommend", tmp_path / "run", "--user", "1", "-k", "20")
    assert status == 0
    recommended = re.findall(r"^│ +\d+ │ +(\d+) │", ranked, re.MULTILINE)
    assert recommended
    assert str(item) not in recommended
