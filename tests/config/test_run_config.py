"""Configurations: strict, reproducible, and those of the repository work."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.building import OPTION_NAMED, nearest
from microlens.config.run_config import RunConfig
from microlens.config.sections import Section
from microlens.data.batches import ItemBatch
from microlens.data.dataset import Dataset
from microlens.data.item_words import item_words
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.runs.assembly import _build_model, _untrained_parts
from tests.conftest import REPOSITORY, random_sequences, write_pairs
from tests.recommenders.test_baselines import requires_the_library
from tests.recommenders.test_contract import FITTED

CONFIGS = sorted((REPOSITORY / "configs").rglob("*.toml"))
TEXT = """
dataset = "datasets/x"
output = "runs/x"

[model]
name = "sasrec"
blocks = 3

[encoder]
name = "sum"
towers = [{ name = "id" }, { name = "x3d_xs", weights = "random" }]

[protocol]
require = ["clips"]
"""


def load(tmp_path: Path, *overrides: str, text: str = TEXT) -> RunConfig:
    (tmp_path / "config.toml").write_text(text)
    return RunConfig.load(tmp_path / "config.toml", list(overrides))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("tiny")
    release = write_pairs(folder / "release", random_sequences(20, 12))
    (release / "tiny_tags.csv").write_text("1,Game\n2,Anime\n")
    prepare(release, folder / "dataset", Settings())
    return Dataset(folder / "dataset")


class NoiseSequences:
    """Seven random vectors of each item, whatever the file."""

    def __init__(self, _: str, item_ids: np.ndarray) -> None:
        self.num_vectors, self.feature_dim = 7, 16
        self.present = np.ones((len(item_ids), 7), bool)

    def read(self, items: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(items), 7, 16)).astype(np.float16)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY / "configs")))
def test_the_configurations_of_the_repository_load_and_build(
    path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (
        "encoders.frozen_features",
        "recommenders.modalities",
        "recommenders.content_knn",
        "recommenders.vbpr",
    ):
        monkeypatch.setattr(f"microlens.{module}.load_features", lambda _, ids: np.ones((len(ids), 16), np.float32))
    monkeypatch.setattr("microlens.encoders.frozen_sequences.FeatureSequences", NoiseSequences)
    monkeypatch.setattr("microlens.recommenders.tiger.load_codes", lambda _, ids: np.arange(len(ids))[:, None])
    monkeypatch.setattr("microlens.encoders.words.item_words", lambda titles, _: item_words(["a b"] * len(titles)))
    vocabulary = tiny.folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]))
    monkeypatch.setattr("microlens.encoders.text.download", lambda _: vocabulary)
    encoder = tomllib.loads(path.read_text()).get("encoder", {})
    downloads = encoder.get("weights") == "default" or encoder.get("name") == "bert_small"
    config = RunConfig.load(path, ["encoder.weights=random"] * downloads)
    requires_the_library(config.model.name)
    assert config.dataset == Path("datasets") / path.parent.name
    assert config.output == Path("runs") / path.parent.name / path.stem
    model = _build_model(config, tiny, tiny.split(Protocol()), _untrained_parts(config, tiny))
    needs = model.item_encoder.needs
    assert needs <= {"clips", "covers"}
    pixels = torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8)
    content = {kind: pixels if kind == "clips" else pixels[:, :1] for kind in needs}
    content |= {f"{kind}.missing": torch.zeros(2, dtype=torch.bool) for kind in needs}
    batch = ItemBatch(items=torch.tensor([1, 2]), content=content)
    vectors = model.encode_items(batch)
    widths = {"content_knn": 16, **dict.fromkeys({"popularity", "text_knn", "fusion", "tiger", *FITTED}, 1)}
    if config.model.name == "grcn":  # the parts of each kind side by side, and the ids
        widths["grcn"] = config.model.dim * (2 if "features" in config.model.options() else 1)
    assert vectors.shape == (2, widths.get(config.model.name, config.model.dim))
    assert (config.encoder is None) == (
        config.model.name in {"popularity", "content_knn", "text_knn", "vbpr", "fusion", "tiger", *FITTED}
    )


def test_there_are_configurations() -> None:
    assert {path.parent.name for path in CONFIGS} >= {"demo", "microlens-50k"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr=3", 3.0),
        ("train.lr=1e-3", 1e-3),
        ("train.epochs=7", 7),
        ("train.select=NDCG@20", "NDCG@20"),
        ("protocol.require=['covers', 'sound']", ("covers", "sound")),
        ("output=runs/other", Path("runs/other")),
        ("seed = 7", 7),
        ("model.blocks=1", 1),
    ],
)
def test_what_is_accepted(tmp_path: Path, override: str, expected: Any) -> None:
    value: Any = load(tmp_path, override)
    for name in override.partition("=")[0].strip().split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "override",
    [
        'train.epochs="3"',
        "train.epochs=true",
        "train.epochs=3.0",
        "train.epochs=0",
        'train.lr="1e-3"',
        "train.lr=true",
        "train.lr=-1",
        "train.batch_size=1",
        "train.device=tpu",
        "seed=-1",
        "seed=1.5",
        "dataset=3",
        "model.dim=8.5",
        "protocol.require=clips",
        "encoder.name=3",
    ],
)
def test_what_is_refused(tmp_path: Path, override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(InputError, match=rf"config\.toml: {key}.* is .*; it must be "):
        load(tmp_path, override)


@pytest.mark.parametrize("key", ["dataset", "output", "model.name", "encoder.name"])
def test_what_is_missing_is_named(tmp_path: Path, key: str) -> None:
    text = TEXT.replace('name = "sum"\n', "") if key == "encoder.name" else TEXT
    text = text.replace('name = "sasrec"\n', "") if key == "model.name" else text
    text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{key} ="))
    with pytest.raises(InputError, match=f"{key} is missing"):
        load(tmp_path, text=text)


def test_what_is_written_loads_as_what_it_was(tmp_path: Path) -> None:
    config = load(tmp_path, "train.lr=3", "train.checkpoint_minutes=0.1")
    again = load(tmp_path, text=config.toml())
    assert again == config
    assert again.hash == config.hash
    assert again.toml() == config.toml()
    assert "checkpoint_minutes = 0.1" in config.toml()


@pytest.mark.parametrize(
    "override", ["output=elsewhere", "dataset=moved", "train.workers=7", "train.checkpoint_minutes=1"]
)
def test_where_things_lie_is_not_in_the_hash(tmp_path: Path, override: str) -> None:
    assert load(tmp_path, override).hash == load(tmp_path).hash


def test_everything_that_changes_numbers_is_in_the_hash(tmp_path: Path) -> None:
    overrides = [
        "seed=1", "protocol.min_length=6", "protocol.require=[]", "protocol.min_item_count=20",
        "model.dim=32", "model.blocks=1", "encoder.name=id",
        "encoder.towers=[]", "train.epochs=3", "train.batch_size=4", "train.lr=1", "train.encoder_lr=1",
        "train.weight_decay=0", "train.clip_norm=1", "train.patience=1", "train.select=NDCG@10", "train.precision=bf16",
        "train.compile=true", "train.channels_last=true",
    ]  # fmt: skip
    hashes = {load(tmp_path, override).hash for override in overrides} | {load(tmp_path).hash}
    assert len(hashes) == len(overrides) + 1
    assert all(len(digits) == 12 and int(digits, 16) >= 0 for digits in hashes)


def test_defaults_written_out_have_the_same_hash(tmp_path: Path) -> None:
    assert load(tmp_path, "seed=42", "train.epochs=50", "model.dim=64").hash == load(tmp_path).hash


def test_accelerate_of_earlier_versions_became_three_options(tmp_path: Path) -> None:
    for former in ("train.accelerate=true", "parts=[{model={name='sasrec'}, train={accelerate=true}}]"):
        with pytest.raises(InputError) as refused:
            load(tmp_path, former)
        assert str(refused.value).endswith(
            "train.accelerate is unknown; it became three options: train.compile = true, train.channels_last = true, "
            'train.precision = "bf16".'
        )


def test_configurations_of_earlier_runs_are_translated_and_keep_their_hash(tmp_path: Path) -> None:
    path, former = tmp_path / "config.toml", tmp_path / "former.toml"
    text = load(tmp_path).toml()
    path.write_text(text)
    former.write_text(text.replace("compile = false\nchannels_last = false", "accelerate = false"))
    assert former.read_text() != text
    assert RunConfig.load(former) == RunConfig.load(path)
    assert RunConfig.load(path).hash == "32ea75090a93"  # as version 0.2 has it
    former.write_text(text.replace("compile = false\nchannels_last = false", "accelerate = true"))
    translated = RunConfig.load(former, of_run=True)
    assert (translated.train.compile, translated.train.channels_last, translated.train.precision) == (
        True, True, "bf16",
    )  # fmt: skip
    assert translated.hash == "c72d546200c9"
    with pytest.raises(InputError, match=r"former.toml: train.accelerate is unknown; it became three options"):
        RunConfig.load(former)


def test_a_number_that_is_written_as_an_integer_is_the_same_number(tmp_path: Path) -> None:
    assert load(tmp_path, "train.lr=1").hash == load(tmp_path, "train.lr=1.0").hash
    assert json.dumps(load(tmp_path, "train.lr=1").train.lr) == "1.0"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.dim=1000000000", "model.dim is 1000000000; it must be less than or equal to 65536."),
        ("train.batch_size=10000000", "train.batch_size is 10000000; it must be less than or equal to 1000000."),
        ("train.workers=100000", "train.workers is 100000; it must be less than or equal to 1024."),
        ("seed=9223372036854775808", "seed is an integer of more than 64 bits."),
        ("protocol.seed=18446744073709551616", "protocol.seed is an integer of more than 64 bits."),
        (f"model.heads=0x{'F' * 5000}", "model.heads is an integer of more than 64 bits."),
        ("train.lr=inf", "train.lr is inf; it must be a finite number."),
        ("train.lr=1e999", "train.lr is inf; it must be a finite number."),
        ("model.dropout=nan", "model.dropout is nan; it must be a finite number."),
        ("encoder.towers=[{ name = 'id', dropout = -inf }]", "encoder.towers.0.dropout is -inf; it must be a finite"),
        ('dataset=""', "dataset is ''; it must be a path."),
        ("output=", "output is ''; it must be a path."),
        ('output="a\\u0000b"', "output is 'a\\x00b'; text must be UTF-8 without NUL."),
        ("output=\udcff", "output is '\\udcff'; text must be UTF-8 without NUL."),
        (f"a={'[' * 40}{']' * 40}", "nests tables or lists more than 32 deep"),
        (f"{'a.' * 1000}a=1", "nests tables or lists more than 32 deep"),
        ("tune.x=3", "tune.x is 3; it must be a table."),
        ("tune.int=3", "tune.int is 3; it must be a table."),
        ('tune."train.lr"={ low = 1, hihg = 2 }', "tune.train.lr.hihg is unknown; did you mean 'high'?"),
        ('tune."train.lr"={ low = "x", high = 2 }', "tune.train.lr.low is 'x'; it must be integer or number."),
        ('tune."train.lr".choices=[[1]]', "choices.0 is [1]; it must be string or integer or number or boolean."),
        ('tune."train.lr".choices=[]', "tune.train.lr.choices is []; it must be at least 1 long."),
        ('tune."train.epochs"={ low = 1, high = 3, step = 0.5 }', "a range of integers whose step is one, too."),
        ("tune.low.x=3", "tune.low.x is unknown; accepted: choices, high, log, low, step."),
        ("train=[1]", "train is [1]; it must be a table."),
        ("protocol.require={}", "protocol.require is {}; it must be a list."),
        ("encoder.name=[{ a = 1 }]", "encoder.name is [{'a': 1}]; it must be string."),
    ],
)
def test_what_no_run_can_use_is_refused_by_name(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        load(tmp_path, override)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a = " + b"[" * 3000 + b"]" * 3000, "nests tables or lists more than 32 deep"),
        (b"a = " + b"[\n" * 3000 + b"]\n" * 3000, "nests tables or lists more than 32 deep"),
        (b"a." * 10_000 + b"a = 1", "line 1, has more than 8,192 bytes"),
        (b"#\n" * 40_000, "it has more than 65,536 bytes"),
        (TEXT.encode() + b"\0", "is not TOML: "),
        (TEXT.encode() + b"# caf\xe9", "line 15, is not UTF-8"),
        (TEXT.encode("utf-16"), "line 1, is not UTF-8"),
        (b"seed = " + b"9" * 5000, "holds an integer of more than 64 bits"),
        (b"", "dataset is missing."),
    ],
    ids=["deep", "deep lines", "long line", "large", "NUL", "Latin-1", "UTF-16", "5000 digits", "empty"],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(InputError) as refused:
        RunConfig.load(tmp_path / "config.toml")
    assert sentence in str(refused.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load(tmp_path, text="\ufeff" + TEXT) == load(tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs=7\ntrain.lr=5",
        "train.epochs=7\n[model]",
        "model.name=sas\nrec",
        "train\n.epochs=7",
        "[train]\nlr=3",
    ],
)
def test_an_override_sets_one_key_to_one_value(tmp_path: Path, override: str) -> None:
    with pytest.raises(InputError, match=r"^assignment .*expected (one )?key=value"):
        load(tmp_path, override)


def test_the_key_of_an_override_is_as_toml_writes_it(tmp_path: Path) -> None:
    assert load(tmp_path, "train . 'lr' = 3  # three").train.lr == 3
    assert load(tmp_path, "train.select='HR@20'").train.select == "HR@20"
    assert load(tmp_path, "protocol.require=[\n'covers',\n]").protocol.require == ("covers",)
    assert list(load(tmp_path, 'tune."train.lr"={ low = 1, high = 2 }').tune) == ["train.lr"]
    with pytest.raises(InputError, match="a=b is unknown"):
        load(tmp_path, '"a=b"=3')


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learning_rate", "train.lr"),
        ("lr", "train.lr"),
        ("train.learning_rate", "lr"),
        ("embedding_dim", "model.dim"),
        ("hidden_size", "model.dim"),
        ("num_epochs", "train.epochs"),
        ("batch", "train.batch_size"),
        ("train.BatchSize", "batch_size"),
        ("l2", "train.weight_decay"),
        ("early_stopping", "train.patience"),
        ("num_workers", "train.workers"),
        ("random_state", "seed"),
        ("gpu", "train.device"),
        ("max_len", "protocol.max_history"),
        ("protocol.history_length", "max_history"),
        ("train.dim", "model.dim"),
        ("Train.lr", "train"),
        ("data_dir", "dataset"),
    ],
)
def test_other_words_for_an_option_lead_to_it(tmp_path: Path, key: str, meant: str) -> None:
    with pytest.raises(InputError) as refused:
        load(tmp_path, f"{key}=1")
    assert f" is unknown; did you mean '{meant}'?" in str(refused.value)


@pytest.mark.parametrize("key", ["optimizer", "train.scheduler", "train.momentum", "warmup"])
def test_nothing_is_guessed_where_nothing_is_close(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=f"{key} is unknown; accepted: "):
        load(tmp_path, f"{key}=1")


def test_a_name_is_close_by_its_letters_or_its_beginning() -> None:
    assert nearest("blcoks", ["blocks", "heads"]) == "did you mean 'blocks'?"
    assert nearest("bert", ["bert_small", "id"]) == "did you mean 'bert_small'?"
    assert nearest("learning_rate", ["compile", "lr"]) == "accepted: compile, lr."


def test_every_option_is_among_the_words_that_lead_to_options() -> None:
    options = {"model.blocks", "model.layers", "model.heads", "model.dropout", "encoder.name", "encoder.weights"}
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            options |= {f"{name}.{option}" for option in section.model_fields}
        elif name not in ("encoder", "tune", "parts"):
            options.add(name)
    assert set(OPTION_NAMED.values()) == options - {"protocol.seed"}  # the same word as for the whole run


@pytest.mark.parametrize("output", [".", "..", "/", "~", "home", "dataset", "dataset/run", "file", "link"])
def test_an_output_among_others_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    for folder in ("dataset", "here", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    written = output if output in (".", "..", "/", "~") else str(tmp_path / output)
    config = load(tmp_path, f"output='{written}'", f"dataset='{tmp_path / 'dataset'}'")
    with pytest.raises(InputError, match="name a folder for this run"):
        config.check_output()
    load(tmp_path, "output='run'", f"dataset='{tmp_path / 'dataset'}'").check_output()


def test_a_protocol_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(InputError, match=r"protocol.max_history is 1000000000000; it must be at most 10,000\."):
        Protocol(max_history=10**12)
    with pytest.raises(InputError, match=r"protocol.max_length is 1000000000000; it must be at most 2,147,483,647\."):
        Protocol(max_length=10**12)
