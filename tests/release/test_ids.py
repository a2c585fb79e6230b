"""Ids that are text: when they are, what they may hold, and that every table of a release is read by them."""

import gzip
from pathlib import Path
from uuid import UUID

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.errors import InputError
from microlens.release.ids import TextIds, is_text, positions_of
from microlens.release.media_files import find_media
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import Pairs, read_pairs

HEADER = "user,item,timestamp\n"
UUIDS = [str(UUID(int=number << 64)) for number in (1, 2, 3)]
TEXT = TextIds(user=True, item=True)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path, content: str | bytes, name: str = "x_pairs.csv") -> Pairs:
    return read_pairs(write(folder, name, content))


@pytest.mark.parametrize("text", ["u1", "007", "+7", "-07", "00", "18446744073709551615", "9223372036854775808", "é",
                                  "😀", "\uff11", "1.2.3", "1e5", UUIDS[0], "7" * 5000])  # fmt: skip
def test_text_is_what_is_no_plain_64_bit_integer(text: str) -> None:
    assert is_text(text)
    assert is_text(f" {text}\t")


@pytest.mark.parametrize("integer", ["0", "7", "-7", "7.0", "7.", "9223372036854775807", "-9223372036854775808", " 7 "])
def test_integers_stay_integers(integer: str) -> None:
    assert not is_text(integer)


@pytest.mark.parametrize("wrong", ["", " ", "2.5", ".5", None])
def test_what_is_no_id_makes_no_text(wrong: str | None) -> None:
    assert not is_text(wrong)


@pytest.mark.parametrize(
    "content",
    [
        HEADER + "b,é,30\nb,😀,10\n a ,é,20\n",
        "b,é,30\nb,😀,10\na,é,20\n",
        HEADER + '"b","é","30"\n"b","😀","10"\n"a","é","20"\n',
        HEADER + '"b","é",30\n"b","😀",10\n"a",""é"",20\n'.replace('""é""', '"é"'),
        "time;clip_text;video_id;uid\n30;x;é;b\n10;y;😀;b\n20;z;é;a\n",
        HEADER + "\nb,é,30\n\nb,😀,10\na,é,20\n",
        HEADER + "b,é,30.0\nb,😀,10\na,é,20\n",
        gzip.compress((HEADER + "b,é,30\nb,😀,10\na,é,20\n").encode(), mtime=0),
        (HEADER + "b,é,30\nb,😀,10\na,é,20\n").encode("utf-16"),
    ],
)
def test_tables_of_text_ids(tmp_path: Path, content: str | bytes) -> None:
    pairs = read(tmp_path, content)
    assert pairs.with_ids().rows() == [("a", "é", 20), ("b", "😀", 10), ("b", "é", 30)]
    assert pairs.events.rows() == [(1, 1, 20), (2, 2, 10), (2, 1, 30)]
    assert (pairs.text_ids, pairs.out_of_order) == (TEXT, 1)
    assert "x_pairs.csv: user ids are text, as the first of them, 'b'" in pairs.notes
    assert [series.to_list() for series in (pairs.user_ids, pairs.item_ids)] == [["a", "b"], ["é", "😀"]]


@pytest.mark.parametrize("content", ["b\tx é\na\té\n", "user\titems\nb\tx é\na\té\n", "b\tx é x\na\té\n"])
def test_sequences_of_text_ids(tmp_path: Path, content: str) -> None:
    pairs = read(tmp_path, content, "x_pairs.tsv")
    assert pairs.with_ids().rows() == [("a", "é", 0), ("b", "x", 0), ("b", "é", 1)]
    assert pairs.repeated == content.count(" x")


def test_users_and_items_are_decided_separately(tmp_path: Path) -> None:
    pairs = read(tmp_path, HEADER + f"7,{UUIDS[1]},10\n30,{UUIDS[0]},20\n")
    assert pairs.text_ids == TextIds(item=True)
    assert pairs.with_ids().rows() == [(7, UUIDS[1], 10), (30, UUIDS[0], 20)]
    sequences = read(tmp_path, "u\t7 30\nt\t5\n", "x_pairs.tsv")
    assert sequences.with_ids().rows() == [("t", 5, 0), ("u", 7, 0), ("u", 30, 1)]


