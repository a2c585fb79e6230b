"""Reading interactions: what users really have, and what is refused."""

import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microlens.errors import InputError
from microlens.release.folder import find_release
from microlens.release.pairs import read_pairs
from tests.data.interactions import interactions_of_pairs

HEADER = "user,item,timestamp\n"
LEAST, MOST = -(2**63), 2**63 - 1
Events = list[tuple[int, ...]]


def read(tmp_path: Path, content: str | bytes, name: str = "x_pairs.csv") -> Events:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
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
        ("carriage returns only", HEADER.replace("\n", "\r") + "1,5,10\r1,3,20\r2,5,5\r"),
        ("blanks around values", HEADER + " 1 , 5 ,10 \n\t1,3,20\n2,5, 5\n"),
        ("a quoted value", HEADER + '1,"5",10\n1,3,20\n2,5,5\n'),
        ("semicolons", "user;item;timestamp\n1;5;10\n1;3;20\n2;5;5\n"),
        ("tabs without header", "1\t5\t10\n1\t3\t20\n2\t5\t5\n"),
        ("MovieLens", "userId,movieId,rating,timestamp\n1,5,4.5,10\n1,3,2,20\n2,5,1,5\n"),
        ("an index", ",user_id,item_id,timestamp\n0,1,5,10\n1,1,3,20\n2,2,5,5\n"),
        ("RecBole", "user_id:token\titem_id:token\ttimestamp:float\n1\t5\t10.0\n1\t3\t20.0\n2\t5\t5.0\n"),
        ("quoted text", 'user,title,item,timestamp\n1,"a, ""b""\nc",5,10\n1,d,3,20\n2,"e",5,5\n'),
        ("decimal ids", HEADER + "1.0,5.0,10\n1.0,3.0,20\n2.0,5.0,5\n"),
        ("UTF-16", (HEADER + "1,5,10\n1,3,20\n2,5,5\n").encode("utf-16")),
        ("gzip", gzip.compress((HEADER + "1,5,10\n1,3,20\n2,5,5\n").encode(), mtime=0)),
        ("GB18030", "user,item,标题,timestamp\n1,5,你好,10\n1,3,很好,20\n2,5,好,5\n".encode("gb18030")),
    ],
)
def test_csv_as_users_have_it(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(tmp_path, content) == [(1, 5, 10), (1, 3, 20), (2, 5, 5)]


@pytest.mark.parametrize("content", ["1\t5 3\r\n2\t5\r\n", "\ufeff1\t5 3\n2\t5", "1\t5 3 \n\n2\t5\n", "2\t5\n1\t5 3\n"])
def test_tsv_as_users_have_it(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content, "x_pairs.tsv") == [(1, 5, 0), (1, 3, 1), (2, 5, 0)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x_pairs.csv", "", r"x_pairs\.csv is empty; expected user,item,timestamp in each line"),
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
        ("x_pairs.csv", '4,8,85\r\n"', "line 2: its quotes cannot be parsed"),
        ("x_pairs.csv", HEADER + '1,5,10\n\n1,6,"11\n1,7,12\n', "line 4: its quotes cannot be parsed"),
        ("x_pairs.csv", HEADER + '1,5,10\n1,6,1"1\n', "line 3: '1\"1' is not a time"),
        ("x_pairs.csv", f"1,5,10\n{2**63},6,11\n", "line 2: '9223372036854775808' is beyond 64-bit integers"),
        ("x_pairs.tsv", f"1\t5\n2\t6 {LEAST - 1}\n", "line 2: '-9223372036854775809' is beyond 64-bit integers"),
        ("x_pairs.csv", "x" * (1 << 22), "line 1: the columns are 'x{80}\\.\\.\\.'; expected user,item,timestamp"),
        ("x_pairs.csv", HEADER + "1,5,10\n1," + "7" * (1 << 22) + ",10\n", r"line 3: '7{80}\.\.\.' is beyond"),
        ("x_pairs.csv", HEADER + "1,\x1b]0;title\x07,5\n", "line 2: ' ]0;title ' holds control characters"),
        ("x_pairs.csv", HEADER + "1,5,1\x000\n", "line 2: a NUL byte; accepted is text in UTF-8, UTF-16"),
        ("x_pairs.csv", HEADER + "1,5,10,\n", "line 2: 4 columns instead of 3"),
        ("x_pairs.csv", HEADER + "1,5,10\n\uff11,5,10\n", "line 3: '\uff11' is not an integer"),
        ("x_pairs.csv", "user,item\n1,5\n", "line 1: the columns are 'user,item'; expected user,item,timestamp"),
        ("x_pairs.csv", f"0,1,2\n1,5,{10**12}\n", "line 1: '0,1,2' are column numbers"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, content, name)
    assert str(caught.value).isprintable()
    assert str(tmp_path / name) in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


ARABIC = "+08:00".translate({ord("0"): 0x660, ord("8"): 0x668})  # digits that int() reads, and polars does not
DAY = 1_672_531_200_000  # the first of 2023, in milliseconds


@pytest.mark.parametrize(
    ("times", "milliseconds", "note"),
    [
        (("1672531200000", "1672531200001"), (DAY, DAY + 1), None),
        (("1672531200", "1672531201"), (DAY, DAY + 1000), "timestamps are seconds"),
        (("1672531200.5", "1672531201"), (DAY + 500, DAY + 1000), "timestamps are seconds"),
        (("1672531200.008", "1672531200.018"), (DAY + 8, DAY + 18), "timestamps are seconds"),
        (("1.6725312e9", "1.6725312005e+9"), (DAY, DAY + 500), "timestamps are seconds"),
        (("1.6725312e12", "1672531200001.0"), (DAY, DAY + 1), None),
        (("1672531200000000", "1672531200001999"), (DAY, DAY + 1), "timestamps are microseconds"),
        (("1672531200000000000", "1672531200001000000"), (DAY, DAY + 1), "timestamps are nanoseconds"),
        (("0", "1672531200"), (0, DAY), "timestamps are seconds"),
        (("2023-01-01T00:00:00Z", "2023-01-01T00:00:00.5Z"), (DAY, DAY + 500), "timestamps are ISO 8601, stored"),
        (("2023-01-01 00:00:00", "2023-01-02"), (DAY, DAY + 86_400_000), "ISO 8601, taken as UTC"),
        (("2023-01-01T08:00+08:00", "2022-12-31 19:00:01-0500"), (DAY, DAY + 1000), "ISO 8601, stored"),
        (("1969-12-31", "1970-01-01"), (-86_400_000, 0), "ISO 8601"),
        (("2023-01-01T23:59+23:59", "2022-12-31T00:02-2359"), (DAY, DAY + 60_000), "ISO 8601"),
        (("3", "100000"), (3, 100_000), "they are kept as they are"),
        (("3.0", "1e5"), (3, 100_000), "they are kept as they are"),
        ((str(LEAST), str(MOST)), (LEAST, MOST), "they are kept as they are"),
        ((str(LEAST), "1672531200000", str(MOST)), (LEAST, DAY, MOST), None),
    ],
)
def test_times_become_milliseconds_and_what_they_were_is_said(
    tmp_path: Path, times: tuple[str, ...], milliseconds: tuple[int, ...], note: str | None
) -> None:
    path = tmp_path / "x_pairs.csv"
    # Backwards, so that the order has to come from the times.
    path.write_text(HEADER + "".join(f"1,{-place},{time}\n" for place, time in reversed([*enumerate(times)])))
    pairs = read_pairs(path)
    assert pairs.events.rows() == [(1, -place, time) for place, time in enumerate(milliseconds)]
    assert pairs.out_of_order == len(times) - 1
    assert [note in told for told in pairs.notes] == [True] if note else pairs.notes == ()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            ("1672531200", "1672531200123"),
            "line 3: '1672531200123' is a time in milliseconds, '1672531200' above one in s",
        ),
        (("2023-01-01", "1672531200"), "line 3: '1672531200' has another format than '2023-01-01' above"),
        (("2023-01-01T00:00:00Z", "2023-01-01T00:00:00"), "line 3: '2023-01-01T00:00:00' has a time zone, or has none"),
        (("2023-01-01", "2023-02-30"), "line 3: '2023-02-30' is not a time"),
        *(
            (
                ("2023-01-01T08:00:00-23:59", f"2023-01-01T08:00:00{zone}"),
                rf"line 3: '2023-01-01T08:00:00{re.escape(zone)}' has an impossible time zone",
            )
            for zone in ("+25:00", "+24:00", "-24", "+99:99", "+0060", " +00:75", "-23:60")
        ),
        (
            ("31/12/2023",),
            "line 2: '31/12/2023' is not a time; expected times in one format: whole or decimal numbers",
        ),
        *(
            (("2023-01-01T08:00:00Z", time), "line 3: '.*' is not a time")
            for time in (f"2023-01-01T08:00:00{ARABIC}", f"2023-01-01T08:00:00.{ARABIC[1]}Z", ARABIC[1:3] * 5)
        ),
        (("5.5", f"5.{ARABIC[2]}"), "line 3: '.*' is not a time"),
        (("5", ""), "line 3: '' is not a time"),
        (("5", "0.25"), "line 3: '0.25' is a fraction in no unit since 1989; write such times as whole numbers"),
        (("nan", "5"), "line 2: 'nan' is not a time"),
        (("1e30", "5"), "line 2: '1e30' is beyond 64-bit integers"),
        (("18446744073709551615",), "line 2: '18446744073709551615' is beyond 64-bit integers"),
        (("1672531200", str(MOST)), "line 3: '9223372036854775807' is beyond 64-bit milliseconds"),
    ],
)
def test_times_that_do_not_go_together_are_refused(tmp_path: Path, times: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, HEADER + "".join(f"1,{place},{time}\n" for place, time in enumerate(times)))


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x_pairs.csv").write_text(",user_id,item_id,rating,timestamp\n0,1,2,4.5,1672531200000\n")
    pairs = read_pairs(tmp_path / "x_pairs.csv")
    assert pairs.events.rows() == [(1, 2, DAY)]
    assert pairs.notes == ("x_pairs.csv: columns not read: without a name, rating",)


