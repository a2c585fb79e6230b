"""Filters keep what their definitions keep, in their order."""

import shutil
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microlens as ml
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.release.whole_release import read_release
from microlens.subsets.filtering import Filter
from microlens.subsets.k_core import k_core
from microlens.subsets.sampling import sample_users
from tests.data.test_prepare import run_command
from tests.reference.filter_loop import Row, core_loop, filter_loop

PAIRS = [(user, item, 1_600_000_000_000 + 1000 * row) for row, (user, item) in enumerate(
    [(1, 10), (1, 11), (1, 12), (2, 10), (2, 11), (2, 13), (3, 10), (3, 11), (4, 14)]
)]  # fmt: skip


def rows_of(events: pl.DataFrame) -> list[Row]:
    return [tuple(row) for row in events.select("user", "item", "timestamp").rows()]


events_drawn = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 30)),
    min_size=1,
    max_size=60,
    unique_by=lambda e: e[:2],
)


@settings(max_examples=200, deadline=None)
@given(events_drawn, st.integers(1, 4), st.integers(1, 4))
def test_the_k_core_equals_the_loop_twin(rows: list[Row], user_core: int, item_core: int) -> None:
    users, items = (np.array([row[place] for row in rows]) for place in (0, 1))
    kept, _ = k_core(users, items, user_core, item_core)
    assert [row for row, stays in zip(rows, kept, strict=True) if stays] == core_loop(rows, user_core, item_core)


def test_the_k_core_takes_several_rounds() -> None:
    chain = [(user, item) for user in range(6) for item in (user, user + 1)]
    users, items = map(np.array, zip(*chain, strict=True))
    kept, rounds = k_core(users, items, 2, 2)
    assert (not kept.any(), rounds) == (True, 4)
    square = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    kept, rounds = k_core(*square, 2, 2)
    assert (kept.all(), rounds) == (True, 0)


