"""Titles, tags, likes and comments, dirty as they come."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microlens.errors import InputError
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.text_files import lines_of

MORE = "".join(f"{item},more\n" for item in range(1000, 1060))  # so that one bad row is less than a tenth


def read(tmp_path: Path, content: str | bytes, reader: Callable[[Path], Metadata] = read_titles) -> Metadata:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return reader(path)


def titles(tmp_path: Path, content: str | bytes) -> tuple[dict[int, str], int]:
    metadata = read(tmp_path, content)
    return {item: title for item, title in metadata.table.rows() if title != "more"}, metadata.unreadable


@pytest.mark.parametrize(
    "content",
    [
        'item,title\r\n1,"one, two"\r\n2,three\r\n',
        '\ufeffitem,title\n1,"one, two"\n2,three',
        '1,"one, two"\n2,three\n',
        "1,one, two\n\n2,three\n",
        '"1","one, two"\n"2","three"\n',
        'item,title\r1,"one, two"\r2,three\r',
        ' 1 , "one, two" \n2, three\n',
        "item;title\n1;one, two\n2;three\n",
        "item\ttitle\n1\tone, two\n2\tthree\n",
        "item,title\n1.0,one, two\n2.0,three\n",
        'title,item_id\n"one, two",1\nthree,2\n',
        "title,item_id\none, two,1\nthree,2\n",
        'videoID,views,title_en\n1,5,"one, two"\n2,6,three\n',
        'video_id,title,views\n1,"one, two",5\n2,three,6\n',
        "id,title,likes\n1,one, two,5\n2,three,6\n",
        ',item,title\n0,1,"one, two"\n1,2,three\n',
        'Unnamed: 0,item,title\n0,1,"one, two"\n1,2,three\n',
        '0,1,"one, two"\n1,2,three\n',
        "item,title\n1,1,one, two\n2,2,three\n",
        '"0","1","one, two"\n"1","2","three"\n',
        "vid_no,what\n1,one, two\n2,three\n",
        "item,标题\n1,one, two\n2,three\n",
        gzip.compress(b"item,title\n1,one, two\n2,three\n", mtime=0),
    ],
)
def test_titles_of_any_make(tmp_path: Path, content: str | bytes) -> None:
    assert titles(tmp_path, content) == ({1: "one, two", 2: "three"}, 0)


def test_numbers_in_front_of_a_title_are_no_index(tmp_path: Path) -> None:
    assert titles(tmp_path, '0,"1, two"\n1,"3, four"\n') == ({0: "1, two", 1: "3, four"}, 0)
    assert titles(tmp_path, "item,likes,title\n0,5,a\n1,6,b\n") == ({0: "a", 1: "b"}, 0)
    assert titles(tmp_path, "5,1,two\n6,3,four\n") == ({5: "1,two", 6: "3,four"}, 0)
    comments = read(tmp_path, "0\t1\tfine\n1\t1\t2 of 3\n", read_comments)
    assert comments.table.rows() == [(0, 1, "fine"), (1, 1, "2 of 3")]


def test_ids_to_the_ends_of_64_bits(tmp_path: Path) -> None:
    content = f"item,title\n7100000000000000101,a\n{-(2**63)},b\n{2**63 - 1},c\n"
    assert titles(tmp_path, content) == ({7100000000000000101: "a", -(2**63): "b", 2**63 - 1: "c"}, 0)


def test_quotes_inside_titles(tmp_path: Path) -> None:
    read, unreadable = titles(tmp_path, '1,"she said ""no"", twice"\n2,half a "quote\n3,"unbalanced\n4,"\n5,"a" b\n')
    assert read == {1: 'she said "no", twice', 2: 'half a "quote', 3: '"unbalanced', 4: '"', 5: '"a" b'}
    assert unreadable == 0


def test_quotes_that_nothing_closes_swallow_no_rows(tmp_path: Path) -> None:
    content = '1,"open\n' + "".join(f"{item},t\n" for item in range(2, 50)) + '50,size 5"\n51,end\n'
    read, unreadable = titles(tmp_path, content)
    assert read == {1: '"open', **dict.fromkeys(range(2, 50), "t"), 50: 'size 5"', 51: "end"}
    assert unreadable == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('item,title\n1,"first line\nsecond line"\n2,plain\n', {1: "first line second line", 2: "plain"}),
        ('1,"first\n2,second"\n2,real\n', {1: "first 2,second", 2: "real"}),
        ('1,"buy:\n1,eggs\n2,""milk""\n\nbye"\n3,c\n', {1: 'buy: 1,eggs 2,"milk" bye', 3: "c"}),
        ('title,item\n"first\nx,2",1\ny,2\n', {1: "first x,2", 2: "y"}),
        ('1,"first\r2,second"\n2,real\n', {1: "first 2,second", 2: "real"}),
        ("1,first\nruns on\n2,b\n", {1: "first runs on", 2: "b"}),
    ],
)
def test_a_title_may_run_over_several_lines(tmp_path: Path, content: str, expected: dict[int, str]) -> None:
    assert titles(tmp_path, content) == (expected, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.integers(-(2**63), 2**63 - 1),
        st.lists(st.sampled_from(["a", "1,b", ",", ";", '"', " ", "\n", "é", "标题", "#"]), max_size=6).map("".join),
        min_size=1, max_size=8,
    ),
    order=st.permutations(["", "item", "title", "views"]),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)  # fmt: skip
def test_a_table_reads_back_however_it_is_written(
    tmp_path: Path, rows: dict[int, str], order: list[str], separator: str, encoding: str
) -> None:
    lines = [dict(zip(order, order, strict=True))]
    lines += [
        {"": str(place), "item": str(item), "title": '"' + title.replace('"', '""') + '"', "views": "5"}
        for place, (item, title) in enumerate(rows.items())
    ]
    text = "".join(separator.join(line[name] for name in order) + "\n" for line in lines)
    found, unreadable = titles(tmp_path, text.encode(encoding))
    assert unreadable == 0
    words = {item: "".join(title.split()) for item, title in found.items()}  # line breaks become blanks
    assert words == {item: "".join(title.split()) for item, title in rows.items()}


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    read, unreadable = titles(tmp_path, f"nonsense\nitem,title\n{MORE}1,a\n1,b\n1,a\n2,c\nv3,d\n{2**63},e\n4,ok\n")
    assert read == {1: "a", 2: "c", 4: "ok"}
    assert unreadable == 5  # the first line, two repeats of item 1, and two ids that are none


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item,title\nv1,a\n2,b\n", r"1 of 2 rows cannot be used, the first in line 2 \('v1' is not an integer\)"),
        (f"1,a\n{2**63},b\n", r"1 of 2 .* line 2 \('9223372036854775808' is beyond 64-bit integers\)"),
        ("1,a\n2,b\n1,c\n", r"1 of 3 rows cannot be used, the first in line 3 \(a repeated item\)"),
        (
            "item,title,views\n1,a,5\n2\n",
            r"1 of 2 .* line 3 \(1 instead of 3 columns\); expected the columns item_id, t",
        ),
        ("name,key\nhello,101\nyou,102\n", "line 1: 'name,key'; expected the columns item_id, title, in this order or"),
        ("key,what,more\n1,a,5\n", "line 1: the columns are 'key,what,more'; expected the columns item_id, title"),
        ("v1,a\n2,b\n", r"1 of 2 .* line 1 \(neither header nor record\)"),
        ("1,a\0b\n", "line 1: a NUL byte; accepted is text in UTF-8"),
    ],
)
def test_a_table_of_which_much_cannot_be_used_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        titles(tmp_path, content)
    assert str(tmp_path / "table.csv") in str(caught.value)


def test_a_table_without_rows(tmp_path: Path) -> None:
    metadata = read(tmp_path, "\n \n")
    assert metadata.table.rows() == []
    assert metadata.notes == ("table.csv is empty",)
    assert read(tmp_path, "item,title\n").table.rows() == []


def test_rows_that_say_the_same_twice_do_no_harm(tmp_path: Path) -> None:
    assert titles(tmp_path, "1,a\n1,a\n1,a\n2,b\n") == ({1: "a", 2: "b"}, 2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "gbk", "gb18030"])
def test_other_encodings_are_read_and_named(tmp_path: Path, encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    metadata = read(tmp_path, mark + "item,title\n1,标题\n2,很好\n".encode(encoding))
    assert metadata.table.rows() == [(1, "标题"), (2, "很好")]
    name = "GB18030" if encoding.startswith("gb") else encoding[:6].upper()
    assert metadata.notes == (f"table.csv was read as {name}, such as '标题'",)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("café", "latin-1"), ("Pokémon", "latin-1"), ("Łódź ąę", "cp1250"), ("привет", "cp1251"),
        ("これは面白い", "shift_jis"), ("これは面白い", "euc-jp"), ("這個影片很好看", "big5"),
        ("안녕하세요 오늘은 좋은 날씨입니다 영화를 추천해", "euc-kr"),
    ],
)  # fmt: skip
def test_encodings_that_are_not_accepted_are_refused_with_their_line(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(InputError, match=r"table\.csv, line 3: the byte 0x.. is not UTF-8; accepted is text in UTF-8"):
        read(tmp_path, b"item,title\r\n1,plain\r\n" + f"2,{text}\r\n".encode(encoding))


def test_a_title_of_which_bytes_were_lost_is_counted_and_not_stored(tmp_path: Path) -> None:
    whole = "".join(f"{item},标题\n" for item in range(20)).encode()
    metadata = read(tmp_path, whole + b"99,\xe6\xa0\n")
    assert metadata.table.rows() == [(item, "标题") for item in range(20)]
    assert metadata.unreadable == 1
    lost_before = read(tmp_path, "1,a\ufffdb\n2,c\n")
    assert lost_before.table.rows() == [(1, "a\ufffdb"), (2, "c")]
    assert lost_before.notes == ("table.csv: rows with U+FFFD, which an earlier conversion left: 1",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"1,a\n" * 500, mtime=0)[:-9], "is a damaged gzip file"),
        (b"\x1f\x8b\x08no gzip at all", "is a damaged gzip file"),
        (gzip.compress(bytes(100 << 20), mtime=0), "unpacks to more than 300 times its size"),
        (b"PK\x03\x04rest", "is a zip archive or a spreadsheet; accepted is text"),
        ("1,标题\n".encode("utf-16")[:-1], "line 1: not UTF-16, unlike the byte-order mark"),
        ("1,标题\n".encode("utf-16-le"), "line 1: the byte 0x.. is not UTF-8"),
        ("1,a\n".encode("utf-16-le"), "line 1: a NUL byte"),
        (b"1,a\n2,\xed\xa0\x80\n", "line 2: the byte 0xed is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


def test_tags(tmp_path: Path) -> None:
    expected = [(1, "Anime"), (2, "Daily Sharing")]
    assert read(tmp_path, "1,Anime\n2,Daily Sharing\n", read_tags).table.rows() == expected
    assert read(tmp_path, ",category,item\n0,Anime,1\n1,Daily Sharing,2\n", read_tags).table.rows() == expected


def test_likes_and_views(tmp_path: Path) -> None:
    more = "".join(f"{item}\t1\t1\n" for item in range(1000, 1030))
    content = f"1\t12000\t414000\r\n2\t5\r\nx\t1\t2\r\n3\tmany\t7\r\n4\t\t9\n{more}"
    metadata = read(tmp_path, content, read_likes)
    assert metadata.table.rows()[:4] == [(1, 12000, 414000), (2, 5, None), (3, None, 7), (4, None, 9)]
    assert (metadata.unreadable, metadata.emptied) == (1, 1)
    named = read(tmp_path, "views,video,like_count\n414000.0,1,12000.0\n", read_likes)
    assert named.table.rows() == [(1, 12000, 414000)]


def test_numbers_of_likes_that_are_none_are_refused_when_many(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"1 of 2 rows cannot be used, the first in line 2 \('1.2万' is not an integer"
    ):
        read(tmp_path, "1\t5\t6\n2\t1.2万\t6\n", read_likes)


def test_comments_may_hold_tabs_and_quotes(tmp_path: Path) -> None:
    more = "".join(f"{user}\t2\tfine\n" for user in range(100, 120))
    content = f'1\t2\tnice\tone\n1\tx\tlost\n3\t4\t"good\n5\t6\tbad"\n7\t8\truns\non\n{more}'
    metadata = read(tmp_path, content, read_comments)
    expected = [(1, 2, "nice\tone"), (3, 4, '"good'), (5, 6, 'bad"'), (7, 8, "runs on")]
    assert metadata.table.rows()[:4] == expected
    assert len(metadata.table) == 24
    assert metadata.unreadable == 1


def test_comments_as_csv(tmp_path: Path) -> None:
    content = 'comment,item_id,user_id\n"a, b\nc",2,1\nagain,2,1\n'
    assert read(tmp_path, content, read_comments).table.rows() == [(1, 2, "a, b c"), (1, 2, "again")]


@pytest.mark.real_data
def test_the_real_metadata_is_read_whole(shared_data: Path) -> None:
    folder = shared_data / "microlens-50k"
    found = read_titles(folder / "MicroLens-50k_titles.csv")
    assert (len(found.table), found.unreadable) == (19_220, 0)
    assert found.table.filter(found.table["title"].str.contains('^"|"$')).height < 0.02 * 19_220
    assert len(read_likes(folder / "MicroLens-50k_likes_and_views.txt").table) == 19_220
    assert read_tags(folder / "MicroLens-100k_tags_to_summary.csv").table["tag"].n_unique() == 23


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n", b"\xef\xbb\xbf\n", b"\xef\xbb\xbf\xef\xbb\xbf"])
def test_text_without_a_line_has_none(content: bytes) -> None:
    assert lines_of(content)["text"].str.strip_chars("\ufeff").to_list() in ([], [""])
