"""The items whose media are fetched."""

import random
from collections.abc import Iterable
from pathlib import Path

from microlens.download.registry import ReleaseSet
from microlens.errors import InputError, shown

Choice = int | str | Path | Iterable[int] | None
"""A number of random items, a file with an item id a line, the ids themselves, or all items."""


def items_of_pairs(release: Path, chosen: ReleaseSet) -> list[int] | None:
    """The items that have interactions, ascending; None if the release has no file of pairs."""
    from microlens.release.pairs import read_pairs  # slow to import

    paths = [release / file.path for file in chosen.files if file.kind == "pairs"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    return [int(item) for item in read_pairs(path).events["item"].unique().sort()]


def choose_items(choice: Choice, population: Iterable[int], seed: int) -> list[int]:
    """The chosen items, ascending.

    Args:
        choice: see :data:`Choice`.
        population: all items, of which a number is drawn.
        seed: seed of the draw.

    Raises:
        InputError: more items are asked for than there are, or a line of the file is no id.
    """
    if choice is None:
        return sorted(population)
    if isinstance(choice, (str, Path)):
        return _read_ids(Path(choice))
    if not isinstance(choice, int):
        return sorted(set(choice))
    everything = sorted(population)
    if choice < 1:
        raise InputError(f"{choice:,} items are asked for; at least 1 is needed.")
    if choice > len(everything):
        raise InputError(f"{choice:,} items are asked for, and there are {len(everything):,}.")
    return sorted(random.Random(seed).sample(everything, choice))


def _read_ids(path: Path) -> list[int]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}, the list of items, cannot be read ({error}).") from None
    ids = set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not (text.isascii() and text.isdecimal()):
            raise InputError(f"{path}, line {number}: {shown(text)} is no item id; expected one id a line.")
        if text:
            ids.add(int(text))
    if not ids:
        raise InputError(f"{path} holds no item ids; expected one a line.")
    return sorted(ids)
