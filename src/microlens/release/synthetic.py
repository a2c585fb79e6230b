"""A synthetic release in the official layout, drawn from a small world with a known right answer.

Items differ in what is seen and heard (colour, backdrop, shape, motion, pitch); every user likes one value of each. A
history is drawn without repetition with probability proportional to exp(content utility) x popularity; popularity has a
long tail and is independent of content. New items are published after the launch date and are chosen for their content
only, as the last interactions of some users: ids can learn the old items, and only content can rank the new ones.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.files.writing import LOCK, MARK, claim_folder, clear_folder, lock_folder, remove_folder
from microlens.media.processes import Killed, work
from microlens.release.synthetic_media import ATTRIBUTES, COLOURS, TAGS, Look, comment_on, title_of, write_item

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

WEIGHTS: dict[str, float] = {"colour": 3.5, "backdrop": 3.0, "shape": 0.8, "motion": 0.8, "pitch": 0.8}
"""The utility of an item for a user that each matching attribute adds."""

LEAST_USERS = 10
LEAST_ITEMS = 12
NEW_ITEMS = 0.15
ENDS_WITH_NEW = 0.22
ENDS_WITH_TWO_NEW = 0.03
CHANGES_COLOUR = 0.3
POPULARITY_EXPONENT = 0.5
LENGTH_LIMITS = (5, 25)
MEAN_LENGTH = 9.5
OPENING_MS = 1_672_531_200_000
LAUNCH_MS = OPENING_MS + 180 * 86_400_000
CLOSING_MS = LAUNCH_MS + 30 * 86_400_000

_CELLS_AT_ONCE = 1 << 22
_ITEMS_WORTH_A_PROCESS = 50
# Patterns of all files in the folder of an unfinished release.
_WRITTEN = (
    *(f"synthetic_{name}" for name in ("pairs.csv", "pairs.tsv", "comments.txt", "likes_and_views.txt")),
    *(f"synthetic_{name}" for name in ("titles.csv", "tags_to_summary.csv")),
    *("videos/[0-9]*.mp4", "covers/[0-9]*.jpg", "audios/[0-9]*.m4a", "world.json"),
)


@dataclass(frozen=True)
class World:
    """The ground truth of a synthetic release: N items, B users, T interactions; ids are index + 1.

    `attributes[name]` (N,) and `favourites[name]` (B,) are indices into `ATTRIBUTES[name]`; `earlier_colour` (B,) is
    the favourite in the first half of a history. `popularity` (N,) sums to 1 and is 0 for the items in `is_new` (N,).
    `user`, `item` (indices) and `time` (ms) are (T,), sorted by user, then time.
    """

    seed: int
    attributes: dict[str, Ints]
    favourites: dict[str, Ints]
    earlier_colour: Ints
    popularity: Floats
    is_new: Bools
    user: Ints
    item: Ints
    time: Ints

    def utility(self, names: Iterable[str] = tuple(ATTRIBUTES)) -> Floats:
        """The utility of every item for every user at the end of the history, by the attributes `names`: (B, N)."""
        return _utility(self.attributes, {name: self.favourites[name] for name in names})

    def look(self, item: int) -> Look:
        """The look and sound of the item at an index."""
        names = {name: ATTRIBUTES[name][values[item]] for name, values in self.attributes.items()}
        return Look(**names, seed=(self.seed, item + 1))


def _utility(attributes: dict[str, Ints], favourites: dict[str, Ints]) -> Floats:
    users, items = len(next(iter(favourites.values()))), len(next(iter(attributes.values())))
    total = np.zeros((users, items), dtype=np.float32)
    for name, wanted in favourites.items():
        total += np.float32(WEIGHTS[name]) * (wanted[:, None] == attributes[name])
    return total


def build_world(users: int = 2000, items: int = 400, seed: int = 0) -> World:
    """Draw items, preferences and interactions; writes nothing.

    Raises:
        InputError: there are too few users or items, or the seed is negative.
    """
    _check_minimum("users", users, LEAST_USERS)
    _check_minimum("items", items, LEAST_ITEMS)
    _check_minimum("seed", seed, 0)
    rng = np.random.default_rng([seed])
    is_new = np.zeros(items, dtype=np.bool_)
    is_new[rng.choice(items, max(2, round(NEW_ITEMS * items)), replace=False)] = True
    attributes = _draw_attributes(rng, is_new)
    favourites = {name: rng.integers(len(values), size=users) for name, values in ATTRIBUTES.items()}
    other_colour = (favourites["colour"] + rng.integers(1, len(COLOURS), users)) % len(COLOURS)
    earlier_colour = np.where(rng.random(users) < CHANGES_COLOUR, other_colour, favourites["colour"])
    popularity = np.zeros(items, dtype=np.float32)
    popularity[~is_new] = rng.permutation(np.arange(1, (~is_new).sum() + 1.0)) ** -POPULARITY_EXPONENT
    popularity /= popularity.sum()

    lengths = _draw_lengths(rng, users, warm=int((~is_new).sum()))
    history = np.zeros((users, lengths.max()), dtype=np.int64)
    block = max(1, _CELLS_AT_ONCE // items)
    for start in range(0, users, block):
        part = slice(start, start + block)
        late = _utility(attributes, {name: values[part] for name, values in favourites.items()})
        early = late + _utility(attributes, {"colour": earlier_colour[part]})
        early -= _utility(attributes, {"colour": favourites["colour"][part]})
        drawn = _draw_histories(rng, early, late, popularity, lengths[part])
        history[part, : drawn.shape[1]] = drawn
    time = _draw_times(rng, lengths, is_new[history])
    user, position = np.nonzero(np.arange(history.shape[1]) < lengths[:, None])
    return World(
        seed=seed,
        attributes=attributes,
        favourites=favourites,
        earlier_colour=earlier_colour,
        popularity=popularity,
        is_new=is_new,
        user=user,
        item=history[user, position],
        time=time[user, position],
    )


def _check_minimum(what: str, given: int, least: int) -> None:
    if given < least:
        raise InputError(f"{what} is {given}; a synthetic release accepts {least} or more.")


def _draw_attributes(rng: np.random.Generator, is_new: Bools) -> dict[str, Ints]:
    """Distribute combinations of values evenly over old and new items, so that every preference has matching items."""
    attributes = {name: np.empty(len(is_new), dtype=np.int64) for name in ATTRIBUTES}
    for group in (is_new, ~is_new):
        for names in (("colour", "backdrop"), ("shape", "motion", "pitch")):
            sizes = tuple(len(ATTRIBUTES[name]) for name in names)
            dealt = np.unravel_index(_deal(rng, int(group.sum()), math.prod(sizes)), sizes)
            for name, values in zip(names, dealt, strict=True):
                attributes[name][group] = values
    return attributes


def _deal(rng: np.random.Generator, count: int, values: int) -> Ints:
    rounds = np.tile(np.arange(values), (-(-count // values), 1))
    dealt: Ints = rng.permuted(rounds, axis=1).ravel()[:count]
    return dealt


def _draw_lengths(rng: np.random.Generator, users: int, warm: int) -> Ints:
    shortest, longest = LENGTH_LIMITS
    lengths = shortest - 1 + rng.geometric(1 / (MEAN_LENGTH - shortest + 1), users)
    return np.minimum(lengths, max(shortest, min(longest, warm // 2)))


def _draw_histories(rng: np.random.Generator, early: Floats, late: Floats, popularity: Floats, lengths: Ints) -> Ints:
    """Draw items `(B, max length)`: by `early` utility up to the middle, then by `late`; new items at the end."""
    users, longest = np.arange(len(lengths)), int(lengths.max())
    middle = lengths // 2
    with np.errstate(divide="ignore"):
        log_popularity = np.log(popularity)
    position = np.arange(longest)
    before = position < middle[:, None]
    first = _draw_without_repetition(rng, early + log_popularity, longest)
    keys = late + log_popularity
    rows, columns = np.nonzero(before)
    keys[rows, first[rows, columns]] = -np.inf
    second = _draw_without_repetition(rng, keys, longest)
    history = np.where(before, first, np.take_along_axis(second, abs(position - middle[:, None]), axis=1))
    chosen = _draw_without_repetition(rng, np.where(popularity == 0, late, -np.inf), 2)
    fate = rng.random(len(lengths))
    for back, share in ((1, ENDS_WITH_NEW), (2, ENDS_WITH_TWO_NEW)):
        tempted = users[fate < share]
        history[tempted, lengths[tempted] - back] = chosen[tempted, back - 1]
    return history


def _draw_without_repetition(rng: np.random.Generator, log_weights: Floats, count: int) -> Ints:
    """Sample from softmax(log_weights) without replacement by the Gumbel top-k trick: `(B, count)`."""
    keys = log_weights + rng.gumbel(size=log_weights.shape).astype(np.float32)
    top = np.argpartition(-keys, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def _draw_times(rng: np.random.Generator, lengths: Ints, is_new: Bools) -> Ints:
    """Ascending times in ms, `(B, max length)`: the last interaction and all new items come after the launch."""
    position = np.arange(is_new.shape[1])
    share = rng.random(is_new.shape)
    share[position >= lengths[:, None]] = 1
    share.sort(axis=1)
    launched = (position >= lengths[:, None] - 1) | is_new
    start = np.where(launched, LAUNCH_MS, OPENING_MS)
    end = np.where(launched, CLOSING_MS, LAUNCH_MS) - is_new.shape[1]
    # Adding the position makes the times of a user distinct.
    times: Ints = (start + share * (end - start)).astype(np.int64) + position
    return times


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
    if folder.exists():
        raise InputError(f"{folder} exists already; name a folder that does not.")
    if workers is not None:
        _check_minimum("workers", workers, 1)
    world = build_world(users, items, seed)
    with _renamed_when_complete(folder) as unfinished:
        _write_interactions(unfinished, world)
        _write_items(unfinished, world)
        _write_truth(unfinished / "world.json", world)
        for done, _ in enumerate(_write_media(unfinished, world, workers), start=1):
            if on_progress:
                on_progress(done, items)
    return world


@contextmanager
def _renamed_when_complete(folder: Path) -> Iterator[Path]:
    unfinished = folder.with_name(folder.name + ".partial")
    claim_folder(unfinished)
    with lock_folder(unfinished):
        clear_folder(unfinished, _WRITTEN)
        try:
            yield unfinished
            unfinished.rename(folder)
            clear_folder(folder, (LOCK, MARK))
        finally:
            remove_folder(unfinished, _WRITTEN)


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
