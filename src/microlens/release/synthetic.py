"""A synthetic release in the official layout, drawn from a small world with a known right answer.

Items differ in what is seen and heard (colour, backdrop, shape, motion, pitch); every user likes one value of each. A
history is drawn without repetition with probability proportional to exp(content utility) x popularity; popularity has a
long tail and is independent of content. New items are published after the launch date and are chosen for their content
only, as the last interactions of some users: ids can learn the old items, and only content can rank the new ones.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from microlens.errors import InputError
from microlens.files.writing import check_is_new, renamed_when_complete
from microlens.media.processes import Killed, work
from microlens.release.synthetic_media import ATTRIBUTES, TAGS, Look, write_item
from microlens.release.synthetic_texts import comment_on, title_of
from microlens.release.synthetic_world import LAUNCH_MS, WEIGHTS, Ints, World, build_world, check_minimum

_ITEMS_WORTH_A_PROCESS = 50
# Patterns of all files in the folder of an unfinished release.
_WRITTEN = (
    *(f"synthetic_{name}" for name in ("pairs.csv", "pairs.tsv", "comments.txt", "likes_and_views.txt")),
    *(f"synthetic_{name}" for name in ("titles.csv", "tags_to_summary.csv")),
    *("videos/[0-9]*.mp4", "covers/[0-9]*.jpg", "audios/[0-9]*.m4a", "world.json"),
)


def write_release(
    folder: Path,
    *,
    users: int = 2000,
    items: int = 400,
    seed: int = 0,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> World:
    """Write a synthetic release in the official layout, and its ground truth as `world.json`.

    Args:
        folder: Must not exist; it is renamed into place when the release is complete.
        users: Number of users.
        items: Number of items, each with a video, a cover and a sound.
        seed: The same seed gives the same tables, pictures and sounds.
        workers: Number of processes that draw and encode; by default as many as are worthwhile.
        on_progress: Called with (items done, items) after every item.

    Raises:
        InputError: `folder` exists, `folder.partial` holds other files, an argument is below its minimum, or worker
            processes do not start.
    """
    check_is_new(folder)
    if workers is not None:
        check_minimum("workers", workers, 1)
    world = build_world(users, items, seed)
    with renamed_when_complete(folder, _WRITTEN) as unfinished:
        _write_interactions(unfinished, world)
        _write_items(unfinished, world)
        _write_truth(unfinished / "world.json", world)
        for done, _ in enumerate(_write_media(unfinished, world, workers), start=1):
            if on_progress:
                on_progress(done, items)
    return world


def _write_interactions(folder: Path, world: World) -> None:
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


def _write_items(folder: Path, world: World) -> None:
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


def _write_truth(path: Path, world: World) -> None:
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


def _write_media(folder: Path, world: World, workers: int | None) -> Iterator[None]:
    """Draw and encode the items, in parallel if worthwhile, and yield after each."""
    for name in ("videos", "covers", "audios"):
        (folder / name).mkdir(exist_ok=True)
    items = list(enumerate((world.look(item) for item in range(len(world.is_new))), start=1))
    write = partial(_write_item, folder)
    workers = workers or min(os.cpu_count() or 1, 1 + len(items) // _ITEMS_WORTH_A_PROCESS)
    if workers == 1:
        yield from map(write, items)
        return
    with closing(work(write, items, workers)) as results:
        for item, result in results:
            if isinstance(result, Killed):
                raise InputError(f"encoding the video of item {item[0]} {result.how}; is there too little memory?")
            yield


def _write_item(folder: Path, item: tuple[int, Look]) -> None:
    write_item(folder, *item)