def test_integers_among_text_are_text_and_zeros_are_kept(tmp_path: Path) -> None:
    pairs = read(tmp_path, HEADER + "007,+5,10\n7,5,20\n12,05,30\n")
    assert pairs.with_ids().rows() == [("007", "+5", 10), ("12", "05", 30), ("7", "5", 20)]
    integers = read(tmp_path, HEADER + "7,5,20\n007,05,10\n")
    assert integers.with_ids().rows() == [(7, 5, 10)]  # the first row has integers


def test_large_integers_are_exact(tmp_path: Path) -> None:
    most = 2**64 - 1
    pairs = read(tmp_path, HEADER + f"7100000000000000101,{most},10\n7100000000000000100,{most - 1},20\n")
    assert pairs.text_ids == TextIds(item=True)
    assert pairs.with_ids().rows() == [
        (7100000000000000100, str(most - 1), 20),
        (7100000000000000101, str(most), 10),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x_pairs.csv", HEADER + "u,1,5\n,2,6\n", "line 3: an id is empty; expected user,item,timestamp"),
        ("x_pairs.csv", HEADER + f"u,{'x' * 1001},5\n", "line 2: 'x{80}[.]{3}' has more than 1,000 characters"),
        ("x_pairs.csv", HEADER + "u,a\x07b,5\n", "line 2: 'a b' holds control characters"),
        ("x_pairs.csv", HEADER + "u,a\u202eb,5\n", "line 2: 'a b' holds control characters"),
        ("x_pairs.csv", HEADER + "1,v,5\nu,v,6\n", "line 3: 'u' is not an integer"),
        ("x_pairs.csv", HEADER + "u,1,5\nu,v,6\n", "line 3: 'v' is not an integer"),
        ("x_pairs.csv", "who,what,when\nu,v,5\n", "line 1: the columns are 'who,what,when'; expected user,item"),
        ("x_pairs.csv", "u1,v1,never\n", "line 1: the columns are 'u1,v1,never'; expected user,item,timestamp"),
        ("x_pairs.csv", "u1,5,never\n", "line 1: 'never' is not a time"),
        ("x_pairs.tsv", "who\twhat\n1\t2 3\n2\t3 4\n", "line 1: the columns are 'who what'; expected a user, a tab"),
        ("x_pairs.tsv", "u\tv w\nt\tv  w\n", "line 2: an id is empty; expected a user, a tab"),
        ("x_pairs.tsv", "1\tv w\nt\tv w\n", "line 2: 't' is not an integer"),
    ],
)
def test_what_is_no_id_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content, name)


IDS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='",;|'), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(IDS, IDS, st.integers(0, 99)), min_size=1, max_size=30))
def test_any_text_is_sorted_as_python_sorts_it(tmp_path_factory: pytest.TempPathFactory, events: list[tuple]) -> None:
    if not all(is_text(one) for one in events[0][:2]):
        events = [("first", "first", 0), *events]
    lines = "".join(f"{user},{item},{time}\n" for user, item, time in events)
    pairs = read(tmp_path_factory.mktemp("text"), HEADER + lines)
    seen: dict[tuple[str, str], int] = {}
    for user, item, time in sorted(events, key=lambda event: (event[0], event[2])):
        seen.setdefault((user, item), time)
    expected = [(user, item, time) for (user, item), time in seen.items()]
    assert pairs.with_ids().rows() == expected
    assert pairs.user_ids.to_list() == sorted({user for user, _, _ in expected})


def rows(metadata: Metadata) -> list[tuple]:
    return metadata.table.rows()


