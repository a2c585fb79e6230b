"""Releases made of what people did in a feed."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microlens
from microlens.errors import InputError
from microlens.feed.feedback_records import positive_items
from microlens.feed.person import Person, replay
from microlens.feed.schema import ITEMS
from microlens.feed.settings import FeedbackSettings
from microlens.release.whole_release import read_release
from tests.feed.conftest import ITEMS as NUM_ITEMS
from tests.feed.records import LIKED, SHOWN, SKIPPED, WATCHED, Records, did

USERS = 30  # of the release of the world


def pairs(folder: Path) -> list[list[str]]:
    (path,) = folder.glob("*_pairs.csv")
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def test_positive_items_become_interactions_at_the_time_they_became_positive(
    records: Records, store_url: str, tmp_path: Path
) -> None:
    records.show("ann", "5", WATCHED, second=1)
    records.show("ann", "7", SKIPPED, second=2)
    records.show("bob", "7", LIKED, did("comment", text="so\tgood\nthis"), second=3)
    records.show("ann", "3", did("favourite"), did("not-interested"), second=4)
    records.show("bob", "9", LIKED, did("unlike"), did("like", at=SHOWN + 5500), second=5)
    done = microlens.release_from_events(store_url, tmp_path / "out")  # the server goes on writing meanwhile
    assert pairs(tmp_path / "out") == [
        ["1", "5", str(SHOWN + 1000)],
        ["2", "7", str(SHOWN + 3000)],
        ["2", "9", str(SHOWN + 5500)],
    ]
    assert (tmp_path / "out/feed_comment_en.txt").read_text(encoding="utf-8") == "2\t7\tso good this\n"
    assert (tmp_path / "out/feed_likes_and_views.txt").read_text(encoding="utf-8").split("\n")[:2] == [
        "7\t1\t0",
        "9\t1\t0",
    ]
    assert (done.users, done.items, done.interactions, done.from_feed, done.comments, done.media) == (2, 3, 3, 3, 1, 0)


def test_ids_of_people_are_left_out_unless_they_are_asked_for(records: Records, store_url: str, tmp_path: Path) -> None:
    records.show("secret-person", "5", LIKED, did("comment", text="hello"))
    microlens.release_from_events(store_url, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert "secret-person" not in path.read_text(encoding="utf-8"), path
    microlens.release_from_events(store_url, tmp_path / "kept", keep_users=True)
    assert pairs(tmp_path / "kept") == [["secret-person", "5", str(SHOWN)]]


@pytest.mark.parametrize(
    ("at", "kept"), [(SHOWN - 9_000_000, SHOWN), (SHOWN + 500, SHOWN + 500), (SHOWN + 9_000_000, SHOWN + 1000)]
)
def test_a_wrong_clock_of_a_client_moves_no_time_out_of_what_is_possible(
    records: Records, store_url: str, tmp_path: Path, at: int, kept: int
) -> None:
    records.show("ann", "5", did("like", at=at))
    microlens.release_from_events(store_url, tmp_path / "out")
    assert pairs(tmp_path / "out") == [["1", "5", str(kept)]]


KINDS = ["like", "unlike", "favourite", "unfavourite", "share", "not-interested", "end", "start"]
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 4), st.integers(0, 4000)), max_size=30)


@given(EVENTS)
def test_the_interactions_of_a_person_are_the_history_that_the_feed_reads(events: list[tuple[str, int, int]]) -> None:
    rows = [
        {
            "session": "s", "person": "ann", "item": str(item), "kind": kind, "watched_ms": watched,
            "duration_ms": 4000, "text": None, "at": SHOWN + number, "shown": SHOWN, "received": SHOWN + number,
        }
        for number, (kind, item, watched) in enumerate(events)
    ]  # fmt: skip
    person = Person("ann", None, FeedbackSettings())
    replay(person, [], rows, int)
    found, _ = positive_items(rows, FeedbackSettings())
    assert [int(item) for item in found["item"]] == person.history


def test_a_merged_release_holds_both_and_can_be_prepared(
    world: Path, records: Records, store_url: str, tmp_path: Path
) -> None:
    (tmp_path / "new.mp4").write_bytes((world / "release/videos/1.mp4").read_bytes())
    upload = {"item": "900", "title": "A new one", "tag": "music", "path": str(tmp_path / "new.mp4"), "created": SHOWN}
    records.store.add(ITEMS, cover=None, person="bob", width=256, height=144, duration_ms=2500, **upload).result()
    for number, item in enumerate(("4", "2", "900")):
        records.show("bob", item, LIKED, did("start"), second=number)
    records.show("bob", "777", LIKED)
    done = microlens.release_from_events(store_url, tmp_path / "out", release=world / "release", merge=True)
    before, after = read_release(world / "release"), read_release(tmp_path / "out")
    assert after.events.head(len(before.events)).equals(before.events)
    added = after.events.tail(-len(before.events))
    assert added.rows() == [(USERS + 1, item, SHOWN + 1000 * n) for n, item in enumerate((4, 2, 900))]
    assert (done.users, done.from_feed, done.unknown, done.media) == (USERS + 1, 3, 1, 3 * NUM_ITEMS + 1)
    likes = {row["item"]: row for row in _likes(before).iter_rows(named=True)}
    for row in _likes(after).filter(pl.col("item") != "900").iter_rows(named=True):
        own = int(row["item"] in ("4", "2"))
        former = likes[row["item"]]
        assert (row["likes"], row["views"]) == (former["likes"] + own, former["views"] + own)
    prepared = microlens.prepare(tmp_path / "out", tmp_path / "dataset", workers=1)
    titles = dict(prepared.items.select("item_id", "title").iter_rows())
    assert titles[900] == "A new one"
    assert len(titles) == NUM_ITEMS + 1


def _likes(tables: Any) -> pl.DataFrame:
    found: pl.DataFrame = tables.likes
    return found


def test_without_merging_only_the_feed_is_in_it(world: Path, records: Records, store_url: str, tmp_path: Path) -> None:
    records.show("bob", "4", LIKED)
    done = microlens.release_from_events(store_url, tmp_path / "out", release=world / "release")
    assert pairs(tmp_path / "out") == [["1", "4", str(SHOWN)]]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/*")) == [
        "covers/4.jpg", "sounds/4.m4a", "videos/4.mp4",
    ]  # fmt: skip
    assert done.media == 3


def test_what_cannot_be_written_is_said_and_nothing_is_left(
    world: Path, records: Records, store_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="holds no positive feedback"):
        microlens.release_from_events(store_url, out)
    records.show("ann", "777", LIKED)
    with pytest.raises(InputError, match="holds no positive feedback on known items"):
        microlens.release_from_events(store_url, out, release=world / "release")
    records.show("ann", "4", LIKED)
    with pytest.raises(InputError, match="are integers"):
        microlens.release_from_events(store_url, out, release=world / "release", merge=True, keep_users=True)
    with pytest.raises(InputError, match="name it with --release"):
        microlens.release_from_events(store_url, out, merge=True)
    with pytest.raises(InputError, match="is no event store"):
        microlens.release_from_events(str(tmp_path / "none.sqlite"), out)
    (tmp_path / "other.sqlite").write_bytes(b"text" * 1000)
    with pytest.raises(InputError, match="cannot be read: file is not a database"):
        microlens.release_from_events(str(tmp_path / "other.sqlite"), out)
    (tmp_path / "empty.sqlite").write_bytes(b"")
    with pytest.raises(InputError, match="has the schema of no event store"):
        microlens.release_from_events(str(tmp_path / "empty.sqlite"), out)
    assert not list(tmp_path.glob("out*"))
