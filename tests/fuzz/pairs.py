"""Interactions: damaged files, and healthy ones as other programs write them, which must not be misread."""

import json
from datetime import UTC, datetime
from pathlib import Path

from microlens.data.protocol import Protocol
from microlens.data.split import make_split
from microlens.release.pairs import read_pairs
from tests.data.interactions import interactions_of_pairs
from tests.fuzz.dialects import encoded, rendered
from tests.fuzz.mutations import Random
from tests.fuzz.target import Target
from tests.fuzz.text_mutations import damage_text

HEADERS = (("user", "item", "timestamp"), ("user_id", "item_id", "timestamp"), ("user", "item", "time"))
Events = list[tuple[int, int, int]]


class Pairs(Target):
    """Half of the cases are damaged; of the others ``truth.json`` says what they hold."""

    name = "pairs"

    def make(self, folder: Path, random: Random) -> str:
        """Write ``x_pairs.csv`` or ``x_pairs.tsv``."""
        events = some_events(random)
        tsv = random.random() < 0.3
        path = folder / f"x_pairs.{'tsv' if tsv else 'csv'}"
        if random.random() < 0.5:
            text = tsv_text(events, random) if tsv else csv_text(events, random)
            path.write_bytes(damage_text(text.encode(), random))
            return "damaged"
        path.write_bytes(encoded(tsv_text(events, random), random) if tsv else table(events, random))
        (folder / "truth.json").write_text(json.dumps([event[:2] for event in sorted(events, key=_user_and_time)]))
        return "the same otherwise"

    def read(self, folder: Path, random: Random) -> str | None:
        """Read it, number it, and split it."""
        (path,) = folder.glob("x_pairs.*")
        found = read_pairs(path)
        events = found.events
        assert not events.null_count().sum_horizontal().item(), "events without a value"
        rows = list(zip(*(events[name].to_list() for name in ("user", "item", "timestamp")), strict=True))
        pairs = [row[:2] for row in rows]
        assert rows, "nothing is left, and nobody says why"
        assert len(set(pairs)) == len(rows), "an item twice for one user"
        assert rows == sorted(rows, key=_user_and_time), "not by user and time"
        if (folder / "truth.json").exists():
            truth = [tuple(pair) for pair in json.loads((folder / "truth.json").read_text())]
            assert pairs == truth, f"misread: {pairs[:5]} in place of {truth[:5]}"
        interactions = interactions_of_pairs(found)
        assert interactions.num_events == len(rows)
        assert interactions.items.min() >= 1
        assert make_split(interactions, Protocol(min_length=3)).num_users >= 1


def _user_and_time(event: tuple[int, ...]) -> tuple[int, int]:
    return event[0], event[2]


def some_events(random: Random) -> Events:
    """Three to eight events of two to eight users, by user and time; ids of one to nineteen digits."""
    factor = int(random.choice([1, 1, 1, 10**6, 3 * 10**17]))
    start, step = ((0, 1), (1_600_000_000, 1), (1_600_000_000_000, 1000))[int(random.integers(3))]
    events = []
    for user in range(1, int(random.integers(3, 10))):
        items = random.permutation(20)[: int(random.integers(3, 9))] + 1
        times = sorted((random.choice(10**6, len(items), replace=False) + 1).tolist())
        events += [
            (user * factor, int(item) * factor, start + step * time) for item, time in zip(items, times, strict=True)
        ]
    return events


def csv_text(events: Events, random: Random) -> str:
    """Comma-separated, with or without a header."""
    lines = ["user,item,timestamp"] if random.random() < 0.7 else []
    return "".join(f"{line}\n" for line in [*lines, *(",".join(map(str, event)) for event in events)])


def tsv_text(events: Events, random: Random) -> str:
    """A line a user, now and then two of the first user."""
    items: dict[int, list[int]] = {}
    for user, item, _ in events:
        items.setdefault(user, []).append(item)
    lines = [f"{user}\t{' '.join(map(str, of_user))}" for user, of_user in items.items()]
    if random.random() < 0.2:
        user, of_user = next(iter(items.items()))
        lines[0] = f"{user}\t{' '.join(map(str, of_user[:2]))}"
        lines.append(f"{user}\t{' '.join(map(str, of_user[2:]))}")
    return "".join(f"{line}\n" for line in lines)


def table(events: Events, random: Random) -> bytes:
    """A table in any dialect, its times and ids written in any way, in any order of rows."""
    way = int(random.integers(5))

    def time(value: int) -> object:
        seconds = value / 1000 if value > 10**12 else value
        return (value, float(value), f"{value:.12e}", datetime.fromtimestamp(seconds, UTC).isoformat(), value)[way]

    floats = random.random() < 0.1 and events[0][0] < 10**6
    rows: list[list[object]] = [[*map(float if floats else int, event[:2]), time(event[2])] for event in events]
    header: tuple[str, ...] = HEADERS[int(random.integers(len(HEADERS)))]
    if random.random() < 0.2:
        header, rows = ("user_id", "item_id", "rating", "timestamp"), [[*row[:2], 5, row[2]] for row in rows]
    if random.random() < 0.3:
        rows = [rows[int(place)] for place in random.permutation(len(rows))]
    return rendered(rows, header, random)
