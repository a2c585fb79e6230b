"""The comparison of data sets: the published rows, and the computed one."""

import json
from pathlib import Path

import pytest

from microlens.stats.comparison import abbreviated, comparison_row, published
from microlens.stats.counts import Size
from microlens.stats.histogram import Summary

ALL = dict.fromkeys(("title", "covers", "sound", "clips"), 1000)


def size(items: int = 1000) -> Size:
    sessions = Summary(number=1, mean=1, median=1, least=1, most=1)
    return Size(users=50_000, items=items, interactions=359_708, density=1, sessions=sessions)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "7"), (999, "999"), (1000, "1K"), (19_220, "19K"), (988_123, "988K"), (999_500, "1.00M"),
        (6_410_000, "6.41M"), (190_480_000, "190.48M"), (1_000_000_000, "1.00B"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_in_the_table(number: int, text: str) -> None:
    assert abbreviated(number) == text


def test_a_row_of_a_dataset_with_everything() -> None:
    row = comparison_row("Mine", size(), ALL, {"title": {"Latin": 900, "Han": 95, "Thai": 5}})
    assert row == {
        **{"Dataset": "Mine", "Text": "yes", "p-Image": "-", "r-Image": "yes", "Audio": "yes", "Video": "yes"},
        **{"#user": "50K", "#item": "1K", "#inter.": "360K", "Domain": "", "Language": "Latin/Han script"},
    }
    assert list(row) == published()["columns"]


def test_content_of_few_items_is_a_share() -> None:
    row = comparison_row("Mine", size(), {"title": 990, "covers": 0, "sound": 3, "clips": 160}, {})
    assert [row[name] for name in ("Text", "p-Image", "r-Image", "Audio", "Video")] == [
        "yes",
        "no",
        "no",
        "0.3 %",
        "16 %",
    ]
    assert row["Language"] == "no"


def test_languages_are_those_of_the_columns_of_titles() -> None:
    columns = {name: {"Latin": 1} for name in ("title", "title_zh", "title_en")}
    assert comparison_row("Mine", size(), ALL, columns)["Language"] == "en/zh"


def test_the_published_rows_are_those_of_other_data_sets() -> None:
    table = published()
    assert len(table["rows"]) == 21
    assert {len(row) for row in table["rows"]} == {len(table["columns"])} == {11}
    assert "MicroLens" not in [row[0] for row in table["rows"]]


@pytest.mark.real_data
def test_the_published_rows_are_copied_without_a_mistake(shared_data: Path) -> None:
    read = json.loads((shared_data.parent / "reference" / "dataset-comparison.json").read_text(encoding="utf-8"))
    assert published()["columns"] == read["columns"]
    assert published()["rows"] == [[*row.values()] for row in read["rows"] if row["Dataset"] != "MicroLens"]
