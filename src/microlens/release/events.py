"""The interactions of a source in the order of its rows, read in batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import polars as pl

from microlens.release.ids import TextIds


class Events(ABC):
    """Interactions in batches that fit in memory.

    Attributes:
        text_ids: which ids are text.
        unit: the unit of timestamps, see :mod:`microlens.release.timestamps`; known once all batches are read.
    """

    text_ids: TextIds
    unit: str | None = None

    @abstractmethod
    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the interactions once, in order.

        Yields:
            Frames with the columns user and item, Int64 or, if they are text, String, and timestamp, Int64 or Float64.
            There is no timestamp if the rows of each user are in order of time.

        Raises:
            InputError: a row is invalid.
        """

    @property
    def progress(self) -> tuple[int, int]:
        """What was read and what there is to read, in MB; zeros if it is in memory."""
        return 0, 0

    def notes(self, num_users: int) -> list[str]:
        """Choices made in reading all batches, which have ``num_users`` distinct users."""
        return []
