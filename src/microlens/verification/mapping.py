"""Finding out which ids of a copy are which ids of the original, from times or from the order of items."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.files.writing import atomic_write
from microlens.release.pairs import Pairs
from microlens.verification.fingerprints import Graph, mixed

_ENOUGH = 0.5
"""The share of rows that must agree for a table to be called a copy."""
_GRAPH_ROUNDS = 8
_SECOND = 1000
_EARLIEST = 600_000_000_000  # milliseconds; smaller numbers are positions in a sequence


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Which ids of a copy are which ids of the original.

    ``items`` has the columns copy_item and official_item, ``users`` copy_user and official_user; neither names an id
    twice. ``agreeing`` of ``rows`` rows of the copy are rows of the original under the mapping; ``by`` says what they
    were matched by.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    by: str
    agreeing: int
    rows: int

    @property
    def permutes_items(self) -> bool:
        """True if an item has another id in the copy."""
        return _permutes(self.items)

    @property
    def permutes_users(self) -> bool:
        """True if a user has another id in the copy."""
        return _permutes(self.users)

    @property
    def is_copy(self) -> bool:
        """True if at least half of the rows agree."""
        return self.agreeing >= _ENOUGH * self.rows

    def write(self, path: Path) -> list[Path]:
        """Write ``items`` as csv and, if user ids differ, ``users`` beside it as ``NAME.users.csv``; return the paths.

        Raises:
            InputError: fewer than half of the rows agree.
        """
        if not self.is_copy:
            raise InputError(
                f"{path} is not written: only {self.agreeing:,} of {self.rows:,} rows agree, so it is no copy."
            )
        tables = {path: self.items}
        if self.permutes_users:
            tables[path.with_suffix(".users.csv")] = self.users
        for target, table in tables.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as temporary:
                table.write_csv(temporary)
        return list(tables)


def is_timed(events: pl.DataFrame) -> bool:
    """True if the timestamps of most events are times, not positions in a sequence."""
    times = events["timestamp"].median()
    return isinstance(times, int | float) and times >= _EARLIEST


def find_mapping(copy: Pairs, official: Pairs) -> Mapping:
    """Find the ids that differ between ``copy`` and ``official``, although the events are the same.

    With times on both sides, events are matched by user and time, or by time alone if users differ, too. Otherwise,
    users are matched by the counts of their items in order, and then, round by round, by the items that are known.
    Rows may be missing on either side.
    """
    left, right = copy.events, official.events
    if is_timed(left) and is_timed(right):
        left, right = _same_resolution(left, right)
        users, items = _by_times(left, right)
        by = "user and time" if _is_identity(users) else "time"
        keys = ["user", "item", "timestamp"]
    else:
        users, items = _by_order(left, right)
        by, keys = "the order of items", ["user", "item"]
    mapped = _mapped(left, users, "user").join(items, on="item", how="inner").with_columns(item=pl.col("official"))
    agreeing = mapped.select(keys).unique().join(right.select(keys), on=keys, how="semi")
    return Mapping(
        items=_named(items, "item", copy.item_ids, official.item_ids),
        users=_named(users, "user", copy.user_ids, official.user_ids),
        by=by,
        agreeing=len(agreeing),
        rows=len(left),
    )


def _permutes(table: pl.DataFrame) -> bool:
    copy, official = table.columns
    return bool((table[copy].cast(pl.String) != table[official].cast(pl.String)).any())


def _is_identity(pairs: pl.DataFrame) -> bool:
    return len(pairs) > 0 and bool((pairs["user"] == pairs["official"]).all())


def _same_resolution(left: pl.DataFrame, right: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with times in whole seconds if those of one are."""
    if any((table["timestamp"] % _SECOND == 0).all() for table in (left, right)):
        seconds = pl.col("timestamp") // _SECOND * _SECOND
        return left.with_columns(seconds), right.with_columns(seconds)
    return left, right


