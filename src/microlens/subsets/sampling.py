"""Sampling users of a release."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import check_is_new
from microlens.release.whole_release import read_release
from microlens.seeds import checked_seed
from microlens.subsets.subset import Step, Subset, write_subset


def sample_users(events: pl.DataFrame, users: int, seed: int) -> pl.DataFrame:
    """All events of ``users`` users drawn at random, in order.

    Raises:
        InputError: there are fewer users, or ``seed`` is no seed.
    """
    seed = checked_seed(seed)
    everyone = events["user"].unique().sort()
    if not 1 <= users <= len(everyone):
        raise InputError(f"users is {users}; the release has {len(everyone):,} users.")
    drawn = everyone.gather(np.random.default_rng(seed).choice(len(everyone), users, replace=False))
    return events.filter(pl.col("user").is_in(drawn.implode()))


def sample_release(
    release: str | Path,
    out: str | Path,
    *,
    users: int,
    seed: int = 0,
    renumber: bool = False,
    on_progress: OnProgress | None = None,
) -> Subset:
    """Write all interactions of ``users`` users drawn at random as a release, as MicroLens-50K is one of 100K.

    Users are kept whole; titles, tags, media, ... are those of the items left. Media files are hard links where the
    file system has them.

    Args:
        release: release folder.
        out: folder of the new release; must not exist.
        users: number of users.
        seed: seed of the draw.
        renumber: number users and items 1, 2, ...; ``NAME_user_ids.csv`` and ``NAME_item_ids.csv`` hold the former ids.
        on_progress: called with (done, total) media files.

    Raises:
        InputError: the release cannot be read or has fewer users, ``seed`` is no seed, or ``out`` exists. Nothing is
            written in these cases.
    """
    check_is_new(Path(out))
    seed = checked_seed(seed)
    tables = read_release(Path(release))
    events = sample_users(tables.events, users, seed)
    steps = [Step.of("release", tables.events), Step.of(f"{users:,} users drawn at random, seed {seed}", events)]
    left = replace(tables, events=events)
    return write_subset(Path(release), Path(out), left, steps, renumber=renumber, on_progress=on_progress)
