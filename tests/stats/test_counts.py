"""Figures of interactions against slow twins and worlds with known answers."""

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microlens.data.interactions import Interactions
from microlens.data.protocol import Protocol
from microlens.data.split import make_split
from microlens.stats.counts import ColdItems, Popularity, Size, Timeline
from microlens.stats.histogram import Histogram, Summary
from tests.conftest import random_sequences

Sequences = list[list[int]]


def interactions_of(sequences: Sequences, times: list[int] | None = None) -> Interactions:
    """Interactions of sequences of item numbers; without times, positions stand for them."""
    lengths = [len(sequence) for sequence in sequences]
    positions = np.concatenate([np.arange(length) for length in lengths])
    items = np.concatenate(sequences).astype(np.int32)
    return Interactions(
        offsets=np.cumsum([0, *lengths]),
        items=items,
        times=positions if times is None else np.array(times),
        user_ids=np.arange(1, len(sequences) + 1),
        item_ids=np.arange(items.max() + 1),
    )


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    drawn = random_sequences(80, 60)
    number = {item: index for index, item in enumerate(sorted({item for items in drawn for item in items}), 1)}
    return [[number[item] for item in items] for items in drawn]


def test_the_size_before_and_after_the_cut(sequences: Sequences) -> None:
    interactions = interactions_of([*sequences, [1, 2]])
    size, cut = Size.of(interactions), Size.of(make_split(interactions, Protocol()))
    lengths = [*map(len, sequences), 2]
    items = {item for sequence in sequences for item in sequence}
    assert (size.users, size.items, size.interactions) == (81, len(items), sum(lengths))
    assert size.density == sum(lengths) / (81 * len(items))
    assert size.sessions == Summary(
        number=81, mean=np.mean(lengths), median=np.median(lengths), least=2, most=max(lengths)
    )
    kept = [sequence[-13:] for sequence in sequences]
    assert (cut.users, cut.items) == (80, len({item for sequence in kept for item in sequence}))
    assert cut.interactions == sum(map(len, kept))
    assert (cut.sessions.least, cut.sessions.most) == (5, 13)


def test_popularity_is_counted_by_item(sequences: Sequences) -> None:
    found = Popularity.of(interactions_of(sequences))
    counts = sorted(Counter(item for items in sequences for item in items).values(), reverse=True)
    assert found.counts == tuple(counts[rank - 1] for rank in found.ranks)
    assert (found.ranks[0], found.ranks[-1]) == (1, len(counts))
    assert found.once == counts.count(1)
    total = sum(counts)
    assert found.top_shares == {
        "0.01": counts[0] / total,
        "0.1": sum(counts[: round(len(counts) / 10)]) / total,
        "0.2": sum(counts[: round(len(counts) / 5)]) / total,
    }
    differences = sum(abs(one - other) for one in counts for other in counts)
    assert found.gini == pytest.approx(differences / (2 * len(counts) * total))


def test_equally_popular_items_have_gini_0() -> None:
    assert Popularity.of(interactions_of([[1, 2, 3], [3, 2, 1]])).gini == 0