@settings(max_examples=200, deadline=None)
@given(
    events_drawn,
    st.one_of(st.none(), st.integers(0, 30)),
    st.one_of(st.none(), st.integers(0, 30)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_all_conditions_equal_the_loop_twin(
    rows: list[Row], start: int | None, end: int | None, warm: int, length: int, user_core: int, item_core: int
) -> None:
    if (start, end, warm, length, user_core, item_core) == (None, None, 1, 1, 1, 1):
        warm = 2
    conditions = Filter(
        start=None if start is None else str(start),
        end=None if end is None else str(end),
        warm=warm,
        min_length=length,
        user_core=user_core,
        item_core=item_core,
    )
    left, steps = conditions.steps(pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row"))
    assert rows_of(left) == filter_loop(rows, start, end, warm, length, user_core, item_core)
    assert (steps[0].interactions, steps[-1].interactions) == (len(rows), len(left))


def test_text_ids_are_counted_like_integers() -> None:
    rows = [("b", "x", 1), ("a", "x", 2), ("a", "y", 3)]
    left, _ = Filter(warm=2).steps(pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row"))
    assert left.rows() == rows[:2]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    (folder / "set_covers").mkdir(parents=True)
    (folder / "set_pairs.csv").write_text("user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in PAIRS))
    (folder / "set_titles.csv").write_text('item,title\n10,"ten, or so"\n12,twelve\n99,none\n')
    (folder / "set_likes_and_views.txt").write_text("10\t5\t6\n12\t7\t8\n")
    (folder / "set_comment_en.txt").write_text('1\t10\tsaid "so"\n4\t14\tnothing\n')
    (folder / "set_split.csv").write_text("user,item,split\n" + "".join(f"{u},{i},{u % 3}\n" for u, i, _ in PAIRS))
    for name in ("10.jpg", "11.png", "12.jpg", "14.jpg", "99.jpg", "notes.txt"):
        (folder / "set_covers" / name).write_bytes(name.encode())
    return folder


def test_titles_of_every_language_are_kept(release: Path, tmp_path: Path) -> None:
    (release / "set_title_en.csv").write_text("item,title\n10,ten\n11,eleven\n12,twelve\n")
    (release / "other_titles.csv").write_text("item,title\n10,another ten\n")
    done = ml.filter_release(release, tmp_path / "out", user_core=2, item_core=2)
    titles = read_release(tmp_path / "out").titles
    assert titles is not None
    assert titles.sort("item").select("item", "title", "title_en", "title_original").rows() == [
        ("10", "ten", "ten", "ten, or so"),
        ("11", "eleven", "eleven", None),
    ]
    assert any("other_titles.csv is left out" in note for note in done.notes)


def test_side_tables_and_media_are_those_of_the_items_left(release: Path, tmp_path: Path) -> None:
    done = ml.filter_release(release, tmp_path / "out", user_core=2, item_core=2)
    assert [step.interactions for step in done.steps] == [9, 6]
    tables = read_release(tmp_path / "out")
    assert tables.events.select("user", "item", "split").rows() == [(u, i, u % 3) for u in (1, 2, 3) for i in (10, 11)]
    assert tables.titles is not None
    assert tables.titles.rows() == [("10", "ten, or so")]
    assert tables.likes is not None
    assert tables.likes.rows() == [("10", 5, 6)]
    assert tables.comments is not None
    assert tables.comments.rows() == [("1", "10", 'said "so"')]
    assert sorted(path.name for path in (tmp_path / "out" / "covers").iterdir()) == ["10.jpg", "11.png"]
    assert (tmp_path / "out" / "covers" / "11.png").samefile(release / "set_covers" / "11.png")
    assert done.media == 2


def test_media_are_copied_where_there_are_no_links(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    ml.filter_release(release, tmp_path / "out", warm=2)
    copy = tmp_path / "out" / "covers" / "11.png"
    assert copy.read_bytes() == b"11.png"
    assert not copy.samefile(release / "set_covers" / "11.png")


def test_new_ids_are_numbers_and_the_former_ones_are_kept(release: Path, tmp_path: Path) -> None:
    ml.filter_release(release, tmp_path / "out", user_core=2, renumber=True)
    tables = read_release(tmp_path / "out")
    assert tables.events.select("user", "item").rows() == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (2, 4),
        (3, 1),
        (3, 2),
    ]
    assert tables.titles is not None
    assert tables.titles.rows() == [("1", "ten, or so"), ("3", "twelve")]
    former = pl.read_csv(tmp_path / "out" / "set_item_ids.csv")
    assert former.rows() == [(1, 10), (2, 11), (3, 12), (4, 13)]
    assert sorted(path.name for path in (tmp_path / "out" / "covers").iterdir()) == ["1.jpg", "2.png", "3.jpg"]
    shutil.rmtree(tmp_path / "out" / "covers")
    assert prepare(tmp_path / "out", tmp_path / "dataset").interactions.num_users == 3


def test_a_release_without_times_stays_one(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "x_pairs.tsv").write_text("2\t30 10 20\n1\t10 20\n")
    ml.filter_release(tmp_path / "release", tmp_path / "out", warm=2)
    assert (tmp_path / "out" / "x_pairs.tsv").read_text() == "1\t10 20\n2\t10 20\n"
    with pytest.raises(InputError, match="no timestamps, so it has no time window"):
        ml.filter_release(tmp_path / "release", tmp_path / "window", start="2020-01-01")


def test_a_time_window_is_given_in_iso_8601_too(release: Path, tmp_path: Path) -> None:
    ml.filter_release(release, tmp_path / "out", start="2020-09-13T12:26:42Z", end="1600000005")
    assert [time for _, _, time in rows_of(read_release(tmp_path / "out").events)] == [
        1_600_000_000_000 + 1000 * second for second in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2020, 9, 13, 12, 26, 42, tzinfo=UTC), datetime(2020, 9, 13, 12, 26, 45, tzinfo=UTC)),
        (datetime(2020, 9, 13, 12, 26, 42), datetime(2020, 9, 13, 12, 26, 45)),
        (datetime(2020, 9, 13, 12, 26, 41, 999_000, UTC), datetime(2020, 9, 13, 12, 26, 44, 1000, UTC)),
        (
            datetime(2020, 9, 13, 20, 26, 42, tzinfo=timezone(timedelta(hours=8))),
            datetime(2020, 9, 13, 7, 26, 45, tzinfo=timezone(timedelta(hours=-5))),
        ),
        (1_600_000_002, 1_600_000_004.5),
        (np.int64(1_600_000_002_000), np.float64(1_600_000_004.5)),
        ("1600000002", datetime(2020, 9, 13, 12, 26, 45, tzinfo=UTC)),
    ],
)
def test_a_time_window_is_given_in_any_form(release: Path, tmp_path: Path, start: Any, end: Any) -> None:
    ml.filter_release(release, tmp_path / "out", start=start, end=end)
    assert [time for _, _, time in rows_of(read_release(tmp_path / "out").events)] == [
        1_600_000_000_000 + 1000 * second for second in (2, 3, 4)
    ]


def test_a_time_window_of_dates_and_of_pandas(release: Path, tmp_path: Path) -> None:
    ml.filter_release(release, tmp_path / "day", start=date(2020, 9, 13), end=date(2020, 9, 14))
    assert len(read_release(tmp_path / "day").events) == len(PAIRS)
    with pytest.raises(InputError, match=r"nothing of .* is left after the step 'from 2020-09-14'"):
        ml.filter_release(release, tmp_path / "later", start=date(2020, 9, 14))
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make setup)")
    ml.filter_release(release, tmp_path / "out", start=pandas.Timestamp("2020-09-13 12:26:46"))
    assert len(read_release(tmp_path / "out").events) == 3
    with pytest.raises(InputError, match="start=NaT is not a time"):
        ml.filter_release(release, tmp_path / "missing", start=pandas.NaT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no condition is given that could remove anything; name start, end, or a number above 1 for warm"),
        ({"warm": 1, "user_core": 1}, "no condition is given that could remove anything"),
        ({"start": [2020]}, r"start=\[2020\] is not a time; accepted are dates, datetimes, and times in one format"),
        ({"start": True}, "start=True is not a time"),
        ({"end": float("nan")}, "end='nan' is not a time"),
        ({"warm": 0}, "warm is 0; it must be at least 1"),
        ({"start": "yesterday"}, "start='yesterday' is not a time"),
        ({"start": "2020-01-01T00:00+25:00"}, "start='.*' has an impossible time zone"),
        ({"end": "2020-01-01T00:00-00:60"}, "end='.*' has an impossible time zone"),
        ({"user_core": 4}, "nothing of .* is left after the step 'users with 4"),
    ],
)
def test_what_is_refused(release: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ml.filter_release(release, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_nothing_is_written_over(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out exists already"):
        ml.filter_release(release, tmp_path / "out", warm=2)


@settings(max_examples=50, deadline=None)
@given(events_drawn, st.integers(0, 5))
def test_sampled_users_are_whole(rows: list[Row], seed: int) -> None:
    events = pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row")
    count = max(1, events["user"].n_unique() // 2)
    left = rows_of(sample_users(events, count, seed))
    drawn = {user for user, _, _ in left}
    assert len(drawn) == count
    assert left == [row for row in rows if row[0] in drawn]
    assert left == rows_of(sample_users(events, count, seed))


def test_every_user_is_drawn_alike() -> None:
    events = pl.DataFrame({"user": range(10), "item": range(10), "timestamp": range(10)})
    drawn = Counter(user for seed in range(400) for user in sample_users(events, 3, seed)["user"])
    assert all(80 <= drawn[user] <= 160 for user in range(10))
    with pytest.raises(InputError, match="users is 11; the release has 10 users"):
        sample_users(events, 11, 0)


def test_the_commands(release: Path, tmp_path: Path) -> None:
    status, out, _ = run_command("data", "filter", release, tmp_path / "core", "--k-core", 2, "--min-length", 2)
    assert status == 0
    assert "release: 4 users, 5 items, 9 interactions\nusers with 2 or more interactions, once: 3 users, 4 items" in out
    assert "users with 2 and items with 2 or more, 1 rounds: 3 users, 2 items, 6 interactions" in out
    status, out, _ = run_command("data", "sample", release, tmp_path / "few", "--users", 2)
    assert "2 users drawn at random, seed 0: 2 users" in out
    assert "Next: microlens data prepare" in out
    for conditions, sentence in (
        ((), "no condition is given that could remove anything; name --from, --to, or a number above 1 for --warm, "
             "--min-length, --k-core, --user-core or --item-core."),
        (("--warm", 1, "--k-core", 1), "no condition is given that could remove anything; name --from, --to, or a "),
        (("--from", "2024-13-01"), "microlens: --from '2024-13-01' is not a time; accepted are times in one format"),
        (("--to", "soon"), "microlens: --to 'soon' is not a time; accepted are"),
        (("--to", ""), "microlens: --to '' is not a time; accepted are"),
    ):  # fmt: skip
        status, _, error = run_command("data", "filter", release, tmp_path / "none", *conditions)
        assert (status, sentence in error) == (2, True), error
    status, _, error = run_command("data", "filter", release, tmp_path / "both", "--k-core", 2, "--user-core", 2)
    assert (status, "--k-core is given beside" in error) == (2, True)
