"""Configurations: strict, reproducible, and those of the repository work."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.assembly import _build_model
from microlens.config import RunConfig
from microlens.data.batches import ItemBatch
from microlens.data.dataset import Dataset
from microlens.data.decoding import Settings
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.errors import InputError
from tests.conftest import REPOSITORY, random_sequences, write_pairs
from tests.contracts.test_recommenders import FITTED
from tests.test_baselines import requires_the_library

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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY / "configs")))
def test_the_configurations_of_the_repository_load_and_build(
    path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("encoders.features", "recommenders.modalities", "recommenders.content_knn"):
        monkeypatch.setattr(f"microlens.{module}.load_features", lambda _, ids: np.ones((len(ids), 16), np.float32))
    vocabulary = tiny.folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]))
    monkeypatch.setattr("microlens.encoders.text.download", lambda _: vocabulary)
    encoder = tomllib.loads(path.read_text()).get("encoder", {})
    downloads = encoder.get("weights") == "default" or encoder.get("name") == "bert_small"
    config = RunConfig.load(path, ["encoder.weights=random"] * downloads)
    requires_the_library(config.model.name)
    assert config.dataset == Path("datasets") / path.parent.name
    assert config.output == Path("runs") / path.parent.name / path.stem
    split = tiny.split(Protocol())
    model = _build_model(config, tiny, split, tiny.interactions.item_ids[split.items_kept])
    needs = model.item_encoder.needs
    assert needs <= {"clips", "covers"}
    pixels = torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8)
    content = {kind: pixels if kind == "clips" else pixels[:, :1] for kind in needs}
    batch = ItemBatch(items=torch.tensor([1, 2]), content=content)
    vectors = model.encode_items(batch)
    widths = {"content_knn": 16, **dict.fromkeys({"popularity", *FITTED}, 1)}
    if config.model.name == "grcn":  # the parts of each kind side by side, and the ids
        widths["grcn"] = config.model.dim * (2 if "features" in config.model.options() else 1)
    assert vectors.shape == (2, widths.get(config.model.name, config.model.dim))
    assert (config.encoder is None) == (config.model.name in {"popularity", "content_knn", *FITTED})


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
    ]  # fmt: skip
    hashes = {load(tmp_path, override).hash for override in overrides} | {load(tmp_path).hash}
    assert len(hashes) == len(overrides) + 1
    assert all(len(digits) == 12 and int(digits, 16) >= 0 for digits in hashes)


def test_defaults_written_out_have_the_same_hash(tmp_path: Path) -> None:
    assert load(tmp_path, "seed=42", "train.epochs=50", "model.dim=64").hash == load(tmp_path).hash


def test_a_number_that_is_written_as_an_integer_is_the_same_number(tmp_path: Path) -> None:
    assert load(tmp_path, "train.lr=1").hash == load(tmp_path, "train.lr=1.0").hash
    assert json.dumps(load(tmp_path, "train.lr=1").train.lr) == "1.0"
