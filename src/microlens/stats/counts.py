"""Figures of the interactions of a dataset: sizes, popularity, time and cold items."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from microlens.data.interactions import Int64, Interactions
from microlens.data.split import Part, Split
from microlens.stats.histogram import Summary

_TOP_SHARES = (0.01, 0.1, 0.2)
_MOST_RANKS = 200
_MOST_PERIODS = 120
_EARLIEST, _LATEST = 600_000_000_000, 4_200_000_000_000  # milliseconds: 1989 to 2103, the times that are read as dates
_PERIODS = {
    "hour": ("1h", 3_600_000),
    "day": ("1d", 86_400_000),
    "week": ("1w", 604_800_000),
    "month": ("1mo", 2_629_800_000),
    "year": ("1y", 31_557_600_000),
}  # name in polars, and length in milliseconds


@dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers of users, items and interactions.

    ``density`` is the share of all pairs of a user and an item that interact; ``sessions`` are the numbers of
    interactions of the users.
    """

    users: int
    items: int
    interactions: int
    density: float
    sessions: Summary

    @classmethod
    def of(cls, events: Interactions | Split) -> Self:
        """The size of all interactions, or of those that a protocol keeps."""
        return cls(
            users=events.num_users,
            items=events.num_items,
            interactions=events.num_events,
            density=events.num_events / (events.num_users * events.num_items),
            sessions=Summary.of(np.diff(events.offsets)),
        )


@dataclass(frozen=True, kw_only=True)
class Popularity:
    """Interactions by item: ``counts`` (R,) of the items at ``ranks`` (R,), the most popular at rank 1.

    ``top_shares`` is the share of all interactions by the share of most popular items that receive them; ``once`` is
    the number of items with one interaction; ``gini`` is the Gini coefficient, 0 if all items are equally popular.
    """

    ranks: tuple[int, ...]
    counts: tuple[int, ...]
    items: Summary
    top_shares: dict[str, float]
    once: int
    gini: float

    @classmethod
    def of(cls, interactions: Interactions) -> Self:
        """The popularity of all items."""
        ascending = np.sort(item_counts(interactions))
        counts, number = ascending[::-1], len(ascending)
        ranks = np.unique(np.geomspace(1, number, _MOST_RANKS).round().astype(np.int64))
        before = np.cumsum(counts)
        weights = 2 * np.arange(1, number + 1) - number - 1
        return cls(
            ranks=tuple(ranks.tolist()),
            counts=tuple(counts[ranks - 1].tolist()),
            items=Summary.of(counts),
            top_shares={f"{share:g}": float(before[_number(share, number) - 1] / before[-1]) for share in _TOP_SHARES},
            once=int((counts == 1).sum()),
            gini=float((weights * ascending).sum() / (number * before[-1])),
        )


def item_counts(interactions: Interactions) -> Int64:
    """The number of interactions of each item, (N,), item number 1 first."""
    return np.bincount(interactions.items, minlength=interactions.num_items + 1)[1:]


def _number(share: float, whole: int) -> int:
    return max(1, round(share * whole))


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Interactions, and items that occur for the first time, by hour, day, week (from Monday), month or year (UTC).

    ``starts`` (P,) are the starts of all periods from ``first`` to ``last``, the dates of the first and last
    interaction, in ISO 8601. ``undated`` is the number of interactions whose time is no date between 1989 and 2103.
    """

    period: str
    starts: tuple[str, ...]
    interactions: tuple[int, ...]
    new_items: tuple[int, ...]
    first: str
    last: str
    undated: int

    @classmethod
    def of(cls, interactions: Interactions) -> Self | None:
        """Count by period; None if the dataset has no timestamps, or none that is a date."""
        if not interactions.has_times:
            return None
        times, items = np.asarray(interactions.times), interactions.items
        dated = (times >= _EARLIEST) & (times < _LATEST)
        if not dated.any():
            return None
        times, items = times[dated], items[dated]
        firsts = np.full(interactions.num_items + 1, _LATEST)
        np.minimum.at(firsts, items, times)
        period, every = _period(int(times.max() - times.min()))
        events, new = (_by_period(values, every) for values in (times, firsts[firsts < _LATEST]))
        first, last = (pl.Series([value]).cast(pl.Datetime("ms")) for value in (times.min(), times.max()))
        starts = pl.datetime_range(first.dt.truncate(every)[0], last[0], every, time_unit="ms", eager=True)
        table = starts.alias("start").to_frame().join(events, on="start", how="left", maintain_order="left")
        table = table.join(new, on="start", how="left", maintain_order="left", suffix="_new").fill_null(0)
        return cls(
            period=period,
            starts=tuple(table["start"].dt.to_string("%Y-%m-%dT%H:%M" if period == "hour" else "%Y-%m-%d")),
            interactions=tuple(table["number"]),
            new_items=tuple(table["number_new"]),
            first=first.dt.to_string("%Y-%m-%d")[0],
            last=last.dt.to_string("%Y-%m-%d")[0],
            undated=int((~dated).sum()),
        )


def _period(span: int) -> tuple[str, str]:
    """The shortest period of which ``span`` milliseconds are at most 120, and polars' name for it; else years."""
    for name, (every, length) in _PERIODS.items():
        if span <= _MOST_PERIODS * length:
            return name, every
    return "year", _PERIODS["year"][0]


def _by_period(times: Int64, every: str) -> pl.DataFrame:
    start = pl.col("start").cast(pl.Datetime("ms")).dt.truncate(every)
    return pl.DataFrame({"start": times}).group_by(start).agg(pl.len().cast(pl.Int64).alias("number"))


@dataclass(frozen=True, kw_only=True)
class ColdItems:
    """Targets whose item does not occur in the train part, by part; ``unseen`` is the number of such items.

    ``by_popularity`` holds, for items of ``least`` to ``most`` interactions among those that the protocol keeps, their
    test targets and how many of these are cold.
    """

    unseen: int
    targets: dict[Part, int]
    cold: dict[Part, int]
    by_popularity: tuple["PopularityGroup", ...]

    @classmethod
    def of(cls, split: Split) -> Self:
        """Count the cold targets of a split."""
        unseen = split.train_counts == 0
        unseen[0] = False  # padding
        parts: tuple[Part, Part] = ("valid", "test")
        return cls(
            unseen=int(unseen.sum()),
            targets={part: len(split.targets(part)) for part in parts},
            cold={part: int(unseen[split.targets(part)].sum()) for part in parts},
            by_popularity=_by_popularity(split),
        )

    def share(self, part: Part) -> float:
        """The share of cold targets in ``part``."""
        return self.cold[part] / self.targets[part]


@dataclass(frozen=True, kw_only=True)
class PopularityGroup:
    """Test targets among the items of ``least`` to ``most`` interactions, and how many of them are cold."""

    least: int
    most: int
    targets: int
    cold: int


def _by_popularity(split: Split) -> tuple[PopularityGroup, ...]:
    """Groups of 1, 2, 3-4, 5-8, 9-16, ... interactions that have targets."""
    counts = np.bincount(split.sequences, minlength=split.num_items + 1)
    targets = split.targets("test")
    groups = np.ceil(np.log2(counts[targets])).astype(np.int64)
    number, cold = np.bincount(groups), np.bincount(groups, split.train_counts[targets] == 0, len(np.bincount(groups)))
    return tuple(
        PopularityGroup(least=2**group // 2 + 1, most=2**group, targets=int(number[group]), cold=int(cold[group]))
        for group in np.flatnonzero(number).tolist()
    )