@pytest.mark.parametrize("header", ["", HEADER])
def test_ids_and_times_to_the_ends_of_64_bits(tmp_path: Path, header: str) -> None:
    lines = [f"{MOST},{LEAST},5", f"{LEAST},{MOST},{MOST}", f"{LEAST},7,{LEAST}", f"{LEAST},8,0"]
    path = tmp_path / "x_pairs.csv"
    path.write_text(header + "\n".join(lines))
    pairs = read_pairs(path)
    assert pairs.events.rows() == [(LEAST, 7, LEAST), (LEAST, 8, 0), (LEAST, MOST, MOST), (MOST, LEAST, 5)]
    assert pairs.out_of_order == 1
    interactions = interactions_of_pairs(pairs)
    assert interactions.user_ids.tolist() == [LEAST, MOST]
    assert interactions.item_ids.tolist() == [0, LEAST, 7, 8, MOST]
    assert interactions.items.tolist() == [2, 3, 4, 1]
    assert interactions.offsets.tolist() == [0, 3, 4]


def test_lines_of_one_user_follow_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x_pairs.tsv"
    path.write_text("1\t100 101\n2\t100 103\n1\t105 100 102\n0\t9\n1\t104\n")
    pairs = read_pairs(path)
    of_first = [(1, 100, 0), (1, 101, 1), (1, 105, 2), (1, 102, 3), (1, 104, 4)]
    assert pairs.events.rows() == [(0, 9, 0), *of_first, (2, 100, 0), (2, 103, 1)]
    assert (pairs.repeated, pairs.out_of_order) == (1, 0)
    assert pairs.notes == ("x_pairs.tsv: lines of a user who had one before, appended to it: 2",)


