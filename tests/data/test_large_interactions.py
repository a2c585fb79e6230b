"""Datasets whose interactions do not fit in memory: the same files, and nothing lost or left behind."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from microlens.data import dataset_writer, parquet_tables, unfinished_dataset
from microlens.data.dataset import Dataset
from microlens.data.interactions import Interactions
from microlens.data.interactions_writer import TABLES
from microlens.data.negatives import Negatives
from microlens.data.prepare import prepare
from microlens.data.protocol import Holdout, Protocol
from microlens.data.split import make_split
from microlens.errors import InputError
from microlens.release import pairs as release_pairs
from microlens.release.pairs import read_pairs
from tests.data.interactions import interactions_of_pairs

HEADER = "user,item,timestamp\n"
START = 1_600_000_000_000


def write_release(folder: Path, *, users: str = "", items: str = "", rows: int = 600) -> Path:
    """A release of events of 60 users, two of whom have fewer than 5; some repeat, none are in order."""
    rng = np.random.default_rng(len(users) + 2 * len(items))
    folder.mkdir()
    of_user = np.concatenate([rng.integers(0, 58, rows), [58, 58, 59]])
    of_item, times = rng.integers(0, 90, len(of_user)), START + rng.integers(0, 1000, len(of_user))
    lines = [f"{users}{u},{items}{i},{t}\n" for u, i, t in zip(of_user, of_item, times, strict=True)]
    (folder / "x_pairs.csv").write_text(HEADER + "".join(lines))
    (folder / "x_titles.csv").write_text("item,title\n" + "".join(f"{items}{i},t{i}\n" for i in range(90)))
    return folder


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some lines, runs and parts of 40 events, and row groups of 64 rows."""
    monkeypatch.setattr(dataset_writer, "rows_within", lambda memory: 40)
    monkeypatch.setattr(release_pairs.open_events, "__defaults__", (256,))
    monkeypatch.setattr(parquet_tables, "ROWS", 64)


