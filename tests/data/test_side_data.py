"""What a dataset knows beside interactions: titles in several languages, blank ones filled, events with comments."""

from pathlib import Path

import polars as pl
import pytest

from microlens.data.dataset import Dataset
from microlens.data.prepare import prepare
from microlens.errors import InputError
from tests.conftest import write_pairs

ITEMS = [1, 2, 3, 4, 5]


def prepared(folder: Path, **files: str) -> Dataset:
    """A dataset of five items and the tables ``files``, by name without suffix."""
    release = write_pairs(folder / "release", [ITEMS, ITEMS[::-1]], "A_pairs.tsv")
    for name, content in files.items():
        (release / f"{name}.csv").write_text(content, encoding="utf-8")
    return prepare(release, folder / "dataset")


def table(*titles: str) -> str:
    return "item,title\n" + "".join(f"{item},{title}\n" for item, title in enumerate(titles, 1))


ENGLISH = table("one", "two", "", " ", "five")


def test_titles_in_several_languages_are_columns(tmp_path: Path) -> None:
    data = prepared(tmp_path, A_title_en=ENGLISH, A_title_zh="3,三\n1,一\n", A_title="2,zwei\n")
    items = data.items
    assert items["title"].to_list() == items["title_en"].to_list()
    assert items["title"].to_list()[:2] == ["one", "two"]
    assert items["title_zh"].to_list() == ["一", None, "三", None, None]
    assert items["title_original"].to_list() == [None, "zwei", None, None, None]
    assert items.columns[:6] == ["item", "item_id", "title", "tag", "likes", "views"]
    assert "A_title_en.csv gives the columns title, title_en" in data.manifest["notes"]
    assert {source["path"] for source in data.manifest["sources"]} >= {"A_title_zh.csv", "A_title.csv"}
    assert not data.manifest["dropped"]


def test_one_file_of_titles_has_no_further_columns_and_no_note(tmp_path: Path) -> None:
    data = prepared(tmp_path, A_title_en=ENGLISH)
    assert not [name for name in data.items.columns if name.startswith("title_")]
    assert data.manifest["notes"] == []


@pytest.mark.parametrize("own", [ENGLISH, "item,title\n1,one\n2,two\n5,five\n"], ids=["blank", "absent"])
def test_blank_titles_are_filled_from_another_set(tmp_path: Path, own: str) -> None:
    other = table("one", "two", "three", "four", "cinq") + "9,nine\n"
    data = prepared(tmp_path, A_title_en=own, A_title_zh="3,三\n", B_titles=other)
    assert data.items["title"].to_list() == ["one", "two", "three", "four", "five"]
    assert data.items["title_en"].fill_null("").str.strip_chars().to_list() == ["one", "two", "", "", "five"]
    assert "B_titles.csv: blank titles filled from it: 2" in data.manifest["notes"]
    assert not data.manifest["dropped"]


def test_titles_of_a_set_with_other_ids_fill_nothing(tmp_path: Path) -> None:
    data = prepared(tmp_path, A_title_en=ENGLISH, B_titles=table("five", "one", "three", "four", "two"))
    assert [title or None for title in data.items["title"].str.strip_chars()] == ["one", "two", None, None, "five"]
    assert data.manifest["notes"] == [
        "B_titles.csv: its titles are not used to fill blank ones, because they equal those of this release for 0 of 3 "
        "items"
    ]


def test_events_are_interactions_with_comments(tmp_path: Path) -> None:
    release = write_pairs(tmp_path / "release", [ITEMS, ITEMS[::-1]])
    (release / "tiny_comments.txt").write_text("1\t2\tfirst\n2\t5\tgood\n1\t2\tsecond\n2\t9\tunknown\n3\t1\tno\n")
    events = prepare(release, tmp_path / "dataset").events().collect()
    assert events.select("user", "item").rows() == [(1, item) for item in ITEMS] + [(2, item) for item in ITEMS[::-1]]
    told = events.filter(pl.col("comment").is_not_null())
    assert told.select("user", "item", "comment").rows() == [(1, 2, "first\nsecond"), (2, 5, "good")]


def test_events_without_comments(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    assert data.events().collect()["comment"].to_list() == [None] * 10
    (data.folder / "interactions.parquet").unlink()
    with pytest.raises(InputError, match=r"interactions\.parquet is missing; prepare the dataset again"):
        data.events()