@pytest.mark.parametrize(
    "content",
    [
        'v1,Hello, world\n"v2","a ""b"""\n007,x\n',
        'item,title\nv1,"Hello, world"\nv2,"a ""b"""\n007,x\n',
        'title,item\nHello, world,v1\n"a ""b""",v2\nx,007\n',
        ',item,title\n0,v1,"Hello, world"\n1,v2,"a ""b"""\n2,007,x\n',
        'v1\tHello, world\nv2\ta "b"\n007\tx\n',
    ],
)
def test_titles_of_text_ids(tmp_path: Path, content: str) -> None:
    titles = read_titles(write(tmp_path, "x_titles.csv", content), TEXT)
    assert rows(titles) == [("v1", "Hello, world"), ("v2", 'a "b"'), ("007", "x")]
    assert titles.unreadable == 0


def test_a_quoted_title_of_a_text_id_may_run_over_lines(tmp_path: Path) -> None:
    content = 'item,title\nv1,"one, two\nthree, four"\nv2,five\nand six\n'
    assert rows(read_titles(write(tmp_path, "x_titles.csv", content), TEXT)) == [
        ("v1", "one, two three, four"),
        ("v2", "five and six"),
    ]


def test_tags_likes_and_comments_of_text_ids(tmp_path: Path) -> None:
    tags = read_tags(write(tmp_path, "x_tags.csv", f"item,tag\n{UUIDS[0]},cats\n{UUIDS[1]},dogs\n"), TEXT)
    assert rows(tags) == [(UUIDS[0], "cats"), (UUIDS[1], "dogs")]
    likes = read_likes(write(tmp_path, "x_likes.txt", "é\t12\t34\n😀\t5\t\n"), TEXT)
    assert rows(likes) == [("é", 12, 34), ("😀", 5, None)]
    comments = read_comments(write(tmp_path, "x_comment.txt", "u1\t7\tnice, really\nu2\t8\tyes\n"), TextIds(user=True))
    assert rows(comments) == [("u1", 7, "nice, really"), ("u2", 8, "yes")]


def test_rows_without_a_usable_text_id_are_counted(tmp_path: Path) -> None:
    lines = [f"v{number},title" for number in range(20)]
    metadata = read_titles(write(tmp_path, "x_titles.csv", "\n".join(["item,title", *lines, "v\x07,title"])), TEXT)
    assert (len(metadata.table), metadata.unreadable) == (20, 1)


def test_media_by_text_names(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for name in ("v1.mp4", "007.mp4", "7.mp4", "a.b.mkv", "é 😀.mp4", "deep/v1.mkv", ".hidden.mp4", "note.txt"):
        (folder / name).touch()
    found = find_media([folder], (".mp4", ".mkv"), text_ids=True)
    assert {item: path.name for item, path in found.by_item.items()} == {
        "007": "007.mp4", "7": "7.mp4", "a.b": "a.b.mkv", "v1": "v1.mp4", "é 😀": "é 😀.mp4",
    }  # fmt: skip
    assert sorted(why for _, why in found.unused) == ["another file of the same item is read", "hidden",
                                                      "no kind of file that is read here"]  # fmt: skip
    assert list(find_media([folder], (".mp4", ".mkv")).by_item) == [7]


def test_positions_of_ids_however_they_are_written() -> None:
    integers = pl.Series([-3, 5, 7100000000000000101])
    wanted = [5, "5", np.int64(-3), "7100000000000000101", "x", 6, "99999999999999999999", "05x"]
    assert positions_of(wanted, integers).tolist() == [1, 1, 0, 2, -1, -1, -1, -1]
    texts = pl.Series(["007", "7", UUIDS[0], "é"]).sort()
    assert positions_of([7, "007", UUID(UUIDS[0]), "é", "e", "😀"], texts).tolist() == [
        texts.index_of("7"), texts.index_of("007"), texts.index_of(UUIDS[0]), texts.index_of("é"), -1, -1,
    ]  # fmt: skip
    assert positions_of([], texts).tolist() == []
