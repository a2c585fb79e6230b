"""Columns of frames: what is missing stays missing, and numbers are written as pandas read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from microlens.data.dataset import Dataset
from microlens.errors import InputError
from microlens.release.frame_columns import columns_of, count_column, id_column, text_column

NAN = float("nan")


def read_text(column: Any) -> list[str | None]:
    frame = columns_of(column, ["x"], "items")
    return text_column(frame["x"], "items")[0].to_list()


def read_counts(column: Any) -> list[int | None]:
    frame = columns_of(column, ["x"], "items")
    found, wrong = count_column(frame["x"], "items")
    assert wrong == 0
    return found.to_list()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([NAN, 2001.0, None, -0.0, 2.5], [None, "2001", None, "0", "2.5"]),
        ([NAN, NAN], [None, None]),
        ([NAN, -(2.0**53)], [None, "-9007199254740992"]),
        ([1, None], ["1", None]),
        ([None, None], [None, None]),
        (pl.Series([None, None], dtype=pl.Datetime("ns")), [None, None]),
        (pl.Series([None], dtype=pl.Boolean), [None]),
        (pl.Series([2001.0, NAN], dtype=pl.Float32), ["2001", None]),
        (pl.Series(["a\nb", 2001, 3.0, 2.5, None, NAN, np.float32(4)], dtype=pl.Object),
         ["a b", "2001", "3", "2.5", None, None, "4"]),
        (pl.Series([NAN, None], dtype=pl.Object), [None, None]),
        (["NaN", "nan", ""], ["NaN", "nan", ""]),  # words of a title
    ],
)  # fmt: skip
def test_missing_texts_are_missing_and_whole_numbers_integers(values: Any, expected: list[str | None]) -> None:
    assert read_text(pl.DataFrame({"x": values})) == expected


def test_texts_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    numbers = [None, 2001, 1917, None]
    for kind in ("float64", "float32", "Float64", "Int64", "category", object):
        column = pandas.Series(numbers, dtype="float64").astype(kind)
        assert read_text(pandas.DataFrame({"x": column})) == [None, "2001", "1917", None], kind
        assert read_counts(pandas.DataFrame({"x": column})) == [None, 2001, 1917, None], kind
    for missing in (None, NAN, pandas.NA, pandas.NaT):
        mixed = pandas.Series(["one", missing, 2, 3.0], dtype=object)
        assert read_text(pandas.DataFrame({"x": mixed})) == ["one", None, "2", "3"]
        assert read_counts(pandas.DataFrame({"x": mixed.replace("one", "1")})) == [1, None, 2, 3]
        assert read_text(pl.DataFrame({"x": pl.Series(mixed.tolist(), dtype=pl.Object)})) == ["one", None, "2", "3"]
    for kind in ("float64", "Float64", "Int64", "string", "str", "category", "datetime64[ns]", "boolean", object):
        column = pandas.Series([None, None], dtype=kind)
        assert read_text(pandas.DataFrame({"x": column})) == [None, None], kind
        assert read_counts(pandas.DataFrame({"x": column})) == [None, None], kind


def test_ids_that_are_missing_are_named_and_mixed_ones_are_text() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    for missing in (None, NAN, pandas.NA, pandas.NaT):
        for values in ([1, missing], ["a", missing], [1.0, missing], [missing, missing], ["a", missing, 1]):
            row = next(place for place, value in enumerate(values) if value is missing)
            for frame in (
                pandas.DataFrame({"x": pandas.Series(values, dtype=object)}),
                pl.DataFrame({"x": pl.Series(values, dtype=pl.Object)}),
            ):
                column = columns_of(frame, ["x"], "items")["x"]
                with pytest.raises(InputError, match=f"row {row} of items: the value of column 'x' is missing"):
                    id_column(column, "items")
    mixed = pandas.DataFrame({"x": pandas.Series(["a", 1, 2.0], dtype=object)})
    assert id_column(columns_of(mixed, ["x"], "items")["x"], "items").to_list() == ["a", "1", "2"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_dataset_has_no_title_for_a_missing_one(tmp_path: Path, library: str) -> None:
    frames = pytest.importorskip(library, reason=f"{library} is not installed (make setup)")
    events = frames.DataFrame({"user": [u for u in range(9) for _ in range(6)], "item": [*range(6)] * 9})
    items = frames.DataFrame(
        {"item": [0, 1, 2, 3], "title": [NAN, 2001.0, 1917.0, NAN], "tag": [3.0, NAN, 4.0, 5.0], "likes": [NAN] * 4}
    )
    found = Dataset.from_frame(events, tmp_path / "data", items=items).items.head(4)
    assert found["title"].to_list() == [None, "2001", "1917", None]
    assert found["tag"].to_list() == ["3", None, "4", "5"]
    assert found["likes"].to_list() == [None] * 4
    nothing = frames.DataFrame({"item": [0, 1], "title": [NAN, NAN]})
    assert Dataset.from_frame(events, tmp_path / "none", items=nothing).items["title"].null_count() == 6


@pytest.mark.parametrize(
    "missing", [lambda pandas: pandas.NA, lambda pandas: pandas.NaT, lambda _: NAN, lambda _: None]
)
def test_a_missing_path_is_no_path(tmp_path: Path, missing: Callable[[Any], Any]) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    events = pandas.DataFrame({"user": [u for u in range(9) for _ in range(6)], "item": [*range(6)] * 9})
    lost = {0: missing(pandas), 1: __file__}
    items = pandas.DataFrame({"item": [*lost], "cover": pandas.Series([*lost.values()], dtype=object)})
    for number, covers in enumerate((lost, pandas.Series(lost, dtype=object), "cover")):
        made = Dataset.from_frame(events, tmp_path / str(number), items=items, covers=covers, workers=1)
        assert [fault["item"] for fault in made.manifest["faults"]] == [1]


def test_columns_that_pandas_numbers(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    events = pandas.DataFrame([(u, i, 1_700_000_000 + i) for u in range(9) for i in range(6)])
    items = pandas.DataFrame([("zero", 0), ("one", 1)]).rename(columns={0: "title"})
    made = Dataset.from_frame(events, tmp_path / "data", user=0, item=1, time=2, items=items)
    assert made.items["title"].to_list()[:2] == ["zero", "one"]
    swapped = pandas.DataFrame([(0, "zero"), (1, "one")]).rename(columns={1: "title"})
    made = Dataset.from_frame(events, tmp_path / "first", user="0", item=1, time="2", items=swapped, item_id=0)
    assert made.items["title"].to_list()[:2] == ["zero", "one"]
    with pytest.raises(InputError, match="the frame has no column '3'; its columns are 0, 1, 2"):
        Dataset.from_frame(events, tmp_path / "none", user=3, item=1)
    with pytest.raises(InputError, match="the frame has 2 columns '0'; its columns are 0, 0, 2"):
        Dataset.from_frame(events.rename(columns={1: "0"}), tmp_path / "none", user=0, item=2)
    twice = items.assign(other="x").rename(columns={"other": "title"})
    with pytest.raises(InputError, match="items has 2 columns 'title'"):
        Dataset.from_frame(events, tmp_path / "none", user=0, item=1, items=twice)
    assert not (tmp_path / "none").exists()


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (make setup)")
    events = pl.DataFrame({"user": [u for u in range(9) for _ in range(6)], "item": [*range(6)] * 9})
    for wrong, kind in (
        (pandas.Series([1, 2], name="user"), "Series"),
        (pl.Series("user", [1, 2]), "Series"),
        (pyarrow.chunked_array([[1, 2]]), "ChunkedArray"),
        ({"user": [1]}, "dict"),
        ("events.csv", "str"),
        (None, "NoneType"),
    ):
        with pytest.raises(InputError, match=f"the frame is of type {kind}.* accepted is a polars or pandas DataFrame"):
            Dataset.from_frame(wrong, tmp_path / "data")
        if wrong is not None:
            with pytest.raises(InputError, match=f"items is of type {kind}.* accepted is a polars or pandas DataFrame"):
                Dataset.from_frame(events, tmp_path / "data", items=wrong)
    assert not list(tmp_path.iterdir())
