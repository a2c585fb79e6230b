"""Tables of texts by item: the right text for each item, and one sentence for what cannot be read."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from microlens.data.item_texts import read_item_texts
from microlens.encoders.text_source import TITLES, TextSource
from microlens.errors import InputError

ROWS = {"item_id": [7, 3, 7, 7, 9, 3], "text": ["seven", "three", "again", "seven", "of another", None]}


def table(path: Path, columns: dict[str, list[object]] | None = None) -> Path:
    pl.DataFrame(columns or ROWS).write_parquet(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return table(tmp_path / "texts.parquet")


def test_distinct_texts_are_joined_in_their_order(path: Path) -> None:
    assert read_item_texts(path, np.array([3, 5, 7])) == ["three", "", "seven again"]
    assert read_item_texts(path, np.array([7, 3], np.int64)) == ["seven again", "three"]


def test_ids_may_be_text(tmp_path: Path) -> None:
    path = table(tmp_path / "texts.parquet", {"item_id": ["b", "a", "b"], "text": ["1", "2", "3"]})
    assert read_item_texts(path, np.array(["a", "b", "c"], object)) == ["2", "1 3", ""]


def test_no_text_at_all_is_no_error(tmp_path: Path) -> None:
    empty = pl.DataFrame(schema={"item_id": pl.Int64, "text": pl.String})
    empty.write_parquet(tmp_path / "texts.parquet")
    assert read_item_texts(tmp_path / "texts.parquet", np.array([1, 2])) == ["", ""]


def test_what_cannot_be_read_is_refused(tmp_path: Path, path: Path) -> None:
    (tmp_path / "damaged.parquet").write_bytes(path.read_bytes()[:-10])
    table(tmp_path / "columns.parquet", {"item": [1], "text": ["a"]})
    table(tmp_path / "types.parquet", {"item_id": [1], "text": [5]})
    for name, ids, words in (
        ("none", np.array([1]), "does not exist; write it with: microlens features DATASET --encoder ocr"),
        ("damaged", np.array([1]), "not a complete Parquet file with the columns item_id and text"),
        ("columns", np.array([1]), "not a complete Parquet file with the columns item_id and text"),
        ("types", np.array([1]), "its column text is of Int64"),
        ("texts", np.array(["3"], object), "item_id is of Int64, the ids of the dataset are of String"),
        ("texts", np.array([1, 2]), "holds texts of other items"),
    ):
        with pytest.raises(InputError, match=words):
            read_item_texts(tmp_path / f"{name}.parquet", ids)


def test_a_source_gives_titles_texts_in_pictures_or_both(path: Path) -> None:
    titles, item_ids = ["a title", "", "another"], np.array([0, 3, 5, 7])
    assert TITLES.texts(titles, None) == titles
    assert TextSource(source="ocr", ocr=str(path)).texts(titles, item_ids) == ["three", "", "seven again"]
    both = TextSource(source="title+ocr", ocr=str(path)).texts(titles, item_ids)
    assert both == ["a title three", "", "another seven again"]


def test_a_source_and_its_path_belong_together() -> None:
    with pytest.raises(InputError, match=r"encoder\.ocr must be the path"):
        TextSource(source="title+ocr")
    with pytest.raises(InputError, match=r"the source is 'title'"):
        TextSource(ocr="texts.parquet")
