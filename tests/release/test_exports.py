"""Datasets that are written in another format and read again are the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microlens as ml
from microlens.data.dataset import Dataset
from microlens.data.feature_matrix import load_features
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.release.exports import EXPORTS
from microlens.release.formats.tables import Tables
from microlens.release.whole_release import read_release
from tests.data.test_prepare import run_command

NOON = 1_700_000_000_000
Content = tuple[list[tuple[Any, ...]], ...]


def contents(tables: Tables) -> dict[str, Any]:
    """What a round trip has to keep: ids and their types, the order of events, times, parts, and other tables."""
    timed = "timestamp" in tables.events.columns
    order = ["user", *(["timestamp"] if timed else [])]
    events = tables.events.sort(order, maintain_order=True)
    others = {name: getattr(tables, name) for name in ("titles", "tags", "likes", "comments")}
    return {
        "types": events.schema,
        "events": events.rows(),
        **{name: sorted(table.rows(), key=str) for name, table in others.items() if table is not None},
    }


SEPARATORS = '",;|'  # ids with one of these are ambiguous in tables of titles, which are read leniently
plain_text = st.text(st.characters(categories=["L", "N", "P"], exclude_characters=SEPARATORS), max_size=6)
text_ids = plain_text.map(lambda text: f"v{text}")
int_ids = st.integers(0, 2**40)
titles = st.lists(st.sampled_from(['"', ",", "a", "b c", "é", "# x", "'"]), min_size=1, max_size=5).map("".join)


@st.composite
def datasets(draw: st.DrawFn, *, ints: bool = False) -> Tables:
    """Small datasets, timed or not, with a split or not, of integer or text ids."""
    users = draw(st.lists(int_ids if ints or draw(st.booleans()) else text_ids, min_size=3, max_size=6, unique=True))
    items = draw(st.lists(int_ids if ints or draw(st.booleans()) else text_ids, min_size=3, max_size=6, unique=True))
    pairs = draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), min_size=3, unique=True))
    events = pl.DataFrame(pairs, ["user", "item"], orient="row").sort("user", maintain_order=True)
    if draw(st.booleans()):
        times = draw(st.lists(st.integers(NOON, NOON + 5), min_size=len(pairs), max_size=len(pairs)))
        events = events.with_columns(timestamp=pl.Series(times)).sort("user", "timestamp", maintain_order=True)
    if draw(st.booleans()):
        parts = draw(st.permutations([0, 1, 2, *[0] * (len(pairs) - 3)]))
        events = events.with_columns(split=pl.Series(parts, dtype=pl.Int8))
    known = [str(item) for item in items[:2]]
    return Tables(
        name="small",
        files=(Path("small"),),
        events=events,
        titles=pl.DataFrame({"item": known, "title": [draw(titles).strip() or "x" for _ in known]}),
        tags=pl.DataFrame({"item": known[:1], "tag": ["Sports, outdoor"]}),
        likes=pl.DataFrame({"item": known, "likes": pl.Series([1, None]), "views": pl.Series([None, 3])}),
    )  # fmt: skip


_numbers: Iterator[int] = iter(range(10**9))


def written(tables: Tables, folder: Path, to: str) -> Path:
    out = folder / f"{next(_numbers)}"
    out.mkdir()
    EXPORTS[to].write(tables, out)
    return out


def round_trip(tables: Tables, folder: Path, to: str) -> Tables:
    """What is read of what was written: a release of it first, as the conversion back makes it."""
    back = folder / f"{next(_numbers)}"
    ml.convert(written(tables, folder, to), back)
    return read_release(back)


def by_part(content: dict[str, Any]) -> dict[str, Any]:
    """The same without the order between the parts of a split, which separate files do not keep."""
    place = list(content["types"]).index("split") if "split" in content["types"] else 0
    return {**content, "events": sorted(content["events"], key=lambda row: (str(row[0]), row[place]))}


ROUND_TRIPS = ["official", "official-csv", "recbole", "parquet"]
lenient = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("to", ROUND_TRIPS)
@lenient
@given(tables=datasets())
def test_round_trips_are_exact(tmp_path: Path, to: str, tables: Tables) -> None:
    try:
        read = round_trip(tables, tmp_path, to)
    except InputError as error:
        assert "text that looks like integers" in str(error)  # noqa: PT017
        return
    assert by_part(contents(read)) == by_part(contents(tables))


@pytest.mark.parametrize("to", ROUND_TRIPS)
@pytest.mark.parametrize("timed", [True, False])
def test_text_ids_stay_text_if_the_first_looks_like_an_integer(tmp_path: Path, to: str, timed: bool) -> None:
    events = pl.DataFrame([("12", "7"), ("12", "x"), ("a", "y"), ("a", "7")], ["user", "item"], orient="row")
    if timed:
        events = events.with_columns(timestamp=NOON)
    tables = Tables(name="mixed", files=(Path("mixed"),), events=events)
    assert contents(round_trip(tables, tmp_path, to)) == contents(tables)


@pytest.mark.parametrize("to", ["official", "parquet"])
@pytest.mark.parametrize("columns", [("title_en", "title_zh"), ("title_original", "title_zh"), ("title_zh",)])
def test_titles_of_every_language_come_back(tmp_path: Path, to: str, columns: tuple[str, ...]) -> None:
    events = pl.DataFrame([(1, 7), (1, 8), (2, 8), (2, 9)], ["user", "item"], orient="row")
    titles = pl.DataFrame(
        {
            "item": ["7", "8", "9"],
            "title": ["one", "two", "three"],
            "title_en": ["one", "two", "three"],
            "title_original": ["one", "two", "three"],
            "title_zh": ["一", None, "三"],
        }
    )
    tables = Tables(name="many", files=(Path("many"),), events=events, titles=titles.select("item", "title", *columns))
    read = round_trip(tables, tmp_path, to).titles
    assert read is not None
    assert read.select("item", "title", "title_zh").equals(titles.select("item", "title", "title_zh"))


@lenient
@given(tables=datasets(ints=True))
def test_mmrec_round_trips_keep_interactions_and_their_parts(tmp_path: Path, tables: Tables) -> None:
    read = contents(round_trip(tables, tmp_path, "mmrec"))
    expected = contents(tables)
    if "split" in tables.events.columns:
        assert (read["types"], read["events"]) == (expected["types"], expected["events"])
        return
    assert [row[:-1] for row in read["events"]] == expected["events"]
    for user in tables.events["user"].unique():
        labels = [row[-1] for row in read["events"] if row[0] == user]
        assert labels == [*[0] * (len(labels) - 2), 1, 2][-len(labels) :]


@lenient
@given(tables=datasets())
def test_only_the_order_is_left_of_times_in_a_tsv(tmp_path: Path, tables: Tables) -> None:
    read = contents(round_trip(tables, tmp_path, "official-tsv"))
    expected = contents(tables)
    columns = [name for name in expected["types"] if name != "timestamp"]
    places = [list(expected["types"]).index(name) for name in columns]
    assert list(read["types"]) == columns
    assert read["events"] == [tuple(row[place] for place in places) for row in expected["events"]]


def example(*, split: bool = True) -> Tables:
    rows = [("u1", 3, NOON), ("u1", 4, NOON + 1), ("u1", 5, NOON + 2), ("u2", 4, NOON), ("u2", 3, NOON + 9)]
    events = pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row")
    return Tables(
        name="example",
        files=(Path("example"),),
        events=events.with_columns(split=pl.Series([0, 1, 2, 0, 2], dtype=pl.Int8)) if split else events,
        titles=pl.DataFrame({"item": ["3"], "title": ['said "so", once']}),
        comments=pl.DataFrame({"user": ["u1"], "item": ["3"], "text": ["good\tone".replace("\t", " ")]}),
    )


@pytest.mark.parametrize("split", [True, False])
def test_hugging_face_round_trips_are_exact(tmp_path: Path, split: bool) -> None:
    library = pytest.importorskip("datasets")
    tables = example(split=split)
    read = round_trip(tables, tmp_path, "huggingface")
    assert by_part(contents(read)) == by_part(contents(tables))
    stored = library.load_from_disk(str(written(tables, tmp_path, "huggingface") / "interactions"))
    assert (set(stored) == {"train", "validation", "test"}) if split else (len(stored) == 5)


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # in mlcroissant
def test_croissant_metadata_is_valid_and_describes_the_rows(tmp_path: Path) -> None:
    library = pytest.importorskip("mlcroissant")
    out = tmp_path / "out"
    ml.convert(written(example(), tmp_path, "parquet"), out, to="croissant")
    assert by_part(contents(read_release(out))) == by_part(contents(example()))
    described = library.Dataset(out / "croissant.json")
    rows = list(described.records("pairs"))
    assert [row["pairs/item"] for row in rows] == [3, 4, 5, 4, 3]
    assert [row["pairs/user"] for row in rows] == [b"u1", b"u1", b"u1", b"u2", b"u2"]
    assert json.loads((out / "croissant.json").read_text())["name"]


def test_a_prepared_dataset_is_written_with_its_split(tmp_path: Path) -> None:
    rows = [(user, item, NOON + item) for user in (1, 2) for item in range(user, user + 6)]
    events = pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row")
    parts = pl.Series([0, 0, 0, 0, 1, 2] * 2, dtype=pl.Int8)
    tables = Tables(name="small", files=(), events=events.with_columns(split=parts))
    prepare(written(tables, tmp_path, "official"), tmp_path / "dataset")
    done = ml.convert(tmp_path / "dataset", tmp_path / "out", to="recbole")
    assert done.format == "parquet"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"small.{part}.inter" for part in ("test", "train", "valid")
    ]
    assert "a split of 8 train, 2 valid, 2 test interactions" in " ".join(done.notes)
    assert by_part(contents(round_trip(tables, tmp_path, "recbole"))) == by_part(contents(tables))


def test_positions_of_a_dataset_without_times_are_not_taken_for_times(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "x_pairs.tsv").write_text("1\t5 4 3 2 1\n2\t1 2 3 4 5\n")
    prepare(tmp_path / "release", tmp_path / "dataset")
    ml.convert(tmp_path / "dataset", tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_text() == "1\t5 4 3 2 1\n2\t1 2 3 4 5\n"


def test_a_dropped_repeat_does_not_make_times_of_positions(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "x_pairs.tsv").write_text("1\t5 4 5 3 2 1\n2\t1 2 3 4 5 1\n")
    prepare(tmp_path / "release", tmp_path / "dataset")
    assert not Dataset(tmp_path / "dataset").interactions.has_times
    ml.convert(tmp_path / "dataset", tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_text() == "1\t5 4 3 2 1\n2\t1 2 3 4 5\n"


def test_features_of_mmrec_come_with_the_ids_of_their_rows(tmp_path: Path) -> None:
    source = tmp_path / "mm"
    source.mkdir()
    lines = [f"{user}\t{item}\t{NOON + item}\t{label}" for user in (0, 1) for item, label in enumerate([0, 0, 0, 1, 2])]
    (source / "mm.inter").write_text("\n".join(["userID\titemID\ttimestamp\tx_label", *lines]) + "\n")
    np.save(source / "image_feat.npy", np.arange(10, dtype=np.float32).reshape(5, 2))
    (source / "text_feat.npy").write_bytes(b"nothing")
    done = ml.convert(source, tmp_path / "release")
    assert "image_feat.npy: 5 rows, for the items 0 to 4, in features/" in done.notes
    assert any(note.startswith("text_feat.npy is not read") for note in done.notes)
    prepare(tmp_path / "release", tmp_path / "dataset")
    ids = Dataset(tmp_path / "dataset").interactions.item_ids[1:]
    vectors = load_features(tmp_path / "release" / "features" / "image_feat.npy", ids)
    assert vectors.tolist() == [[2 * item, 2 * item + 1] for item in range(5)]


def test_a_repeated_pair_has_the_part_of_the_row_that_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "mm"
    source.mkdir()
    rows = [
        (1, 5, NOON + 90, 0),
        (1, 6, NOON + 20, 0),
        (1, 5, NOON + 10, 2),
        (1, 7, NOON + 30, 1),
        (1, 7, NOON + 30, 2),
    ]
    lines = ["\t".join(map(str, row)) for row in rows]
    (source / "mm.inter").write_text("\n".join(["userID\titemID\ttimestamp\tx_label", *lines]) + "\n")
    done = ml.convert(source, tmp_path / "out")
    assert "dropped are later repeats of a user and item, with their parts: 2" in done.notes
    read = read_release(tmp_path / "out").events.sort("timestamp")
    assert read.select("item", "split").rows() == [(5, 2), (6, 0), (7, 1)]
    assert read["timestamp"].diff().to_list()[1:] == [10, 10]


def test_parts_of_recbole_are_read_together(tmp_path: Path) -> None:
    source = tmp_path / "ml"
    source.mkdir()
    header = "user_id:token\titem_id:token\n"
    for part, rows in (("train", "a\t1\na\t2\n12\t1\n"), ("valid", "12\t3\n"), ("test", "a\t3\n12\t2\n")):
        (source / f"ml.{part}.inter").write_text(header + rows)
    done = ml.convert(source, tmp_path / "out")
    assert read_release(tmp_path / "out").events.rows() == [
        ("12", 1, 0), ("12", 3, 1), ("12", 2, 2), ("a", 1, 0), ("a", 2, 0), ("a", 3, 2),
    ]  # fmt: skip
    assert done.notes[0].startswith("a split of 3 train, 1 valid, 2 test")
    (source / "ml.test.inter").unlink()
    with pytest.raises(InputError, match=r"several files of interactions \(ml.train.inter, ml.valid.inter\)"):
        ml.convert(source, tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.inter", "userID\titemID\tx_label\n1\t2\t3\n", r"line 2: x_label is '3'; expected"),
        ("x.inter", "userID\titemID\tx_label\n1\t2\n", r"line 2: 2 columns instead of 3"),
        ("x.inter", "userID\tx_label\n1\t2\n", r"line 1: 'userID x_label'; expected the columns userID and itemID"),
        ("interactions.parquet", "no parquet", r"is not a complete Parquet file"),
        ("dataset_dict.json", "{}", r"cannot be read by the library datasets"),
    ],
)
def test_bad_sources_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    if name.endswith(".json"):
        pytest.importorskip("datasets")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_text(content)
    with pytest.raises(InputError, match=message):
        ml.convert(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": [1], "thing": [2]}, "interactions has no column called item; its columns are user, thing"),
        ({"user": [1], "item": [None]}, "row 0 of interactions: the value of column 'item' is missing"),
        ({"user": [1], "item": [2], "split": ["later"]}, "row 0 of interactions: 'later' of column 'split' is no part"),
        ({"user": [], "item": []}, "interactions has no rows"),
    ],
)
def test_bad_columns_are_refused(tmp_path: Path, frame: dict[str, list[Any]], message: str) -> None:
    pl.DataFrame(frame).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(InputError, match=message):
        ml.convert(tmp_path / "events.parquet", tmp_path / "out")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = written(example(), tmp_path, "parquet")
    with pytest.raises(InputError, match="user ids are text, but MMRec takes them as row numbers"):
        ml.convert(source, tmp_path / "out", to="mmrec")
    with pytest.raises(InputError, match="there is no format 'arff' to write; accepted are official"):
        ml.convert(source, tmp_path / "out", to="arff")
    of_text = example().events.with_columns(pl.col("item").cast(pl.String))
    of_text.write_parquet(tmp_path / "text.parquet")
    with pytest.raises(InputError, match="item ids are text that looks like integers, such as '3'"):
        ml.convert(tmp_path / "text.parquet", tmp_path / "out", to="recbole")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_other_formats(tmp_path: Path) -> None:
    source = written(example(), tmp_path, "official")
    status, told, _ = run_command("data", "convert", source, tmp_path / "out", "--to", "recbole")
    assert status == 0
    assert "5 interactions, 2 users, 3 items, 1 titles and 0 tags, converted from release to recbole." in told
    assert "note: comments are not written" in told
    assert "Next" not in told