def content_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("users", "items"), [("", ""), ("u", "v"), ("", "v"), ("u", "")])
def test_every_file_is_the_same_in_one_part_and_in_many(
    tmp_path: Path, users: str, items: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = write_release(tmp_path / "release", users=users, items=items)
    monkeypatch.setattr(parquet_tables, "ROWS", 64)
    prepare(release, tmp_path / "one")
    request.getfixturevalue("small_parts")
    prepare(release, tmp_path / "many")
    assert content_of(tmp_path / "one") == content_of(tmp_path / "many")


def test_the_dataset_is_that_of_the_pairs_in_memory(tmp_path: Path, small_parts: None) -> None:
    release = write_release(tmp_path / "release", users="u")
    dataset, pairs = prepare(release, tmp_path / "dataset"), read_pairs(release / "x_pairs.csv")
    expected, found = interactions_of_pairs(pairs), dataset.interactions
    for name in ("offsets", "items", "times", "user_ids", "item_ids"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert pl.read_parquet(dataset.folder / "interactions.parquet").equals(pairs.with_ids())
    users = pairs.with_ids().group_by("user").len("num_interactions").sort("user").rename({"user": "user_id"})
    assert pl.read_parquet(dataset.folder / "users.parquet").equals(users)
    split = make_split(expected, Protocol())
    kept = {"users": split.num_users, "items": split.num_items, "interactions": split.num_events}
    assert dataset.manifest["counts"]["paper_protocol"] == kept
    assert dataset.manifest["counts"]["out_of_order"] == pairs.out_of_order > 100
    dropped = {drop["what"]: (drop["count"], drop["examples"]) for drop in dataset.manifest["dropped"]}
    assert dropped["interactions"] == (pairs.repeated, [])
    short = users.filter(pl.col("num_interactions") < 5)["user_id"].to_list()
    assert dropped["users"] == (len(short), short)
    assert short[-2:] == ["u58", "u59"]


def read_nothing(*_: Any) -> None:
    raise AssertionError("the interactions are sorted again")


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle."""


def stop(*_: Any) -> None:
    raise StoppedError


def add_split(release: Path) -> list[int]:
    """Give a release a split; returns the part of each interaction, in the order of the dataset."""
    pairs = read_pairs(release / "x_pairs.csv").with_ids().select("user", "item")
    parts = np.random.default_rng(0).integers(0, 3, len(pairs)).tolist()
    pairs.with_columns(split=pl.Series(parts)).reverse().write_csv(release / "x_split.csv")
    return parts


def test_a_given_split_belongs_to_the_interactions_of_all_parts(tmp_path: Path, small_parts: None) -> None:
    release = write_release(tmp_path / "release", users="u")
    parts = add_split(release)
    labels = prepare(release, tmp_path / "dataset").interactions.split
    assert labels is not None
    assert labels.tolist() == parts


def test_the_split_of_another_release_does_not_stay(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = write_release(tmp_path / "one"), write_release(tmp_path / "other", rows=500)
    add_split(one)
    with monkeypatch.context() as patch:
        patch.setattr(dataset_writer, "decode_all", stop)
        with pytest.raises(StoppedError):
            prepare(one, tmp_path / "dataset")
    assert prepare(other, tmp_path / "dataset").interactions.split is None


def test_what_is_sorted_is_not_sorted_again(tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    release = write_release(tmp_path / "release", users="u", items="v")
    prepare(release, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(dataset_writer, "decode_all", stop)
        with pytest.raises(StoppedError):
            prepare(release, tmp_path / "dataset")
    with monkeypatch.context() as patch:
        patch.setattr(unfinished_dataset, "SortedEvents", read_nothing)
        prepare(release, tmp_path / "dataset")
    assert content_of(tmp_path / "dataset") == content_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("name", ["write_text", "clear_folder"])
def test_stopped_between_sorting_and_the_rest(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    release = write_release(tmp_path / "release")
    prepare(release, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        original = unfinished_dataset.UnfinishedDataset.begin

        def begin(self: unfinished_dataset.UnfinishedDataset, *arguments: Any) -> None:
            patch.setattr(unfinished_dataset, name, stop)
            patch.setattr(unfinished_dataset.UnfinishedDataset, "_clear_sorting", lambda self: None)
            original(self, *arguments)

        patch.setattr(unfinished_dataset.UnfinishedDataset, "begin", begin)
        patch.setattr(unfinished_dataset, "remove_folder", lambda *_: None)  # nothing cleans up after kill -9
        with pytest.raises(StoppedError):
            prepare(release, tmp_path / "dataset")
    assert (tmp_path / "dataset.partial" / "sorting").exists()
    prepare(release, tmp_path / "dataset")
    assert content_of(tmp_path / "dataset") == content_of(tmp_path / "undisturbed")
    assert not (tmp_path / "dataset.partial").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2\n", "line 605: 2 columns instead of 3"),
        (f"5,7,{START // 1000}\n", "line 605: '1600000000' is a time in se"),
    ],
)
def test_an_invalid_line_far_in_the_file_leaves_nothing(
    tmp_path: Path, small_parts: None, line: str, message: str
) -> None:
    release = write_release(tmp_path / "release")
    with (release / "x_pairs.csv").open("a") as file:
        file.write(line)
    with pytest.raises(InputError, match=message):
        prepare(release, tmp_path / "dataset")
    assert {path.name for path in tmp_path.iterdir()} == {"release"}


def test_an_invalid_release_leaves_the_unfinished_dataset_of_another(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = write_release(tmp_path / "good"), write_release(tmp_path / "bad", rows=500)
    with monkeypatch.context() as patch:
        patch.setattr(dataset_writer, "decode_all", stop)
        with pytest.raises(StoppedError):
            prepare(good, tmp_path / "dataset")
    before = content_of(tmp_path / "dataset.partial")
    (bad / "x_titles.csv").write_text("neither\nitems\nnor titles\n")
    with pytest.raises(InputError, match="x_titles"):
        prepare(bad, tmp_path / "dataset")
    assert content_of(tmp_path / "dataset.partial") == before


def test_users_too_short_for_the_papers_protocol_are_kept_for_others(tmp_path: Path, small_parts: None) -> None:
    (tmp_path / "release").mkdir()
    lines = [f"{user},{item},{START}\n" for user in range(100) for item in range(user % 4 + 1)]
    (tmp_path / "release" / "x_pairs.csv").write_text(HEADER + "".join(lines))
    dataset = prepare(tmp_path / "release", tmp_path / "dataset")
    said = "no user has 5 or more items, the protocol's minimum (the longest of 100 has 4); protocol.min_length sets"
    assert any(said in note for note in dataset.manifest["notes"])
    assert dataset.manifest["counts"]["paper_protocol"] == {"users": 0, "items": 0, "interactions": 0}
    with pytest.raises(InputError, match=r"no user has 5 or more items, .*; protocol\.min_length sets another\."):
        dataset.split(Protocol())
    assert dataset.split(Protocol(min_length=3)).num_users == 50


@pytest.mark.parametrize("times", ["datetime", "milliseconds", "text"])
@pytest.mark.parametrize("text", [True, False])
def test_pairs_in_parquet_make_the_same_dataset(tmp_path: Path, small_parts: None, times: str, text: bool) -> None:
    release = write_release(tmp_path / "release", users="u" if text else "")
    expected = prepare(release, tmp_path / "expected")
    frame = pl.read_csv(release / "x_pairs.csv").rename({"user": "user_id", "item": "videoID"})
    moments = pl.col("timestamp").cast(pl.Datetime("ms"))
    columns = {"datetime": moments, "milliseconds": pl.col("timestamp"), "text": moments.dt.strftime("%FT%T%.3fZ")}
    frame = frame.with_columns(columns[times], pl.lit(4.5).alias("rating"))
    (tmp_path / "packed").mkdir()
    frame.write_parquet(tmp_path / "packed" / "x_pairs.parquet", row_group_size=100)
    found = prepare(tmp_path / "packed", tmp_path / "found")
    for name in TABLES[:2] + TABLES[3:]:
        assert (found.folder / name).read_bytes() == (expected.folder / name).read_bytes()
    assert "x_pairs.parquet: columns not read: rating" in found.manifest["notes"]


def drop_column(path: Path) -> None:
    pl.DataFrame({"user": [1], "time": [2]}).write_parquet(path)


def damage(path: Path) -> None:
    path.write_bytes(b"PAR1" + b"\0" * 100)


def leave_out_a_time(path: Path) -> None:
    pl.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": [5, None]}).write_parquet(path)


def mix_units(path: Path) -> None:
    pl.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": [START, START // 1000]}).write_parquet(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (drop_column, r"x_pairs\.parquet has no column of items; its columns are user, time"),
        (damage, r"x_pairs\.parquet is not a complete Parquet file"),
        (leave_out_a_time, r"row 1 of .*x_pairs\.parquet: the value of column 'timestamp' is missing"),
        (mix_units, r"row 1 of .*x_pairs\.parquet, column 'timestamp': '1600000000' is a time in seconds"),
    ],
)
def test_parquet_that_cannot_be_read_is_refused(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    (tmp_path / "release").mkdir()
    write(tmp_path / "release" / "x_pairs.parquet")
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "release", tmp_path / "dataset")
    assert {path.name for path in tmp_path.iterdir()} == {"release"}


def test_a_frame_is_sorted_as_a_file(tmp_path: Path, small_parts: None) -> None:
    release = write_release(tmp_path / "release", items="v")
    prepare(release, tmp_path / "of_file")
    Dataset.from_frame(pl.read_csv(release / "x_pairs.csv"), tmp_path / "of_frame", time="timestamp")
    for name in ("interactions.parquet", "users.parquet", "interactions/items.npy", "interactions/times.npy"):
        assert (tmp_path / "of_frame" / name).read_bytes() == (tmp_path / "of_file" / name).read_bytes()


@pytest.mark.parametrize("method", ["leave-one-out", "random"])
def test_a_split_holds_nothing_per_user_in_python(method: Holdout) -> None:
    users, items = 50_000, 1_000
    interactions = Interactions(
        offsets=np.arange(users + 1) * 6,
        items=np.random.default_rng(0).integers(1, items + 1, 6 * users).astype(np.int32),
        times=np.arange(6 * users),
        user_ids=np.arange(users),
        item_ids=np.arange(items + 1),
    )
    before = sys.getallocatedblocks()
    split = make_split(interactions, Protocol(split=method))
    Negatives(split, "each", 5)
    chosen = np.arange(100)
    held = split.train_counts, split.targets("test"), split.history("test", chosen), split.train_items(chosen)
    assert sys.getallocatedblocks() - before < users / 50
    assert held[0].sum() == 4 * users


def test_the_manifest_records_what_was_read_whatever_the_memory(tmp_path: Path) -> None:
    release = write_release(tmp_path / "release")
    prepare(release, tmp_path / "one", memory=10**9)
    prepare(release, tmp_path / "two", memory=600_000_000)
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "two"))
    assert one == two
    prepare(release, tmp_path / "two", memory=700_000_000)  # opened, not made again
    with pytest.raises(InputError, match="memory is 5 MB"):
        prepare(release, tmp_path / "three", memory=5_000_000)