def _by_times(left: pl.DataFrame, right: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs of users and of items whose events happen at the same times."""
    same_users = _matched(left, right, ["user", "timestamp"])
    items = _bijection(same_users, "item")
    if _votes_for(same_users, items) >= _ENOUGH * len(left):
        return _same_ids(left, right), items
    users = _bijection(_matched(left, right, ["timestamp"]), "user")
    return users, _bijection(_matched(_mapped(left, users, "user"), right, ["user", "timestamp"]), "item")


def _same_ids(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """Every user of both sides, paired with itself."""
    users = left.select("user").unique().join(right.select("user").unique(), on="user", how="semi").sort("user")
    return users.with_columns(official=pl.col("user"))


def _matched(left: pl.DataFrame, right: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The rows whose ``keys`` occur once on either side, with the columns of ``right`` as ``NAME_right``."""
    once = [table.filter(pl.struct(keys).is_unique()) for table in (left, right)]
    return once[0].join(once[1].with_columns(pl.col(keys).name.suffix("_right")), on=keys, how="inner")


def _bijection(matched: pl.DataFrame, name: str) -> pl.DataFrame:
    """The pairs of ids that most of the matched rows vote for on both sides: columns ``name`` and official."""
    votes = matched.group_by(name, pl.col(f"{name}_right").alias("official")).len("votes")
    for side in (name, "official"):
        best = pl.col("votes") == pl.col("votes").max().over(side)
        votes = votes.with_columns((best & (best.sum().over(side) == 1)).alias(f"best_{side}"))
    return votes.filter(f"best_{name}", "best_official").select(name, "official").sort(name)


def _votes_for(matched: pl.DataFrame, pairs: pl.DataFrame) -> int:
    chosen = pairs.rename({"official": "item_right"})
    return len(matched.join(chosen, on=["item", "item_right"], how="semi"))


def _mapped(events: pl.DataFrame, pairs: pl.DataFrame, name: str) -> pl.DataFrame:
    """The events whose id ``name`` is in ``pairs``, with that of the original instead."""
    return (
        events.join(pairs, on=name, how="inner", maintain_order="left")
        .with_columns(pl.col("official").alias(name))
        .drop("official")
    )


def _by_order(left: pl.DataFrame, right: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs of users and of items in sequences that are the same up to the ids of items."""
    graphs = Graph(left), Graph(right)
    rows = _side_by_side(graphs, _as_long(graphs))
    items = _bijection(rows, "item")
    if _votes_for(rows, items) >= _ENOUGH * max(1, len(rows)):
        return _same_ids(left, right), items
    users = pl.DataFrame(schema={"left": pl.Int64, "right": pl.Int64})
    items = items.clear()
    colours = tuple(mixed(graph.counts.astype(np.uint64)) for graph in graphs)
    for _ in range(_GRAPH_ROUNDS):
        users_now = _with_equal_sequences(graphs, colours)
        items_now = _bijection(_side_by_side(graphs, users_now), "item")
        if len(items_now) <= len(items) and len(users_now) <= len(users):
            break
        users, items = users_now, items_now
        colours = _known_colours(graphs, items)
    named = {"user": graphs[0].users[users["left"].to_numpy()], "official": graphs[1].users[users["right"].to_numpy()]}
    return pl.DataFrame(named).sort("user"), items


def _as_long(graphs: tuple[Graph, ...]) -> pl.DataFrame:
    """The users with the same id and number of items on both sides: columns left and right, their indices."""
    _, left, right = np.intersect1d(graphs[0].users, graphs[1].users, assume_unique=True, return_indices=True)
    as_long = graphs[0].lengths[left] == graphs[1].lengths[right]
    return pl.DataFrame({"left": left[as_long], "right": right[as_long]})


def _with_equal_sequences(graphs: tuple[Graph, ...], colours: tuple[NDArray[np.uint64], ...]) -> pl.DataFrame:
    """The users whose items have the same colours in the same order, as no other user's: columns left and right."""
    sides = [
        pl.DataFrame({"sequence": graph.user_colours(own, in_order=True)}).with_row_index(name)
        for graph, own, name in zip(graphs, colours, ("left", "right"), strict=True)
    ]
    once = [table.filter(pl.col("sequence").is_unique()) for table in sides]
    return once[0].join(once[1], on="sequence").select(pl.col("left", "right").cast(pl.Int64))


def _side_by_side(graphs: tuple[Graph, ...], users: pl.DataFrame) -> pl.DataFrame:
    """The items of paired users at the same position: columns item and item_right."""
    left, right = (
        pl.DataFrame(
            {"user": graph.user_of_row, "position": graph.position_of_row, "item": graph.items[graph.item_of_row]}
        )
        for graph in graphs
    )
    paired = left.join(users, left_on="user", right_on="left")
    return paired.join(right, left_on=["right", "position"], right_on=["user", "position"]).select("item", "item_right")


def _known_colours(graphs: tuple[Graph, ...], known: pl.DataFrame) -> tuple[NDArray[np.uint64], ...]:
    """Items that are known have the same colour on both sides, all others have the colour 0."""
    found = []
    for graph, name in zip(graphs, known.columns, strict=True):
        colours = np.zeros(len(graph.items), np.uint64)
        colours[np.searchsorted(graph.items, known[name].to_numpy())] = np.arange(1, len(known) + 1, dtype=np.uint64)
        found.append(colours)
    return tuple(found)


def _named(pairs: pl.DataFrame, name: str, copy_ids: pl.Series | None, official_ids: pl.Series | None) -> pl.DataFrame:
    """The pairs with the ids that the tables have, which may be text."""
    columns = []
    for own, prefix, texts in ((name, "copy", copy_ids), ("official", "official", official_ids)):
        column = pairs[own] if texts is None else texts.gather(pairs[own] - 1)
        columns.append(column.alias(f"{prefix}_{name}"))
    return pl.DataFrame(columns).sort(f"copy_{name}")
