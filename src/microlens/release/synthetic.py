"""A synthetic release in the official layout, drawn from a small world with a known right answer.

Items differ in what is seen and heard (colour, backdrop, shape, motion, pitch); every user likes one value of each. A
history is drawn without repetition with probability proportional to exp(content utility) x popularity; popularity has a
long tail and is independent of content. New items are published after the launch date and are chosen for their content
only, as the last interactions of some users: ids can learn the old items, and only content can rank the new ones.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from microlens.cores import available_cores
from microlens.errors import InputError
from microlens.files.writing import check_is_new, renamed_when_complete
from microlens.media.processes import Killed, work
from microlens.release.synthetic_media import Look, write_item
from microlens.release.synthetic_tables import write_interactions, write_items, write_truth
from microlens.release.synthetic_world import World, build_world, check_minimum

_ITEMS_WORTH_A_PROCESS = 50
# Patterns of all files in the folder of an unfinished release.
_WRITTEN = (
    *(f"synthetic_{name}" for name in ("pairs.csv", "pairs.tsv", "comments.txt", "likes_and_views.txt")),
    *(f"synthetic_{name}" for name in ("titles.csv", "tags_to_summary.csv")),
    *("videos/[0-9]*.mp4", "covers/[0-9]*.jpg", "audios/[0-9]*.m4a", "world.json"),
)


def write_release(
    folder: str | Path,
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
    folder = Path(folder)
    check_is_new(folder)
    if workers is not None:
        check_minimum("workers", workers, 1)
    world = build_world(users, items, seed)
    with renamed_when_complete(folder, _WRITTEN) as unfinished:
        write_interactions(unfinished, world)
        write_items(unfinished, world)
        write_truth(unfinished / "world.json", world)
        for done, _ in enumerate(_write_media(unfinished, world, workers), start=1):
            if on_progress:
                on_progress(done, items)
    return world


def _write_media(folder: Path, world: World, workers: int | None) -> Iterator[None]:
    """Draw and encode the items, in parallel if worthwhile, and yield after each."""
    for name in ("videos", "covers", "audios"):
        (folder / name).mkdir(exist_ok=True)
    items = list(enumerate((world.look(item) for item in range(len(world.is_new))), start=1))
    write = partial(_write_item, folder)
    workers = workers or min(available_cores(), 1 + len(items) // _ITEMS_WORTH_A_PROCESS)
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
