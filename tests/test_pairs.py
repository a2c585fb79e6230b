"""Reading interactions: what users really have, and what is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from microlens.data.interactions import Interactions
from microlens.data.pairs import read_pairs
from microlens.data.release import find_release, media_by_item
from microlens.errors import InputError

HEADER = "user,item,timestamp\n"


def read(tmp_path: Path, content: str, name: str = "x_pairs.csv") -> list[tuple[int, ...]]:
    path = tmp_path / name
    path.write_bytes(content.encode())
    return read_pairs(path).events.rows()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain", HEADER + "1,5,10\n1,3,20\n2,5,5\n"),
        ("no header", "1,5,10\n1,3,20\n2,5,5\n"),
        ("CRLF, no last line end", HEADER.replace("\n", "\r\n") + "1,5,10\r\n1,3,20\r\n2,5,5"),
        ("BOM", "\ufeff" + HEADER + "1,5,10\n1,3,20\n2,5,5\n"),
        ("BOM without header", "\ufeff1,5,10\n1,3,20\n2,5,5\n"),
        ("blank lines", HEADER + "\n1,5,10\n\n1,3,20\n2,5,5\n\n"),
        ("quoted", 'user,item,timestamp\n"1","5","10"\n"1","3","20"\n"2","5","5"\n'),
        ("other column order", "item,timestamp,user\n5,10,1\n3,20,1\n5,5,2\n"),
        ("capitals", "User,Item,Timestamp\n1,5,10\n1,3,20\n2,5,5\n"),
        ("users and times mixed", HEADER + "2,5,5\n1,3,20\n1,5,10\n"),
    ],
)
def test_csv_as_users_have_it(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path, content) == [(1, 5, 10), (1, 3, 20), (2, 5, 5)]


@pytest.mark.parametrize("content", ["1\t5 3\r\n2\t5\r\n", "\ufeff1\t5 3\n2\t5", "1\t5 3 \n\n2\t5\n", "2\t5\n1\t5 3\n"])
def test_tsv_as_users_have_it(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content, "x_pairs.tsv") == [(1, 5, 0), (1, 3, 1), (2, 5, 0)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x_pairs.csv", "", r"x_pairs\.csv is empty; expected three integers a line"),
        ("x_pairs.tsv", "\n \n", r"x_pairs\.tsv is empty; expected a user, a tab"),
        ("x_pairs.csv", HEADER, "holds no interactions"),
        ("x_pairs.csv", "a,b\n1,2\n", "line 1: the columns are 'a,b'; expected user,item,timestamp"),
        ("x_pairs.csv", HEADER + "1,2,3\n1,2\n", "line 3: 2 columns instead of 3"),
        ("x_pairs.csv", HEADER + "1,2,3,4\n1,2,3\n", "line 2: 4 columns instead of 3"),
        ("x_pairs.csv", HEADER + "1,2,3\n1,two,3\n", "line 3: 'two' is not an integer"),
        ("x_pairs.csv", HEADER + "1,2.5,3\n", "line 2: '2.5' is not an integer"),
        ("x_pairs.csv", HEADER + "1,,3\n", "line 2: '' is not an integer"),
        ("x_pairs.csv", "1,2,3\n" * 20_000 + "1,x,3\n", "line 20001: 'x' is not an integer"),
        ("x_pairs.tsv", "1\t2 3\n2 3 4\n", "line 2: 1 column instead of 2"),
        ("x_pairs.tsv", "1\t2\t3\n", "line 1: 3 columns instead of 2"),
        ("x_pairs.tsv", "1\t2 3\n2\t3  4\n", "line 2: '' is not an integer"),
        ("x_pairs.tsv", "1\t2 3\nuser\t3 4\n", "line 2: 'user' is not an integer"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, content, name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_the_first_of_repeated_interactions_is_kept_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "x_pairs.csv").write_text(HEADER + "1,7,30\n1,7,10\n1,8,20\n1,7,30\n")
    pairs = read_pairs(tmp_path / "x_pairs.csv")
    assert pairs.events.rows() == [(1, 7, 10), (1, 8, 20)]
    assert pairs.repeated == 2
    assert pairs.out_of_order == 1


def test_events_of_one_moment_keep_the_order_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + "1,9,5\n1,2,5\n1,5,5\n1,1,4\n") == [(1, 1, 4), (1, 9, 5), (1, 2, 5), (1, 5, 5)]


def test_numbers_are_dense_and_ids_are_kept(tmp_path: Path) -> None:
    (tmp_path / "x_pairs.tsv").write_text("10\t900 5\n-3\t7 900\n")
    interactions = Interactions.from_pairs(read_pairs(tmp_path / "x_pairs.tsv"))
    assert interactions.user_ids.tolist() == [-3, 10]
    assert interactions.item_ids.tolist() == [0, 5, 7, 900]
    assert interactions.items.tolist() == [2, 3, 3, 1]
    assert interactions.offsets.tolist() == [0, 2, 4]


def test_interactions_equal_a_loop_over_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(1, 30, 500), rng.integers(1, 50, 500), rng.integers(0, 10_000, 500)])
    pl.DataFrame(rows, schema=["user", "item", "timestamp"]).write_csv(tmp_path / "x_pairs.csv")
    interactions = Interactions.from_pairs(read_pairs(tmp_path / "x_pairs.csv"))
    expected: dict[int, list[int]] = {}
    for user, item, _ in sorted(rows.tolist(), key=lambda row: (row[0], row[2])):
        if item not in expected.setdefault(user, []):
            expected[user].append(item)
    for place, user in enumerate(sorted(expected)):
        events = slice(interactions.offsets[place], interactions.offsets[place + 1])
        assert interactions.user_ids[place] == user
        assert interactions.item_ids[interactions.items[events]].tolist() == expected[user]


def test_a_release_is_found_by_its_official_names(tmp_path: Path) -> None:
    parts = ("pairs.csv", "pairs.tsv", "title_en.csv", "tags_to_summary.csv", "likes_and_views.txt", "comment_en.txt")
    for name in (f"MicroLens-1k_{part}" for part in parts):
        (tmp_path / name).write_text("1,2,3")
    for name in ("MicroLens-1k_videos", "MicroLens-1k_covers", "MicroLens-1k_audios"):
        (tmp_path / name).mkdir()
    release = find_release(tmp_path)
    assert release.pairs.suffix == ".csv"  # it has the timestamps
    assert release.videos == tmp_path / "MicroLens-1k_videos"
    assert len(release.tables) == 5


def test_a_release_without_pairs_or_with_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        find_release(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no interactions"):
        find_release(tmp_path)
    for name in ("a_pairs.csv", "b_pairs.csv"):
        (tmp_path / name).write_text("1,2,3")
    with pytest.raises(InputError, match=r"a_pairs\.csv, b_pairs\.csv\); keep one"):
        find_release(tmp_path)


def test_media_belong_to_the_item_they_are_named_by(tmp_path: Path) -> None:
    for name in ("3.mp4", "3.avi", "12.MP4", "holiday.mp4", "notes.txt", ".4.mp4"):
        (tmp_path / name).touch()
    files, strangers = media_by_item(tmp_path, (".mp4", ".avi"))
    assert {item: path.name for item, path in files.items()} == {3: "3.mp4", 12: "12.MP4"}
    assert [path.name for path in strangers] == ["holiday.mp4"]
