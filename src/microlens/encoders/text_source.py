"""The texts that text encoders read: titles, and texts in pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from microlens.data.interactions import ItemIds
from microlens.data.item_texts import read_item_texts
from microlens.errors import InputError

Source = Literal["title", "ocr", "title+ocr"]


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Which texts of an item a text encoder reads.

    source: its "title", the texts in its pictures ("ocr"), or both, the title first. ocr: path of the texts in
    pictures, which ``microlens features DATASET --encoder ocr`` writes.

    Raises:
        InputError: the source has texts in pictures and ``ocr`` is missing, or the other way round.
    """

    source: Source = "title"
    ocr: str | None = None

    def __post_init__(self) -> None:
        if self.reads_pictures and self.ocr is None:
            raise InputError(
                f"encoder.source is '{self.source}', so encoder.ocr must be the path of the texts in pictures; write "
                f"them with: microlens features DATASET --encoder ocr"
            )
        if self.ocr is not None and not self.reads_pictures:
            raise InputError("encoder.ocr is read with encoder.source 'ocr' or 'title+ocr'; the source is 'title'.")

    @property
    def reads_pictures(self) -> bool:
        """True if texts in pictures are read."""
        return self.source != "title"

    def texts(self, titles: list[str], item_ids: ItemIds | None) -> list[str]:
        """The texts of items 1..N.

        Args:
            titles: their titles (N,).
            item_ids: (N+1,) the id of each item number; only needed for texts in pictures.

        Raises:
            InputError: the texts in pictures cannot be read.
        """
        if self.ocr is None:
            return titles
        assert item_ids is not None
        found = read_item_texts(Path(self.ocr).expanduser(), item_ids[1:])
        if self.source == "ocr":
            return found
        return [f"{title} {text}".strip() for title, text in zip(titles, found, strict=True)]


TITLES = TextSource()
