"""The tables of a synthetic release, and the truth behind them."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from microlens.release.synthetic_media import ATTRIBUTES, TAGS
from microlens.release.synthetic_texts import comment_on, title_of
from microlens.release.synthetic_world import LAUNCH_MS, WEIGHTS, Ints, World


def write_interactions(folder: Path, world: World) -> None:
    """Write the pairs, as csv and tsv, and the comments."""
    users, items = (world.user + 1).tolist(), (world.item + 1).tolist()
    times = world.time.tolist()
    by_time = np.argsort(world.time, kind="stable").tolist()
    pairs = (f"{users[row]},{items[row]},{times[row]}" for row in by_time)
    _write_lines(folder / "synthetic_pairs.csv", ("user,item,timestamp", *pairs))
    histories = np.split(world.item + 1, np.flatnonzero(np.diff(world.user)) + 1)
    rows = (f"{user}\t{' '.join(map(str, history.tolist()))}" for user, history in enumerate(histories, start=1))
    _write_lines(folder / "synthetic_pairs.tsv", rows)
    rng = np.random.default_rng([world.seed, 0, 1])
    looks = [world.look(item) for item in range(len(world.is_new))]
    comments = (f"{users[row]}\t{items[row]}\t{comment_on(looks[items[row] - 1], rng)}" for row in by_time)
    _write_lines(folder / "synthetic_comments.txt", comments)


def write_items(folder: Path, world: World) -> None:
    """Write titles, tags, likes and views."""
    rng = np.random.default_rng([world.seed, 0, 2])
    looks = [world.look(item) for item in range(len(world.is_new))]
    with (folder / "synthetic_titles.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("item", "title"))
        writer.writerows((number, title_of(look, rng)) for number, look in enumerate(looks, start=1))
    with (folder / "synthetic_tags_to_summary.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows((n, TAGS[look.motion]) for n, look in enumerate(looks, start=1))
    heard_of = np.bincount(world.item, minlength=len(looks)) + 1
    views = np.rint(heard_of * rng.lognormal(10, 0.5, len(looks))).astype(np.int64)
    likes = np.rint(views * rng.beta(2, 30, len(looks))).astype(np.int64)
    rows = (f"{number}\t{like}\t{view}" for number, (like, view) in enumerate(zip(likes, views, strict=True), start=1))
    _write_lines(folder / "synthetic_likes_and_views.txt", rows)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines with CRLF endings, like those of the official files."""
    with path.open("w", encoding="utf-8", newline="\r\n") as file:
        file.writelines(line + "\n" for line in lines)


def write_truth(path: Path, world: World) -> None:
    """Write the attributes of items and the preferences of users."""

    def named(values: dict[str, Ints], position: int) -> dict[str, str]:
        return {name: ATTRIBUTES[name][column[position]] for name, column in values.items()}

    items = {
        item + 1: {**named(world.attributes, item), "new": bool(new), "popularity": float(share)}
        for item, (new, share) in enumerate(zip(world.is_new, world.popularity, strict=True))
    }
    users = {
        user + 1: {**named(world.favourites, user), "earlier_colour": ATTRIBUTES["colour"][earlier]}
        for user, earlier in enumerate(world.earlier_colour)
    }
    truth = {"seed": world.seed, "launch_ms": LAUNCH_MS, "weights": WEIGHTS, "items": items, "users": users}
    path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
