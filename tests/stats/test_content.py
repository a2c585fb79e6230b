"""Figures of items: what they have, tags, scripts and videos."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from microlens.data.dataset import ITEM_COLUMNS
from microlens.stats.content import Videos, coverage, most_common_tags, scripts


def items_of(rows: list[dict[str, Any]], **more: pl.DataType) -> pl.DataFrame:
    blank = {"clips": False, "covers": False, "sound": False}
    return pl.DataFrame([{**blank, **row} for row in rows], {**ITEM_COLUMNS, **more})


def test_what_items_have_is_counted() -> None:
    items = items_of(
        [
            {"title": "a", "title_zh": "一", "tag": "x", "likes": 0, "clips": True},
            {"title": " ", "title_zh": None, "tag": "", "views": 5, "covers": True},
            {"title": None, "title_zh": "", "tag": "y", "sound": True},
        ],
        title_zh=pl.String(),
    )
    assert coverage(items) == {
        **{"title": 1, "title_zh": 1, "tag": 2, "likes": 1, "views": 1},
        **{"clips": 1, "covers": 1, "sound": 1},
    }


@pytest.mark.parametrize(
    ("title", "script"),
    [
        ("Hello, 你", "Latin"),
        ("你好吗 ok", "Han"),
        ("Привет", "Cyrillic"),
        ("こんにちは", "Hiragana"),
        ("สวัสดี", "Thai"),
        ("ᏣᎳᎩ", "other"),
        ("🎉 123 !!!", "no letters"),
        ("été", "Latin"),
    ],
)
def test_the_script_of_a_title_is_that_of_most_letters(title: str, script: str) -> None:
    assert scripts(pl.Series([title])) == {script: 1}


def test_scripts_are_sorted_and_empty_titles_not_counted() -> None:
    titles = pl.Series(["一", "a", "b", "", None, " ", "1"])
    assert list(scripts(titles).items()) == [("Latin", 2), ("Han", 1), ("no letters", 1)]
    assert scripts(pl.Series([None, ""], dtype=pl.String)) == {}


def test_tags_with_their_items_and_interactions() -> None:
    tags = ["b", "a", None, "b", ""] + [f"rare {number:02}" for number in range(30)]
    number, found = most_common_tags(items_of([{"tag": tag} for tag in tags]), np.arange(1, 36))
    assert number == 32
    assert len(found) == 24
    assert [(tag.name, tag.items, tag.interactions) for tag in found[:3]] == [
        ("b", 2, 5),
        ("a", 1, 2),
        ("rare 00", 1, 6),
    ]


def test_videos_are_described() -> None:
    sizes = [(1280, 720), (720, 1280), (500, 500), (1280, 720)]
    rows = [
        {"clips": True, "width": width, "height": height, "duration": 2.0 * index, "codec": "h264", "sound": index > 2}
        for index, (width, height) in enumerate(sizes)
    ]
    found = Videos.of(items_of([*rows, {"sound": True}, {"clips": True}]))
    assert found is not None
    assert (found.number, found.with_sound, found.num_resolutions) == (5, 1, 3)
    assert list(found.resolutions.items()) == [("1280 x 720", 2), ("500 x 500", 1), ("720 x 1280", 1)]
    assert found.orientations == {"landscape": 2, "portrait": 1, "square": 1}
    assert found.codecs == {"h264": 4}
    assert found.duration is not None
    assert (found.duration.number, found.duration.mean, found.duration.most) == (4, 3.0, 6.0)
    assert found.durations is not None
    assert sum(found.durations.counts) == 4


def test_without_videos_there_is_nothing_to_describe() -> None:
    assert Videos.of(items_of([{"sound": True}])) is None
    unknown = Videos.of(items_of([{"clips": True}]))
    assert unknown is not None
    assert unknown.duration is unknown.durations is None