TIMES: dict[str, Callable[[int], str]] = {
    "milliseconds": str,
    "decimal milliseconds": lambda time: f"{time}.0",
    "seconds": lambda time: f"{time // 1000}.{time % 1000:03d}",
    "microseconds": lambda time: str(1000 * time),
    "nanoseconds": lambda time: str(1_000_000 * time),
    "scientific": lambda time: f"{time:.12e}",
    "ISO 8601": lambda time: datetime.fromtimestamp(time / 1000, UTC).isoformat(),
}
INTEGERS = st.integers(LEAST, MOST)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.tuples(INTEGERS, INTEGERS, st.integers(700_000_000_000, 4_000_000_000_000)),
        min_size=1, max_size=12, unique_by=lambda event: event[:2],
    ),
    order=st.permutations(["user_id", "item_id", "timestamp", "title"]),
    separator=st.sampled_from(",;\t|"),
    quoted=st.booleans(),
    title=st.sampled_from(["plain", "", "你好", "two, with; all\tof | them", 'a "quoted" one']),
    time=st.sampled_from(sorted(TIMES)),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    packed=st.booleans(),
)  # fmt: skip
def test_a_table_reads_back_however_it_is_written(
    tmp_path: Path, events: Events, order: list[str], separator: str, quoted: bool, title: str, time: str,
    line_end: str, encoding: str, packed: bool,
) -> None:  # fmt: skip
    def written(value: str) -> str:
        needs_quotes = quoted or any(letter in value for letter in f'{separator}"')
        return '"' + value.replace('"', '""') + '"' if needs_quotes else value

    rows = [dict(zip(order, order, strict=True))]
    rows += [
        {"user_id": str(user), "item_id": str(item), "timestamp": TIMES[time](at), "title": title}
        for user, item, at in events
    ]
    text = line_end.join(separator.join(written(row[name]) for name in order) for row in rows)
    content = text.encode(encoding)
    found = read(tmp_path, gzip.compress(content) if packed else content)
    assert found == sorted(events, key=lambda event: (event[0], event[2]))


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
    interactions = interactions_of_pairs(read_pairs(tmp_path / "x_pairs.tsv"))
    assert interactions.user_ids.tolist() == [-3, 10]
    assert interactions.item_ids.tolist() == [0, 5, 7, 900]
    assert interactions.items.tolist() == [2, 3, 3, 1]
    assert interactions.offsets.tolist() == [0, 2, 4]


def test_interactions_equal_a_loop_over_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(1, 30, 500), rng.integers(1, 50, 500), rng.integers(0, 10_000, 500)])
    pl.DataFrame(rows, schema=["user", "item", "timestamp"]).write_csv(tmp_path / "x_pairs.csv")
    interactions = interactions_of_pairs(read_pairs(tmp_path / "x_pairs.csv"))
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
    assert release.videos == (tmp_path / "MicroLens-1k_videos",)
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
