"""Interactions of any number in the shape of MicroLens, written in a stream.

Lengths of sequences are 5 plus a log-normal number with a standard deviation of the logarithm of 1.2, and popularity is
log-normal with 0.95, as fitted to MicroLens-50K (lengths: 41 % of 5, a median of 6, 1 % above 25; popularity: the first
tenth of the items has 37 % of the interactions). Rows are in order of time, evenly spread over two years, so that the
rows of a user are spread over the file. Items are drawn independently of users: models can learn popularity only.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.files.progress_bar import OnProgress
from microlens.files.writing import renamed_when_complete
from microlens.release.synthetic_world import check_minimum
from microlens.seeds import checked_seed

Int64 = npt.NDArray[np.int64]
MEAN_LENGTH = 7.2
SHORTEST, LONGEST = 5, 10_000
_SPREAD_OF_LENGTHS, _SPREAD_OF_POPULARITY = 1.2, 0.95
_START_MS, _TIME_MS = 1_600_000_000_000, 2 * 365 * 86_400_000
_ROWS = 1 << 20  # at once
_NAME = "synthetic_pairs.csv"


def write_interactions_only(
    folder: str | Path,
    *,
    users: int,
    items: int,
    mean_length: float = MEAN_LENGTH,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> int:
    """Write a release that holds only interactions, in memory that depends on the number of users and items only.

    Args:
        folder: must not exist; it is renamed into place when the release is complete.
        users: number of users.
        items: number of items.
        mean_length: mean number of interactions of a user, about; the least is 5.
        seed: the same seed gives the same file.
        on_progress: called with (done, total) interactions.

    Returns:
        The number of interactions, some of which repeat an item of the user.

    Raises:
        InputError: ``folder`` exists, ``folder.partial`` holds other files, or a number is not accepted.
    """
    folder = Path(folder)
    check_minimum("users", users, 1)
    check_minimum("items", items, 1)
    check_minimum("mean_length", mean_length, SHORTEST)
    seed = checked_seed(seed)
    with renamed_when_complete(folder, (_NAME,)) as unfinished:
        offsets = _offsets(users, mean_length, seed)
        with (unfinished / _NAME).open("wb") as file:
            file.write(b"user,item,timestamp\r\n")
            for done, rows in _rows(offsets, items, seed):
                rows.write_csv(file, include_header=False, line_terminator="\r\n")
                if on_progress:
                    on_progress(done, int(offsets[-1]))
    return int(offsets[-1])


def _offsets(users: int, mean_length: float, seed: int) -> Int64:
    """The number of interactions of all users before each user: (U+1,)."""
    spread = _SPREAD_OF_LENGTHS
    mean = math.log(mean_length - SHORTEST + 0.5) - spread**2 / 2  # rounding down takes a half
    offsets = np.zeros(users + 1, np.int64)
    for block, start in enumerate(range(0, users, _ROWS)):
        rng = np.random.default_rng([seed, 0, block])
        drawn = rng.lognormal(mean, spread, min(_ROWS, users - start))
        offsets[start + 1 : start + 1 + len(drawn)] = (SHORTEST + drawn.astype(np.int64)).clip(max=LONGEST)
    return np.cumsum(offsets, out=offsets)


def _rows(offsets: Int64, items: int, seed: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the number of rows so far, and the next rows."""
    total = int(offsets[-1])
    rng = np.random.default_rng([seed, 1])
    popularity = np.cumsum(rng.lognormal(0, _SPREAD_OF_POPULARITY, items))
    step = _coprime(total)
    for block, start in enumerate(range(0, total, _ROWS)):
        rng = np.random.default_rng([seed, 2, block])
        places = np.arange(start, min(start + _ROWS, total))
        # The rows of a user are far apart, as multiples of a number without common divisor visit every one once.
        ordered = np.sort(places * step % total)
        users = rng.permutation(np.searchsorted(offsets, ordered, side="right"))
        drawn = np.searchsorted(popularity, rng.random(len(places)) * popularity[-1], side="right")
        times = _START_MS + ((places + rng.random(len(places))) * (_TIME_MS / total)).astype(np.int64)
        yield start + len(places), pl.DataFrame({"user": users, "item": drawn + 1, "timestamp": times})


def _coprime(total: int) -> int:
    """A number without a common divisor with ``total``, near its golden section."""
    step = max(1, int(total * 0.618))
    while math.gcd(step, total) != 1:
        step += 1
    return step
