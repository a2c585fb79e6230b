"""Small data for contract tests: constructor arguments, item content, and datasets with a known answer.

The ids of the N items are ten times their numbers 1..N, so that tests detect a model that confuses the two.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microlens.building.registry import path_of
from microlens.data.batches import ItemBatch
from microlens.data.interactions import Interactions
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.media.decoding import Settings
from microlens.media.sound import SoundSettings
from microlens.recommenders.counting import train_part
from microlens.runs.assembly import ConstructorArguments

N, D, L = 30, 8, 6
CLIP_SHAPE = (2, 32)
"""Number of frames F of a clip, and their height and width in pixels."""

Sequences = list[list[int]]


def name_of(tested: str | Callable[..., Any]) -> str:
    """The name of the tested model or encoder in a configuration: a registered name, or the import path of a class."""
    return tested if isinstance(tested, str) else path_of(tested)


def small_split(seed: int = 0) -> Split:
    """A split of 42 users and N items; the last two users and the last two items do not occur in the train part."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, N - 1)
    popularity /= popularity.sum()
    sequences = [rng.choice(N - 2, length, replace=False, p=popularity) + 1 for length in rng.integers(5, 13, 39)]
    sequences.append(np.arange(1, N + 1))
    offsets = np.cumsum([0, *map(len, sequences)])
    interactions = Interactions(
        offsets=offsets,
        items=np.concatenate(sequences).astype(np.int32),
        times=np.arange(offsets[-1]),
        user_ids=np.arange(1, len(sequences) + 1),
        item_ids=10 * np.arange(N + 1),
    )
    split = make_split(interactions, Protocol(max_history=L, max_length=0))
    nothing = np.repeat(split.offsets[-1:], 2)
    return replace(
        split,
        offsets=np.append(split.offsets, nothing),
        train_ends=np.append(split.train_ends, nothing),
        valid_ends=np.append(split.valid_ends, nothing),
        users_kept=np.arange(len(sequences) + 2),
    )


def with_other_targets(split: Split) -> Split:
    """A split with the same train part and permuted validation and test items."""
    sequences = split.sequences.copy()
    held_out = np.flatnonzero(~np.isin(np.arange(len(sequences)), split.train_events[1]))
    sequences[held_out] = np.random.default_rng(0).permutation(sequences[held_out])
    assert (sequences != split.sequences).any()
    return replace(split, sequences=sequences)


def with_another_train_part(split: Split) -> Split:
    """A split with item 1 replaced by item 2."""
    return replace(split, sequences=np.where(split.sequences == 1, 2, split.sequences).astype(np.int32))


def constructor_arguments(split: Split, dim: int = D) -> ConstructorArguments:
    """Constructor arguments by parameter name, as in a run."""
    users, items = train_part(split)
    return {
        "titles": [f"title {number % 7} of a {'long ' * (number % 3)}video" for number in range(1, N + 1)],
        "tags": ["" if number % 5 == 0 else f"tag {number % 5}" for number in range(1, N + 1)],
        "clip_shape": CLIP_SHAPE,
        "cover_size": CLIP_SHAPE[1],
        "sound_settings": SoundSettings(),
        "dim": dim,
        "num_items": split.num_items,
        "num_users": split.num_users,
        "item_ids": 10 * split.items_kept,
        "history_length": split.history_length,
        "train_counts": torch.from_numpy(split.train_counts),
        "train_pairs": (torch.from_numpy(users), torch.from_numpy(items)),
    }


def items_with_content(*numbers: int) -> ItemBatch:
    """Items by number, with random content of every kind that is the same in every call."""
    rng = np.random.default_rng(5)
    frames, size = CLIP_SHAPE
    shapes = {"clips": (frames, size, size, 3), "covers": (1, size, size, 3), "sound": SoundSettings().shape}
    drawn = {kind: rng.integers(0, 256, (N + 1, *shape), dtype=np.uint8) for kind, shape in shapes.items()}
    content = {kind: torch.from_numpy(values[list(numbers)]) for kind, values in drawn.items()}
    return ItemBatch(items=torch.tensor(numbers), content=content)


def histories() -> Tensor:
    """Five users (B, L) with 1, 2, 3, 5 and L items."""
    history = torch.zeros(5, L, dtype=torch.long)
    for user, length in enumerate([1, 2, 3, 5, L]):
        history[user, L - length :] = torch.randperm(N)[:length] + 1
    return history


def ring_walks() -> Sequences:
    """Users walk along a ring of the N items, so the next item follows from the last one, and from nothing else."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, N, 400), rng.integers(6, 13, 400)
    return [
        (10 * ((start + np.arange(length)) % N + 1)).tolist() for start, length in zip(starts, lengths, strict=True)
    ]


def tastes() -> Sequences:
    """Each user has ten of the fifteen items of one kind, in random order."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, N // 15, 400)
    return [(10 * (15 * kind + rng.permutation(15)[:10] + 1)).tolist() for kind in kinds]


def write_dataset(folder: Path, sequences: Sequences) -> Path:
    """Prepare a dataset in which user u (from 1) has the item ids ``sequences[u - 1]``, oldest first."""
    release = folder / "release"
    release.mkdir(parents=True)
    lines = (f"{user}\t{' '.join(map(str, items))}\n" for user, items in enumerate(sequences, 1))
    (release / "known_pairs.tsv").write_text("".join(lines))
    prepare(release, folder / "dataset", Settings(), workers=1)
    return folder / "dataset"
