"""Events sorted on disk: the same at every size of blocks, runs and parts, and as a loop sorts them."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.errors import InputError
from microlens.release.pairs import Pairs, open_events, pairs_of, read_pairs
from microlens.release.sorted_events import LEAST_MEMORY, SortedEvents, rows_within

HEADER = "user,item,timestamp\n"
SIZES = [(8, 3), (40, 7), (64, 20), (1 << 20, 5), (30, 1 << 20)]
Row = tuple[Any, Any, int]


def sort_in_a_loop(rows: list[Row]) -> tuple[list[Row], int, int]:
    """The sorted events, the number of repeated and of misplaced ones."""
    ordered, repeated, misplaced = [], 0, 0
    for user in sorted({row[0] for row in rows}):
        of_user = [row for row in rows if row[0] == user]
        misplaced += sum(before[2] > after[2] for before, after in pairwise(of_user))
        seen = set()
        for row in sorted(of_user, key=lambda row: row[2]):
            if row[1] in seen:
                repeated += 1
            else:
                seen.add(row[1])
                ordered.append(row)
    return ordered, repeated, misplaced


def assert_same(one: Pairs, other: Pairs) -> None:
    assert one.events.equals(other.events)
    assert one.events.schema == other.events.schema
    assert (one.repeated, one.out_of_order, one.notes) == (other.repeated, other.out_of_order, other.notes)
    for ids, others in ((one.user_ids, other.user_ids), (one.item_ids, other.item_ids)):
        assert (ids is None) == (others is None)
        assert ids is None or others is None or ids.to_list() == others.to_list()


def assert_same_at_all_sizes(path: Path) -> Pairs:
    whole = read_pairs(path)
    for block_bytes, rows in SIZES:
        assert_same(pairs_of(open_events(path, block_bytes), rows), whole)
    return whole


integers = st.integers(-3, 6) | st.sampled_from([-(2**63), 2**63 - 1, 10**15])
texts = st.text(st.sampled_from("aB\u4f60z"), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.tuples(st.booleans(), st.booleans()).flatmap(
        lambda text: st.lists(
            st.tuples(texts if text[0] else integers, texts if text[1] else integers, st.integers(0, 4)),
            min_size=1,
            max_size=40,
        )
    ),
    sizes=st.sampled_from(SIZES),
)
def test_events_are_those_of_a_loop(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], sizes: tuple[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "x_pairs.csv"
    path.write_text(HEADER + "".join(f"{user},{item},{time}\n" for user, item, time in rows))
    ordered, repeated, misplaced = sort_in_a_loop(rows)
    pairs = pairs_of(open_events(path, sizes[0]), sizes[1])
    assert pairs.with_ids().rows() == ordered
    assert (pairs.repeated, pairs.out_of_order) == (repeated, misplaced)


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(
        st.tuples(st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=6)), min_size=1, max_size=12
    ),
    sizes=st.sampled_from(SIZES),
)
def test_sequences_are_those_of_a_loop(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, list[int]]], sizes: tuple[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "x_pairs.tsv"
    path.write_text("".join(f"{user}\t{' '.join(map(str, items))}\n" for user, items in lines))
    sequences: dict[int, list[int]] = {}
    for user, items in lines:
        sequences.setdefault(user, []).extend(items)
    kept = {user: list(dict.fromkeys(items)) for user, items in sequences.items()}
    rows = [(user, item, position) for user, items in kept.items() for position, item in enumerate(items)]
    pairs = pairs_of(open_events(path, sizes[0]), sizes[1])
    assert pairs.events.rows() == sorted(rows, key=lambda row: (row[0], row[2]))
    assert pairs.repeated == sum(map(len, sequences.values())) - len(rows)
    again = len(lines) - len(sequences)
    assert pairs.notes == (
        (f"x_pairs.tsv: lines of a user who had one before, appended to it: {again}",) if again else ()
    )


DAY = 1_672_531_200
TWO_LINES = '"two\nlines"'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "decimal times begin late",
            HEADER + "".join(f"{n % 7},{n},{DAY + n}\n" for n in range(60)) + f"1,99,{DAY}.5\n",
        ),
        ("ISO 8601", HEADER + "".join(f"{n % 7},{n},2023-01-{n % 28 + 1:02}T00:00:00Z\n" for n in range(60))),
        ("quotes begin late", HEADER + "".join(f"{n % 7},{n},{DAY}\n" for n in range(60)) + f'1,"99","{DAY}"\n2,9,5\n'),
        (
            "quoted line breaks",
            "user,title,item,timestamp\n"
            + "".join(f'{n % 7},"a ""title""\n\nof several, lines\n",{n},{DAY + n}\n' for n in range(40)),
        ),
        (
            "some quoted line breaks",
            "user,title,item,timestamp\n"
            + "".join(f"{n % 7},{TWO_LINES if n % 5 == 0 else 'one'},{n},{DAY + n}\n" for n in range(40)),
        ),
        ("blank lines", "\n\n" + HEADER + "".join(f"\n{n % 7},{n},{DAY}\n\n" for n in range(40))),
        ("CRLF", HEADER + "".join(f"{n % 7},{n},{DAY}\r\n" for n in range(40))),
        ("text ids", HEADER + "".join(f"u{n * 7 % 11},v{n * 5 % 13},{DAY + n % 3}\n" for n in range(80))),
        ("Chinese in GB18030", HEADER + "".join(f"用户{n % 7},视频{n},{DAY}\n" for n in range(40))),
        ("long ids", HEADER + "".join(f"{'u' * 300}{n % 7},{n},{DAY}\n" for n in range(20))),
        ("one user", HEADER + "".join(f"1,{n},{DAY - n}\n" for n in range(60))),
        ("already sorted", HEADER + "".join(f"{n // 6},{n},{DAY + n}\n" for n in range(60))),
        ("numbers in two ways", HEADER + "".join(f"{n % 7}.0,{n},{DAY}\n{n % 7},{n + 1},{DAY}.0\n" for n in range(30))),
    ],
)  # fmt: skip
def test_tables_are_the_same_at_all_sizes(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "x_pairs.csv"
    path.write_bytes(content.encode("gb18030" if "GB18030" in name else "utf-8"))
    assert len(assert_same_at_all_sizes(path).events) > 15


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1,2\n", "line 42: 2 columns instead of 3"),
        (f"1,x,{DAY}\n", "line 42: 'x' is not an integer"),
        (f"1,2,{DAY}000\n", f"line 42: '{DAY}000' is a time in milliseconds, '{DAY}' above one in seconds"),
        ("1,2,yesterday\n", "line 42: 'yesterday' is not a time"),
        ("1,2,2023-01-01\n", f"line 42: '2023-01-01' has another format than '{DAY}' above"),
        (f'1,"2,{DAY}\n', "line 42: its quotes cannot be parsed"),
        (f"1,2,{2**63}\n", f"line 42: '{2**63}' is beyond 64-bit integers"),
        (f"1,2,{2**62}\n", f"line 42: '{2**62}' is beyond 64-bit milliseconds"),
        (f"1,2,{2**63 - 1}\n1,3,0.5\n", "line 42: '9223372036854775807' is beyond 64-bit integers"),
    ],
)
def test_messages_are_the_same_at_all_sizes(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "x_pairs.csv"
    around = "".join(f"{n % 7},{n},{DAY}\n" for n in range(40))
    path.write_text(HEADER + around + lines + around.replace(",", ",1", 1))
    for sizes in [(1 << 20, 1 << 20), *SIZES]:
        with pytest.raises(InputError, match=message):
            pairs_of(open_events(path, sizes[0]), sizes[1])


@pytest.mark.parametrize("content", ["user\titem\n", "name\tthing\n1\t2 3\n"])
def test_headers_of_sequences_are_seen_at_all_sizes(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x_pairs.tsv"
    path.write_text(content + "".join(f"{n}\t4 5\n" for n in range(5, 30)))
    for sizes in SIZES:
        if content.startswith("user"):
            assert pairs_of(open_events(path, sizes[0]), sizes[1]).text_ids.user is False
            continue
        with pytest.raises(InputError, match="line 1: the columns are 'name thing'"):
            pairs_of(open_events(path, sizes[0]), sizes[1])


def test_parts_hold_no_more_events_than_they_may(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    users = np.where(rng.random(5000) < 0.3, 7, rng.integers(0, 400, 5000))  # one has more than fit in a part
    rows = pl.DataFrame({"user": users, "item": rng.integers(0, 50, 5000), "timestamp": rng.integers(0, 99, 5000)})
    rows.write_csv(tmp_path / "x_pairs.csv")
    for block_bytes, most in ((1000, 300), (1 << 20, 500)):
        ordered = SortedEvents(open_events(tmp_path / "x_pairs.csv", block_bytes), tmp_path, most)
        parts = list(ordered.parts())
        counts = [len(part.items) + part.repeated for part in parts]
        assert sum(counts) == ordered.num_events == 5000
        assert all(count <= most for part, count in zip(parts, counts, strict=True) if 7 not in part.user_ids)
        assert len(parts) < 4 * 5000 / most
        ends = [(part.user_ids[0], part.user_ids[-1]) for part in parts]
        assert all(one[1] < other[0] for one, other in pairwise(ends))


def test_events_read_twice_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "x_pairs.csv").write_text(HEADER + "".join(f"{n % 5},{n % 9},{n % 4}\n" for n in range(50)))
    ordered = SortedEvents(open_events(tmp_path / "x_pairs.csv", 64), tmp_path, 10)
    first, second = ([part.items.tolist() for part in ordered.parts()] for _ in range(2))
    assert first == second
    assert ordered.notes == [
        "x_pairs.csv: timestamps are no times since 1989 in seconds to nanoseconds; they are kept as they are"
    ]


def test_texts_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"u{n * 7 % 11}", f"v{n * 5 % 13}", n % 3) for n in range(80)]
    (tmp_path / "x_pairs.csv").write_text(HEADER + "".join(f"{user},{item},{time}\n" for user, item, time in rows))
    monkeypatch.setattr(pl.Series, "hash", lambda self: self.str.len_bytes().cast(pl.UInt64))
    pairs = pairs_of(open_events(tmp_path / "x_pairs.csv"), 30)
    assert pairs.with_ids().rows() == sort_in_a_loop(rows)[0]


def test_memory_bounds_the_number_of_events() -> None:
    assert 0 < rows_within(LEAST_MEMORY) < rows_within(2 * LEAST_MEMORY)
    assert rows_within(LEAST_MEMORY) <= rows_within(None)
    with pytest.raises(InputError, match="memory is 10 MB; sorting interactions needs 500 MB or more"):
        rows_within(10_000_000)
