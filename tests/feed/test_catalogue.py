"""Items as the page shows them."""

from pathlib import Path

import microlens
from microlens.feed.catalogue import Catalogue
from microlens.feed.settings import FeedSettings

USERS, ITEMS = 6, 6


def catalogue_with_titles(folder: Path, **languages: list[str]) -> Catalogue:
    release = folder / "release"
    release.mkdir()
    pairs = [f"{user},{item},{10 * user + item}" for user in range(1, USERS + 1) for item in range(1, ITEMS + 1)]
    (release / "x_pairs.csv").write_text("\n".join(["user,item,timestamp", *pairs]) + "\n", encoding="utf-8")
    for language, titles in languages.items():
        rows = [f"{item},{title}" for item, title in enumerate(titles, 1)]
        (release / f"x_title_{language}.csv").write_text("\n".join(["item,title", *rows]) + "\n", encoding="utf-8")
    return Catalogue(microlens.prepare(release, folder / "dataset", workers=1), None, FeedSettings())


def test_a_translated_title_comes_with_the_original(tmp_path: Path) -> None:
    catalogue = catalogue_with_titles(
        tmp_path, en=["one", "two", "same", "four", "five", "six"], zh=["一", "二", "same", "四", "五", "六"]
    )
    shown = [(item.title, item.title_original) for item in map(catalogue.item, range(1, ITEMS + 1))]
    assert shown == [("one", "一"), ("two", "二"), ("same", None), ("four", "四"), ("five", "五"), ("six", "六")]


def test_a_title_in_one_language_has_no_original(tmp_path: Path) -> None:
    catalogue = catalogue_with_titles(tmp_path, en=["one", "two", "three", "four", "five", "six"])
    assert [catalogue.item(number).title_original for number in range(1, ITEMS + 1)] == [None] * ITEMS
