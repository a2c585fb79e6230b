"""A release whose ids are text gives the same dataset as its twin with integers, and everything goes by its ids."""

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from microlens.config.run_config import RunConfig
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.feature_matrix import load_features
from microlens.data.prepare import prepare
from microlens.data.protocol import NAMED_PROTOCOLS, Protocol
from microlens.errors import InputError
from microlens.evaluation.ranking import encode_catalogue
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.media.store import Store
from microlens.page.comparison import open_data, read_runs
from microlens.page.users import users_section
from microlens.runs.assembly import build_experiment
from microlens.runs.feature_files import write_features
from microlens.runs.train import train
from tests.data.test_prepare import manifest_of, run_command, stored

SETTINGS = Settings(clips=ClipSettings(num_frames=2, size=32))
ITEMS, NETWORK = 14, "resnet18"


def item_text(item: int | str) -> str:
    """Text in the order of the integers."""
    return f"vidéo-{int(item):03d}"


def user_text(user: int | str) -> str:
    return f"{int(user):03d}"  # a leading zero makes it text


@pytest.fixture(scope="module")
def twins(video_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset with integer ids, and one with text in the same order; video 3 is damaged, cover 5 is missing."""
    folder = tmp_path_factory.mktemp("twins")
    numbers, texts = folder / "numbers", folder / "texts"
    shutil.copytree(video_dataset.parent / "release", numbers)
    (numbers / "synthetic_pairs.tsv").unlink()
    (numbers / "videos" / "3.mp4").write_bytes(b"no video")
    (numbers / "audios" / "3.m4a").unlink()
    (numbers / "covers" / "5.jpg").unlink()
    texts.mkdir()
    for path in sorted(numbers.glob("synthetic_*.*")):
        separator = "," if path.suffix == ".csv" else "\t"
        lines = (line.split(separator, 2) for line in path.read_text().splitlines() if line[0].isdigit())
        names = [user_text, item_text] if "pairs" in path.name or "comments" in path.name else [item_text]
        written = (
            [name(cell) for name, cell in zip(names, cells, strict=False)] + cells[len(names) :] for cells in lines
        )
        (texts / path.name).write_text("".join(separator.join(cells) + "\n" for cells in written))
    for path in (path for name in ("videos", "covers", "audios") for path in (numbers / name).iterdir()):
        target = texts / path.parent.name / f"{item_text(path.stem)}{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    for name in ("numbers", "texts"):
        prepare(folder / name, folder / f"{name}-dataset", SETTINGS, workers=1)
    return folder / "numbers-dataset", folder / "texts-dataset"


def test_the_folder_holds_the_ids_as_text_and_keys_inside(twins: tuple[Path, Path]) -> None:
    numbers, texts = map(Dataset, twins)
    assert texts.manifest["ids"] == {"user": "string", "item": "string"}
    assert "ids" not in numbers.manifest
    assert texts.interactions.user_ids.tolist() == list(range(1, 25))
    assert texts.interactions.item_ids.tolist() == list(range(ITEMS + 1))
    assert texts.user_ids.to_list() == [user_text(user) for user in numbers.user_ids]
    assert texts.item_ids.to_list() == [item_text(item) for item in numbers.item_ids]
    assert (numbers.user_ids.dtype, numbers.item_ids.dtype) == (pl.Int64, pl.Int64)
    events = pl.read_parquet(twins[1] / "interactions.parquet")
    expected = pl.read_parquet(twins[0] / "interactions.parquet")
    assert events["item"].to_list() == [item_text(item) for item in expected["item"]]
    assert events["user"].to_list() == [user_text(user) for user in expected["user"]]
    shown = texts.items.with_columns(pl.col("item_id").str.tail(3).cast(pl.Int64))
    assert shown.equals(numbers.items)
    assert stored(twins[1]) == stored(twins[0])  # the keys of the stores are the same integers here


def test_the_manifest_speaks_of_the_users_own_ids(twins: tuple[Path, Path]) -> None:
    numbers, texts = map(manifest_of, twins)
    (fault,) = texts["faults"]
    assert (fault["item"], fault["file"]) == ("vidéo-003", "videos/vidéo-003.mp4")
    assert fault["fault"] == numbers["faults"][0]["fault"]
    assert texts["counts"] == numbers["counts"]
    assert {source["path"] for source in texts["sources"]} >= {"videos/vidéo-001.mp4", "covers/vidéo-002.jpg"}
    assert [drop["examples"] for drop in texts["dropped"] if drop["what"] == "users"] == [
        [user_text(user) for user in drop["examples"]] for drop in numbers["dropped"] if drop["what"] == "users"
    ]


def test_preparing_again_opens_what_is_there(twins: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microlens.data.dataset_writer.decode_all", None)
    for dataset in twins:
        release = dataset.with_name(dataset.name.removesuffix("-dataset"))
        assert prepare(str(release), str(dataset), SETTINGS).checksum == manifest_of(dataset)["checksum"]
    with pytest.raises(InputError, match="made from other data"):
        prepare(twins[0].with_name("numbers"), twins[1], SETTINGS)


def test_ids_are_looked_up_however_they_are_written(twins: tuple[Path, Path]) -> None:
    numbers, texts = map(Dataset, twins)
    assert texts.item_numbers(["vidéo-002", "vidéo-014"]).tolist() == [2, 14]
    assert numbers.item_numbers([2, "14"]).tolist() == [2, 14]
    user = int(numbers.user_ids[3])
    assert [numbers.user_number(user), numbers.user_number(str(user)), texts.user_number(user_text(user))] == [3] * 3
    for dataset, unknown in ((texts, "vidéo-99"), (texts, 2), (numbers, 99), (numbers, "two")):
        with pytest.raises(InputError, match=f"item {unknown} is not among the 14 items of"):
            dataset.item_numbers([dataset.item_ids[0], unknown])
        with pytest.raises(InputError, match=f"user {unknown} is not among the 24 users of"):
            dataset.user_number(unknown)


@pytest.mark.parametrize("name", [name for name, fields in NAMED_PROTOCOLS.items() if fields.get("split") != "given"])
def test_splits_are_those_of_the_twin(twins: tuple[Path, Path], name: str) -> None:
    protocol = Protocol(**NAMED_PROTOCOLS[name])
    one, other = (Dataset(folder).split(protocol) for folder in twins)
    for part in fields(one):
        assert np.array_equal(getattr(one, part.name), getattr(other, part.name))


def config_of(dataset: Path, output: Path, **sections: Any) -> RunConfig:
    training = {"epochs": 2, "batch_size": 8, "device": "cpu", "workers": 0}
    return RunConfig.model_validate({"dataset": dataset, "output": output, "train": training, **sections})


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"name": "popularity"}},
        {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "id"}},
    ],
)
def test_training_gives_the_numbers_of_the_twin(
    twins: tuple[Path, Path], tmp_path: Path, sections: dict[str, Any]
) -> None:
    reports = [train(config_of(folder, tmp_path / folder.name, **sections)) for folder in twins]
    assert reports[0].metrics == reports[1].metrics
    assert reports[0].num_targets == reports[1].num_targets
    pages = [users_of_page(tmp_path / folder.name) for folder in twins]
    assert pages[0] == re.sub(r"User 0*(\d+)", r"User \1", pages[1])  # titles and pictures are the same
    assert "User 0" in pages[1]


def users_of_page(run: Path) -> str:
    runs = read_runs([run])
    return users_section(runs, *open_data(runs[0])).replace(run.name, "RUN")


def test_features_are_named_by_text(twins: tuple[Path, Path], tmp_path: Path) -> None:
    made = [
        write_features(folder, NETWORK, weights="random", missing="skip", out=tmp_path / folder.name)
        for folder in twins
    ]
    ids = np.load(made[1].path.with_suffix(".ids.npy"))
    assert ids.dtype.kind == "U"
    assert ids.tolist() == [item_text(item) for item in range(1, ITEMS + 1) if item != 5]
    assert made[1].provenance["left_out"] == {"covers": ["vidéo-005"]}
    np.testing.assert_array_equal(np.load(made[1].path), np.load(made[0].path))
    again = write_features(twins[1], NETWORK, weights="random", missing="skip", out=tmp_path / twins[1].name)
    assert again.provenance == made[1].provenance
    model = build_experiment(
        config_of(
            twins[1], tmp_path / "run", model={"name": "sasrec", "dim": 8}, protocol={"require": ["covers"]},
            encoder={"name": "features", "path": str(made[1].path)},
        )
    )  # fmt: skip
    number = int(np.searchsorted(model.split.items_kept, Dataset(twins[1]).item_numbers(["vidéo-007"])[0]))
    expected = np.load(made[1].path)[ids.tolist().index("vidéo-007")]
    np.testing.assert_array_equal(model.model.item_encoder.features[number - 1].numpy(), expected)


def test_features_of_text_ids_are_found_by_id(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "f.npy", matrix)
    np.save(tmp_path / "f.ids.npy", np.array(["é", "007", "7"]))
    wanted = np.array(["7", "é"], object)
    np.testing.assert_array_equal(load_features(tmp_path / "f.npy", wanted), matrix[[2, 0]])
    for ids, message in (
        (np.array(["é", "7", "7"]), "names item 7 twice"),
        (np.array(["e", "7", "8"]), r"no row for 1 items \(first: item é\)"),
        (np.array([1.0, 2.0, 3.0]), "not a .npy array of integers or text but of float64"),
        (np.array([b"1", b"2", b"3"]), "not a .npy array of integers or text"),
    ):
        np.save(tmp_path / "f.ids.npy", ids)
        with pytest.raises(InputError, match=message):
            load_features(tmp_path / "f.npy", wanted)
    np.save(tmp_path / "f.ids.npy", np.array([2**64 - 1, 7, 5], np.uint64))
    wanted = np.array([str(2**64 - 1), "5"], object)
    np.testing.assert_array_equal(load_features(tmp_path / "f.npy", wanted), matrix[[0, 2]])


def test_messages_name_items_by_their_text(twins: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = Dataset(shutil.copytree(twins[1], tmp_path / "dataset"))
    keys = dataset.interactions.item_ids
    with pytest.raises(InputError, match=r"1 of 14 items have no clips \(items vidéo-003\)"):
        ItemContent(dataset, keys, frozenset({"clips"}))
    run = build_experiment(config_of(twins[1], tmp_path, model={"name": "sasrec", "dim": 8}, encoder={"name": "id"}))
    run.model.item_encoder.table.data[7] = np.nan
    with pytest.raises(InputError, match="the vector of item vidéo-007 is NaN"):
        encode_catalogue(run.model, run.content, run.split.num_items, run.device)
    path = dataset.folder / "covers.lmdb"
    content = bytearray(path.read_bytes())
    start = content.index(Store.open(path).get(4) or b"")
    content[start : start + 4] = b"XXXX"
    path.write_bytes(content)
    covers = ItemContent(dataset, keys, frozenset({"covers"}), may_lack=frozenset({"covers"}))
    with pytest.raises(InputError, match="item vidéo-004: "):
        covers.read(np.array([4]))


def test_damaged_tables_of_text_ids_are_named(twins: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = shutil.copytree(twins[1], tmp_path / "dataset")
    items, users = (pl.read_parquet(dataset / f"{name}.parquet") for name in ("items", "users"))
    for name, table, message in (
        ("items", items.reverse().with_columns(items["item"]), "items.parquet does not list the 14 items"),
        ("items", items.with_columns(pl.lit("x").alias("item_id")), "items.parquet does not list the 14 items"),
        ("items", items.with_columns(pl.col("item").cast(pl.Int64).alias("item_id")), "Int64 in column 'item_id'"),
        ("users", users[1:], "users.parquet does not list the 24 users"),
        ("users", users.drop("user_id"), "users.parquet has no column 'user_id'"),
    ):
        table.write_parquet(dataset / f"{name}.parquet")
        with pytest.raises(InputError, match=message):
            _ = Dataset(dataset).item_ids, Dataset(dataset).user_ids
        items.write_parquet(dataset / "items.parquet")
        users.write_parquet(dataset / "users.parquet")
    (dataset / "users.parquet").unlink()
    with pytest.raises(InputError, match=r"users\.parquet is missing"):
        Dataset(dataset)


def test_the_command_prints_text_ids(twins: tuple[Path, Path]) -> None:
    release = twins[1].with_name("texts")
    options = ("--num-frames", "2", "--size", "32", "--workers", "1")
    status, told, _ = run_command("data", "prepare", release, twins[1], *options)
    assert status == 0
    assert "fault: item vidéo-003, videos/vidéo-003.mp4, clips lost: " in told
