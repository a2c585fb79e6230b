"""Titles, tags, likes and comments, dirty as they come."""

from pathlib import Path

import pytest

from microlens.data.metadata import read_comments, read_likes, read_tags, read_titles


def titles(tmp_path: Path, content: str) -> tuple[dict[int, str], int]:
    (tmp_path / "titles.csv").write_bytes(content.encode())
    metadata = read_titles(tmp_path / "titles.csv")
    return dict(metadata.table.rows()), metadata.unreadable


@pytest.mark.parametrize(
    "content",
    [
        'item,title\r\n1,"one, two"\r\n2,three\r\n',
        '\ufeffitem,title\n1,"one, two"\n2,three',
        '1,"one, two"\n2,three\n',
        "1,one, two\n\n2,three\n",
        '"1","one, two"\n"2","three"\n',
    ],
)
def test_titles_with_and_without_header_commas_and_quotes(tmp_path: Path, content: str) -> None:
    assert titles(tmp_path, content) == ({1: "one, two", 2: "three"}, 0)


def test_quotes_inside_titles(tmp_path: Path) -> None:
    read, unreadable = titles(tmp_path, '1,"she said ""no"", twice"\n2,half a "quote\n3,"unbalanced\n4,"\n')
    assert read == {1: 'she said "no", twice', 2: 'half a "quote', 3: '"unbalanced', 4: '"'}
    assert unreadable == 0


def test_a_title_may_run_over_several_lines(tmp_path: Path) -> None:
    read, unreadable = titles(tmp_path, 'item,title\n1,"first line\nsecond line"\n2,plain\n')
    assert read == {1: "first line second line", 2: "plain"}
    assert unreadable == 0


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    read, unreadable = titles(tmp_path, "nonsense\nitem,title\n1,a\n1,b\n2,c\n")
    assert read == {1: "a", 2: "c"}
    assert unreadable == 2  # the second header line, and the repeat of item 1


def test_bytes_that_are_no_text_do_not_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_bytes(b"1,caf\xe9\n2,b\n")
    assert read_titles(tmp_path / "titles.csv").table["item_id"].to_list() == [1, 2]


def test_tags(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("1,Anime\n2,Daily Sharing\n")
    assert read_tags(tmp_path / "tags.csv").table.rows() == [(1, "Anime"), (2, "Daily Sharing")]


def test_likes_and_views(tmp_path: Path) -> None:
    (tmp_path / "likes.txt").write_bytes(b"1\t12000\t414000\r\n2\t5\r\nx\t1\t2\r\n3\tmany\t7\r\n")
    metadata = read_likes(tmp_path / "likes.txt")
    assert metadata.table.rows() == [(1, 12000, 414000), (2, 5, None), (3, None, 7)]
    assert metadata.unreadable == 1


def test_comments_may_hold_tabs(tmp_path: Path) -> None:
    (tmp_path / "comments.txt").write_text("1\t2\tnice\tone\n1\tx\tlost\n3\t4\tgood\n")
    metadata = read_comments(tmp_path / "comments.txt")
    assert metadata.table.rows() == [(1, 2, "nice\tone"), (3, 4, "good")]
    assert metadata.unreadable == 1


@pytest.mark.real_data
def test_the_real_metadata_is_read_whole(shared_data: Path) -> None:
    folder = shared_data / "microlens-50k"
    found = read_titles(folder / "MicroLens-50k_titles.csv")
    assert (len(found.table), found.unreadable) == (19_220, 0)
    assert found.table.filter(found.table["title"].str.contains('^"|"$')).height < 0.02 * 19_220
    assert len(read_likes(folder / "MicroLens-50k_likes_and_views.txt").table) == 19_220
    assert read_tags(folder / "MicroLens-100k_tags_to_summary.csv").table["tag"].n_unique() == 23
