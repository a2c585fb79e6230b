"""Several files of titles: which gives the column title, which are columns of their own, which fill blanks."""

from pathlib import Path

import pytest

from microlens.errors import InputError
from microlens.release.folder import find_release
from microlens.release.title_files import set_and_language
from tests.release.test_media_files import touch


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("MicroLens-100k_title_en", ("microlens-100k", "en")),
        ("MicroLens-50k_titles", ("microlens-50k", "")),
        ("x_titles_zh-Hant", ("x", "zh_hant")),
        ("x_title_pt_br", ("x", "pt_br")),
        ("title", ("", "")),
        ("titles_en", ("", "en")),
        ("x_titles_cleaned", ("x", "")),
        ("x_titles_v2", ("x", "")),
    ],
)
def test_set_and_language_are_read_from_the_name(stem: str, expected: tuple[str, str]) -> None:
    assert set_and_language(stem) == expected


@pytest.mark.parametrize(
    ("names", "titles", "columns", "others"),
    [
        (("a_title_zh.csv",), "a_title_zh.csv", {}, ()),
        (("b_titles.csv",), "b_titles.csv", {}, ()),
        (("x_title.csv", "x_title.csv.gz"), "x_title.csv", {}, ()),
        (
            ("a_title.csv", "a_title_en.tsv"),
            "a_title_en.tsv",
            {"title_en": "a_title_en.tsv", "title_original": "a_title.csv"},
            (),
        ),
        (
            ("a_title.csv", "a_title_zh.csv"),
            "a_title.csv",
            {"title_original": "a_title.csv", "title_zh": "a_title_zh.csv"},
            (),
        ),
        (
            ("a_title_zh.csv", "a_title_de.csv"),
            "a_title_de.csv",
            {"title_de": "a_title_de.csv", "title_zh": "a_title_zh.csv"},
            (),
        ),
        (("a_title_en.csv", "b_titles.csv"), "a_title_en.csv", {}, ("b_titles.csv",)),
        (
            ("title_zh.csv", "title_en.csv"),
            "title_en.csv",
            {"title_en": "title_en.csv", "title_zh": "title_zh.csv"},
            (),
        ),
    ],
)
def test_files_of_titles(
    tmp_path: Path, names: tuple[str, ...], titles: str, columns: dict[str, str], others: tuple[str, ...]
) -> None:
    release = find_release(touch(tmp_path, "A_pairs.csv", *names))
    assert release.titles is not None
    assert release.titles.name == titles
    assert {column: path.name for column, path in release.title_columns.items()} == columns
    assert [path.name for path in release.other_titles] == list(others)
    assert len(release.tables) == len(set(release.tables)) == 1 + len({titles, *columns.values(), *others})


def test_titles_of_several_other_sets_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x_pairs.csv", "a_titles.csv", "b_titles.csv")
    with pytest.raises(InputError, match=r"several files for the titles \(a_titles\.csv, b_titles\.csv\); keep one"):
        find_release(tmp_path)
