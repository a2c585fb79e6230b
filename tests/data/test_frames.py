"""Datasets from data frames: of any make, with ids of any type, with media and without, again and after a kill."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl
import pytest

from microlens.data import media_stores
from microlens.data.dataset import Dataset
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media.decoding import Result, Settings, Task, decode
from microlens.media.reading import ClipSettings
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import manifest_of, stored

SETTINGS = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)
START = 1_700_000_000  # seconds
SEQUENCES = random_sequences(30, 20)
EVENTS = [(user, item, START + 60 * place) for user, items in enumerate(SEQUENCES) for place, item in enumerate(items)]


class Arrow:
    """Something that speaks Arrow and nothing else."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.columns, self._frame = frame.columns, frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def events(user: Callable[[int], Any] = int, item: Callable[[int], Any] = int) -> pl.DataFrame:
    """Everything out of order, with times in seconds."""
    rows = [(user(number), item(video), time) for number, video, time in EVENTS]
    return pl.DataFrame(rows, ["uid", "vid", "ts"], orient="row").sample(fraction=1.0, shuffle=True, seed=1)


def name_of_user(number: int) -> str:
    return f"u{number:03d}"


def name_of_item(number: int) -> str:
    return f"v{number:03d}"


def made(frame: Any, folder: Path, **options: Any) -> Dataset:
    return Dataset.from_frame(frame, folder, **({"user": "uid", "item": "vid", "time": "ts"} | options))


def events_of(dataset: Dataset) -> list[tuple[Any, Any, int]]:
    return pl.read_parquet(dataset.folder / "interactions.parquet").rows()


def expected(user: Callable[[int], Any] = int, item: Callable[[int], Any] = int) -> list[tuple[Any, Any, int]]:
    rows = [(user(number), item(video), 1000 * time) for number, video, time in EVENTS]
    return sorted(rows, key=lambda row: (row[0], row[2]))


@pytest.mark.parametrize("make", [pl.DataFrame, Arrow])
def test_text_ids_and_seconds(tmp_path: Path, make: Callable[[pl.DataFrame], Any]) -> None:
    dataset = made(make(events(name_of_user, name_of_item)), tmp_path / "mine")
    assert events_of(dataset) == expected(name_of_user, name_of_item)
    assert (dataset.name, dataset.manifest["ids"]) == ("mine", {"user": "string", "item": "string"})
    assert dataset.manifest["counts"]["release"] == {"users": 30, "items": 20, "interactions": len(EVENTS)}
    assert dataset.manifest["notes"] == ["timestamps are seconds; they are stored in milliseconds"]
    assert dataset.items["title"].null_count() == 20


@pytest.mark.parametrize(
    ("kind", "user", "item"),
    [
        ("19 digits", lambda number: 7100000000000000000 + number, int),
        ("unsigned", lambda number: 2**64 - 1000 + number, int),
        ("zeros", lambda number: f"{number:05d}", lambda number: f"0{number}"),
        ("accents and emoji", lambda number: f"é{number:02d}", lambda number: f"😀{number:02d}"),
        ("UUIDs", lambda number: UUID(int=number << 80), lambda number: UUID(int=number)),
        ("negative", lambda number: -number, lambda number: -(2**63) + number),
        ("whole floats", float, float),
        ("bytes of 8 bits", lambda number: number, lambda number: number),
    ],
)
def test_ids_of_any_type(tmp_path: Path, kind: str, user: Callable[[int], Any], item: Callable[[int], Any]) -> None:
    frame = events(user, item)
    if kind == "unsigned":
        frame = frame.with_columns(pl.Series("uid", frame["uid"], pl.UInt64))
    if kind == "bytes of 8 bits":
        frame = frame.cast({"uid": pl.UInt8, "vid": pl.Int8})
    plain = {"unsigned": (str, int), "UUIDs": (str, str), "whole floats": (int, int)}.get(kind, (None, None))
    as_user, as_item = (
        (lambda number, make=make, to=to: to(make(number)) if to else make(number))
        for make, to in zip((user, item), plain, strict=True)
    )
    dataset = made(frame, tmp_path / "mine")
    assert events_of(dataset) == expected(as_user, as_item)
    wanted = [item(video) for video in SEQUENCES[0]]
    if kind != "whole floats":
        first = dataset.interactions.offsets[dataset.user_number(user(0)) :][:2]
        np.testing.assert_array_equal(dataset.interactions.items[slice(*first)], dataset.item_numbers(wanted))


