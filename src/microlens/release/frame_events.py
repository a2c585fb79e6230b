"""The interactions of a data frame in memory."""

from collections.abc import Iterator, Sequence

import polars as pl

from microlens.release.events import Events
from microlens.release.ids import TextIds
from microlens.release.timestamps import Moments

_ROWS = 1 << 20  # of a batch


class FrameEvents(Events):
    """The interactions of a frame with columns user and item, at ``moments``, or in order of time for each user.

    ``told`` are the choices made in reading the frame.
    """

    def __init__(self, frame: pl.DataFrame, moments: Moments | None, told: Sequence[str] = ()) -> None:
        times = [] if moments is None else [moments.values.alias("timestamp")]
        self._frame, self._told = frame.select("user", "item").with_columns(times), told
        self.text_ids = TextIds(**{name: frame.schema[name] == pl.String for name in ("user", "item")})
        self.unit = None if moments is None else moments.unit

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the interactions, slice by slice."""
        return self._frame.iter_slices(_ROWS)

    def notes(self, num_users: int) -> list[str]:
        """The choices that were told."""
        return list(self._told)