def test_cold_targets_are_those_of_items_without_training(sequences: Sequences) -> None:
    sequences = [items if user % 7 else [*items[:-1], 100 + user % 3] for user, items in enumerate(sequences)]
    numbers = {item: index for index, item in enumerate(sorted({i for items in sequences for i in items}), 1)}
    kept = [[numbers[item] for item in items][-13:] for items in sequences]
    found = ColdItems.of(make_split(interactions_of(kept), Protocol()))
    trained = {item for items in kept for item in items[:-2]}
    counts = Counter(item for items in kept for item in items)
    assert found.unseen == len(counts.keys() - trained) > 0
    cold = {"valid": [items[-2] not in trained for items in kept], "test": [items[-1] not in trained for items in kept]}
    assert found.targets == {part: len(kept) for part in cold}
    assert found.cold == {part: sum(are) for part, are in cold.items()}
    assert found.share("test") == sum(cold["test"]) / len(kept) > found.share("valid")
    for group in found.by_popularity:
        members = [items[-1] for items in kept if group.least <= counts[items[-1]] <= group.most]
        assert group.targets == len(members) > 0
        assert group.cold == sum(item not in trained for item in members)
    assert sum(group.targets for group in found.by_popularity) == len(kept)
    assert sum(group.cold for group in found.by_popularity) == found.cold["test"]


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_interactions_by_day_without_a_gap() -> None:
    times = ["2024-02-27T23:59:59", "2024-02-28T00:00:00", "2024-03-01T12:00:00", "2024-02-28T01:00:00"]
    found = Timeline.of(interactions_of([[1, 2, 1], [2]], [*map(moment, times)]))
    assert found is not None
    assert found.period == "hour"
    assert len(found.starts) == 62
    assert (found.starts[0], found.starts[-1]) == ("2024-02-27T23:00", "2024-03-01T12:00")
    times[2] = "2024-03-29T12:00:00"
    found = Timeline.of(interactions_of([[1, 2, 1], [2]], [*map(moment, times)]))
    assert found is not None
    assert found.period == "day"
    assert found.starts[:4] == ("2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01")
    assert found.interactions == (1, 2, *[0] * 29, 1)
    assert found.new_items == (1, 1, *[0] * 30)
    assert (found.first, found.last, found.undated) == ("2024-02-27", "2024-03-29", 0)


@pytest.mark.parametrize(
    ("last", "period", "starts"),
    [
        ("2024-12-24", "week", "2024-01-01 2024-01-08"),
        ("2031-01-02", "month", "2024-01-01 2024-02-01"),
        ("2099-01-02", "year", "2024-01-01 2025-01-01"),
    ],
)
def test_long_times_are_counted_by_week_month_or_year(last: str, period: str, starts: str) -> None:
    times = [moment(f"2024-01-04T0{hour}:00:00") for hour in range(4)] + [moment(last)]
    found = Timeline.of(interactions_of([[1, 2, 3, 4, 5]], times))
    assert found is not None
    assert found.period == period
    assert list(found.starts[:2]) == starts.split()
    assert found.interactions[0] == found.new_items[0] == 4
    assert sum(found.interactions) == sum(found.new_items) == 5


def test_without_dates_there_is_no_timeline() -> None:
    assert Timeline.of(interactions_of([[1, 2], [3]])) is None
    assert Timeline.of(interactions_of([[1, 2], [3]], [5, 6, 7])) is None
    found = Timeline.of(interactions_of([[1, 2], [3]], [0, moment("2024-01-01"), moment("2024-01-02")]))
    assert found is not None
    assert found.undated == 1
    assert sum(found.interactions) == sum(found.new_items) == 2


@given(st.lists(st.integers(0, 10**9), min_size=1), st.booleans())
def test_a_histogram_counts_every_value_in_its_bin(values: list[int], whole: bool) -> None:
    found = Histogram.of(np.array(values), whole=whole)
    edges = found.edges
    expected = [
        sum(low <= value < high or (index == len(edges) - 2 and value == high) for value in values)
        for index, (low, high) in enumerate(pairwise(edges))
    ]
    assert list(found.counts) == expected
    assert sum(found.counts) == len(values)
    assert edges[0] <= min(values)
    assert edges[-1] == max(values) + 1 if whole else edges[-1] >= max(values)
    assert not whole or all(edge == int(edge) for edge in edges)


def test_bins_grow_where_values_are_spread_widely() -> None:
    wide, narrow = (Histogram.of(np.arange(1, most), whole=True) for most in (1000, 15))
    assert wide.is_wide
    assert wide.counts[0] == 1 < wide.counts[-1]
    assert not narrow.is_wide
    assert narrow.counts == (1,) * 14