def test_categories_are_text(tmp_path: Path) -> None:
    frame = events(name_of_user, name_of_item).cast(
        {"uid": pl.Categorical, "vid": pl.Enum(sorted(map(name_of_item, range(1, 21))))}
    )
    assert events_of(made(frame, tmp_path / "mine")) == expected(name_of_user, name_of_item)


@pytest.mark.parametrize(
    "time",
    [
        lambda seconds: seconds * 1000,
        lambda seconds: float(seconds),
        lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(),
        lambda seconds: datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None),
        lambda seconds: datetime.fromtimestamp(seconds, UTC),
        lambda seconds: str(seconds),
    ],
)
def test_times_of_any_kind_are_milliseconds(tmp_path: Path, time: Callable[[int], Any]) -> None:
    frame = events()
    frame = frame.with_columns(pl.Series("ts", [time(seconds) for seconds in frame["ts"]]))
    assert events_of(made(frame, tmp_path / "mine")) == expected()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_with_a_zone_and_dates(tmp_path: Path, unit: Any) -> None:
    frame = events().with_columns(pl.from_epoch("ts").dt.cast_time_unit(unit).dt.convert_time_zone("Asia/Shanghai"))
    assert events_of(made(frame, tmp_path / "mine")) == expected()
    days = events().with_columns(pl.lit(date(2024, 5, 31)).alias("ts"))
    assert {time for *_, time in events_of(made(days, tmp_path / "days"))} == {1_717_113_600_000}


def test_without_times_rows_are_in_order_as_in_a_file_of_sequences(tmp_path: Path) -> None:
    frame = pl.DataFrame(EVENTS, ["uid", "vid", "ts"], orient="row").with_columns(pl.col("uid") + 1)
    dataset = made(frame, tmp_path / "mine", time=None)
    release = prepare(write_pairs(tmp_path / "release", SEQUENCES), tmp_path / "release-dataset")
    for name in ("offsets", "items", "times", "user_ids", "item_ids"):
        assert np.array_equal(getattr(dataset.interactions, name), getattr(release.interactions, name))


def test_repeats_are_dropped_and_counted(tmp_path: Path) -> None:
    frame = events()
    dataset = made(pl.concat([frame, frame[:7].with_columns(pl.col("ts") + 1)]), tmp_path / "mine")
    assert events_of(dataset) == expected()
    assert [drop["count"] for drop in dataset.manifest["dropped"] if drop["what"] == "interactions"] == [7]


def test_what_is_known_of_items(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "key": ["v002", "v001", "v999", "v002"],
            "title": ["Two\nlines", None, "nobody", "again"],
            "tag": pl.Series(["cat", "dog", "cat", "cat"], dtype=pl.Categorical),
            "likes": [5.0, 2.5, 1.0, 5.0],
            "views": ["7", "many", "", None],
            "other": [[1], [2], [3], [4]],
        }
    )
    dataset = made(events(name_of_user, name_of_item), tmp_path / "mine", items=items, item_id="key")
    shown = dataset.items["item_id", "title", "tag", "likes", "views"].rows()
    assert shown[:3] == [
        ("v001", None, "dog", None, None), ("v002", "Two lines", "cat", 5, 7), ("v003", None, None, None, None),
    ]  # fmt: skip
    assert {(drop["what"], drop["count"]) for drop in dataset.manifest["dropped"]} == {
        ("rows of items", 1), ("numbers of items", 3),
    }  # fmt: skip


def test_items_may_write_the_same_ids_otherwise(tmp_path: Path) -> None:
    items = pl.DataFrame({"vid": ["3", "1"], "title": ["three", "one"]})
    assert made(events(), tmp_path / "integers", items=items).items["title"].to_list()[:3] == ["one", None, "three"]
    items = pl.DataFrame({"vid": [3, 1], "title": ["three", "one"]})
    texts = made(events(item=str), tmp_path / "texts", items=items)
    assert dict(texts.items["item_id", "title"].drop_nulls().rows()) == {"1": "one", "3": "three"}
    with pytest.raises(InputError, match="row 1 of items: the value 'x' of column 'vid' is not an integer"):
        made(events(), tmp_path / "wrong", items=items.with_columns(pl.Series("vid", ["1", "x"])))


@pytest.fixture(scope="module")
def media(video_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and a cover in the layout of an application."""
    release, folder = video_dataset.parent / "release", tmp_path_factory.mktemp("media")
    for source, target in (("videos/1.mp4", "videos/v001.mp4"), ("videos/2.mp4", "videos/new/v002.mp4"),
                           ("covers/1.jpg", "pictures/a.jpg"), ("videos/2.mp4", "videos/holiday.mp4")):  # fmt: skip
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes((release / source).read_bytes())
    return folder


def test_media_in_a_folder_a_column_and_a_mapping(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = events(name_of_user, name_of_item)
    paths = {"v001": media / "videos" / "v001.mp4", "v002": media / "videos" / "new" / "v002.mp4"}
    covers = {
        "v002": media / "pictures" / "a.jpg",
        "v003": media / "pictures" / "lost.jpg",
        "v999": media / "pictures" / "none.jpg",
    }
    given = {"workers": 1, "settings": SETTINGS}
    in_folder = made(frame, tmp_path / "folder", videos=media / "videos", covers=covers, **given)
    assert in_folder.items.filter("clips")["item_id"].to_list() == ["v001", "v002"]
    assert in_folder.items.filter("covers")["item_id"].to_list() == ["v002"]
    assert in_folder.manifest["counts"]["sound"] == 2
    assert [(fault["item"], fault["file"], fault["fault"]) for fault in in_folder.manifest["faults"]] == [
        ("v003", "covers/lost.jpg", "it cannot be read (No such file or directory)")
    ]
    dropped = {drop["what"]: drop["examples"] for drop in in_folder.manifest["dropped"]}
    assert dropped[".mp4 files of videos"] == ["videos/holiday.mp4"]
    assert len(dropped[".jpg files of covers"]) == 1
    monkeypatch.chdir(media)
    items = pl.DataFrame({"vid": ["v001", "v002", "v003"], "film": ["videos/v001.mp4", "videos/new/v002.mp4", None]})
    in_column = made(frame, tmp_path / "column", items=items, videos="film", **given)
    in_mapping = made(frame, tmp_path / "mapping", videos=paths, **given)
    clips = [{key: value for key, value in stored(dataset.folder).items() if key[0] == "clips"}
             for dataset in (in_folder, in_column, in_mapping)]  # fmt: skip
    assert clips[0] == clips[1] == clips[2]
    assert sorted(clips[0]) == [("clips", 1), ("clips", 2)]
    swapped = made(frame, tmp_path / "swapped", videos=dict(zip(paths, reversed(paths.values()), strict=True)), **given)
    assert swapped.checksum != in_mapping.checksum


def test_the_same_again_opens_it_and_other_data_is_refused(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, items = events(name_of_user, name_of_item), pl.DataFrame({"vid": ["v001"], "title": ["one"]})
    options = {"items": items, "videos": str(media / "videos"), "workers": 1, "settings": SETTINGS}
    first = made(frame, tmp_path / "mine", **options)
    monkeypatch.setattr("microlens.data.dataset_writer.decode_all", None)
    assert made(Arrow(frame), tmp_path / "mine", **options).checksum == first.checksum
    later = frame.with_columns(pl.when(pl.int_range(pl.len()) == 5).then(pl.col("ts") + 1).otherwise("ts").alias("ts"))
    for other, changed in (
        (later, {}),
        (frame[1:], {}),
        (frame, {"items": items.with_columns(pl.lit("two").alias("title"))}),
        (frame, {"items": None}),
        (frame, {"videos": None}),
        (frame, {"time": None}),
        (frame, {"settings": Settings()}),
    ):
        with pytest.raises(InputError, match="mine was made from other data or with other settings"):
            made(other, tmp_path / "mine", **(options | changed))
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="other exists and is not a prepared dataset"):
        made(frame, tmp_path / "other")


def stopped_at_the_second(task: Task, settings: Settings) -> Result:
    if task.item_id == 2:
        raise OSError(28, "No space left on device")
    return decode(task, settings)


def test_interrupted_it_goes_on(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"videos": media / "videos", "workers": 1, "settings": SETTINGS}
    frame = events(name_of_user, name_of_item)
    with monkeypatch.context() as patch:
        patch.setattr(media_stores, "decode", stopped_at_the_second)
        with pytest.raises(OSError, match="No space left"):
            made(frame, tmp_path / "mine", **options)
    assert not (tmp_path / "mine").exists()
    assert len((tmp_path / "mine.partial" / "outcomes.jsonl").read_text().splitlines()) == 2  # clip and sound
    went_on = made(frame, tmp_path / "mine", **options)
    whole = made(frame, tmp_path / "whole" / "mine", **options)
    assert manifest_of(went_on.folder) == manifest_of(whole.folder)
    assert stored(went_on.folder) == stored(whole.folder)


Values = list[Any]
OF_FRAME = "row 3 of the frame"
MISSING = OF_FRAME + ": the value of column '{}' is missing"


def third(value: Any) -> Callable[[Values], Values]:
    """Another value in row 3."""
    return lambda values: [*values[:3], value, *values[4:]]


def each(function: Callable[[Any], Any]) -> Callable[[Values], Values]:
    return lambda values: [function(value) for value in values]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"uid": third(None)}, {}, MISSING.format("uid")),
        ({"vid": third(None)}, {}, MISSING.format("vid")),
        ({"ts": third(None)}, {}, MISSING.format("ts")),
        ({"ts": lambda values: third(np.nan)([*map(float, values)])}, {}, MISSING.format("ts")),
        ({"uid": lambda values: third(" ")([*map(str, values)])}, {}, OF_FRAME + ": an id is empty .column 'uid'"),
        (
            {"uid": each(lambda value: value + 0.5)},
            {},
            "row 0 of the frame: the value '.*' of column 'uid' is a decimal",
        ),
        ({"uid": each(bool)}, {}, "column 'uid' of the frame holds Boolean; accepted are integers, text and UUIDs"),
        ({"uid": each(lambda value: [value])}, {}, "column 'uid' of the frame holds List"),
        (
            {"ts": lambda values: third("soon")([*map(str, values)])},
            {},
            OF_FRAME + ", column 'ts': 'soon' is not a time",
        ),
        ({"ts": third(1000 * START)}, {}, OF_FRAME + ", column 'ts': .* is a time in milliseconds"),
        ({"ts": each(lambda value: timedelta(seconds=value))}, {}, "column 'ts' of the frame holds Duration"),
        (
            {"ts": each(lambda value: np.inf)},
            {},
            "row 0 of the frame: the value 'inf' of column 'ts' is beyond 64 bits",
        ),
        ({}, {"time": "when"}, "the frame has no column 'when'; its columns are uid, vid, ts"),
        ({}, {"videos": "nowhere"}, "videos is 'nowhere'; accepted are a folder, a column of items, and a mapping"),
        ({}, {"covers": {1: "/no/1.jpg"}}, "none of the 1 files given as covers exists"),
        ({}, {"covers": {1: 5}}, "covers of item 1 is 5; accepted are paths"),
        ({}, {"items": pl.DataFrame({"id": [1]})}, "items has no column 'vid'; its columns are id"),
        ({}, {"items": pl.DataFrame({"vid": [1, None]})}, "row 1 of items: the value of column 'vid' is missing"),
        ({}, {"items": pl.DataFrame({"vid": [1], "title": [[1]]})}, "column 'title' of items holds List"),
        ({}, {"items": [1, 2]}, "items is of type list; accepted is a polars or pandas DataFrame"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Callable[[list[Any]], list[Any]]], options: dict[str, Any], message: str
) -> None:
    frame = events().with_columns(pl.Series(name, make(events()[name].to_list())) for name, make in change.items())
    with pytest.raises(InputError, match=message):
        made(frame, tmp_path / "mine", **options)
    assert not list(tmp_path.iterdir())


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the frame holds no interactions"):
        made(events().clear(), tmp_path / "mine")


def test_a_dataset_describes_itself(tmp_path: Path) -> None:
    dataset = made(events(item=name_of_item), tmp_path / "mine", name="<b>mine</b>")
    text, page = repr(dataset), dataset._repr_html_()
    for shown in ("30", "20", f"{len(EVENTS)}", "user int64, item string", str(tmp_path / "mine")):
        assert shown in text
        assert shown in page
    assert "<b>mine</b>" in text
    assert "<b>" not in page


def test_nothing_is_printed_unless_asked(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"videos": media / "videos", "workers": 1, "settings": SETTINGS}
    frame = events(name_of_user, name_of_item)
    made(frame, tmp_path / "mine", **options)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    made(frame, tmp_path / "shown", **options, progress=True)
    assert "media files" in capfd.readouterr().out


SCRIPT = """
import sys
import {library}
from microlens.data.dataset import Dataset
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
frame = {library}.read_csv(sys.argv[1])
items = {library}.DataFrame({{"vid": ["v001", "v002", "v003"], "title": ["one", None, "three"]}})
settings = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)
data = Dataset.from_frame(
    frame, sys.argv[2], user="uid", item="vid", time="ts", items=items, videos="videos/", settings=settings, workers=2
)
print(data.user_ids[0], data.item_ids[-1], data.items.filter("clips")["item_id"].to_list())
"""


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_script_needs_no_guard(media: Path, tmp_path: Path, library: str) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed (make setup)")
    frame = events(name_of_user, name_of_item)
    frame.write_csv(tmp_path / "events.csv")
    (tmp_path / "script.py").write_text(SCRIPT.format(library=library))
    arguments = [str(tmp_path / name) for name in ("script.py", "events.csv", "mine")]
    command = [sys.executable, "-W", "error", *arguments]
    process = subprocess.run(command, cwd=media, capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("u000 v020 ['v001', 'v002']\n", "")
    dataset = Dataset(tmp_path / "mine")
    assert events_of(dataset) == expected(name_of_user, name_of_item)
    assert dataset.items["title"].to_list()[:3] == ["one", None, "three"]
    # The other library has the same data, and opens what is there.
    items = pl.DataFrame({"vid": ["v001", "v002", "v003"], "title": ["one", None, "three"]})
    again = made(frame, tmp_path / "mine", items=items, videos=media / "videos", settings=SETTINGS)
    assert again.checksum == dataset.checksum


def test_columns_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    plain = events(name_of_user, name_of_item)
    frame = pandas.DataFrame({name: plain[name].to_list() for name in plain.columns}, index=range(5, 5 + len(plain)))
    moments = pandas.to_datetime(frame["ts"], unit="s")
    shanghai = timezone(timedelta(hours=8))
    for number, (users, times) in enumerate(
        [
            (frame["uid"].astype("category"), moments),
            (frame["uid"].astype("string"), moments.dt.tz_localize("UTC").dt.tz_convert(shanghai)),
            (frame["uid"], moments.astype("datetime64[s]")),
            (frame["uid"].astype(object), frame["ts"].astype("Int64")),
            (frame["uid"], frame["ts"].astype(float)),
        ]
    ):
        given = frame.assign(uid=users, ts=times)
        assert events_of(made(given, tmp_path / str(number))) == expected(name_of_user, name_of_item)
    uuids = frame.assign(uid=[UUID(int=int(user[1:])) for user in frame["uid"]])
    assert events_of(made(uuids, tmp_path / "uuids")) == expected(lambda user: str(UUID(int=user)), name_of_item)
    for name, missing in (("uid", None), ("vid", pandas.NA), ("ts", pandas.NaT)):
        broken = frame.astype(object)
        broken.iloc[3, list(frame.columns).index(name)] = missing
        with pytest.raises(InputError, match=f"row 3 of the frame: the value of column '{name}' is missing"):
            made(broken, tmp_path / "broken")
    paths = pandas.Series({"v001": __file__})
    lost = made(frame, tmp_path / "paths", covers=paths, settings=SETTINGS, workers=1)
    assert [(fault["item"], fault["lost"]) for fault in lost.manifest["faults"]] == [("v001", True)]


def test_the_largest_times_of_64_bits_are_read(tmp_path: Path) -> None:
    frame = events()
    last = 2**63 - 1 - np.arange(len(frame))
    data = Dataset.from_frame(
        frame.with_columns(pl.Series("ts", last)), tmp_path / "data", user="uid", item="vid", time="ts"
    )
    assert len(data.interactions.items) == len(frame)
