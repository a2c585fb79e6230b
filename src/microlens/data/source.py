"""The interface of dataset sources, which are release folders or data frames."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from microlens.files.writing import sha256
from microlens.release.given_split import GivenSplit
from microlens.release.ids import TextIds
from microlens.release.media_files import MediaFiles
from microlens.release.metadata import Metadata
from microlens.release.pairs import Pairs


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The identity of a table: its name in the manifest, size in bytes and SHA-256."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of_file(cls, path: Path) -> "Origin":
        """The identity of a table in a file."""
        return cls(path=path.name, bytes=path.stat().st_size, sha256=sha256(path))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of item metadata, and the names of the table and its rows in messages.

    A table with ``fills`` holds titles of another set, for items whose title is blank.
    """

    name: str
    metadata: Metadata
    rows: str = "lines"
    fills: bool = False


@dataclass(frozen=True, kw_only=True)
class Unused:
    """Names of unused parts of a source, ``what`` they are, and why they are not used."""

    what: str
    names: list[str]
    why: str


class Source(ABC):
    """Interactions, item tables and media files, read lazily."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the dataset in its manifest."""

    @property
    @abstractmethod
    def origins(self) -> list[Origin]:
        """All tables; together with media files and settings, they identify the dataset."""

    @property
    def unused(self) -> list[Unused]:
        """Unused parts other than media files."""
        return []

    @abstractmethod
    def read_pairs(self) -> Pairs:
        """Read the interactions.

        Raises:
            InputError: they are invalid.
        """

    @abstractmethod
    def read_items(self, text_ids: TextIds) -> list[Table]:
        """Read the tables of items: columns item_id and any of title, title_LANGUAGE, tag, likes, views.

        Raises:
            InputError: a table is invalid.
        """

    def read_comments(self, text_ids: TextIds) -> Table | None:
        """Read the comments, columns user_id, item_id and text, if there are any; raises as :meth:`read_items`."""
        return None

    def read_split(self, text_ids: TextIds) -> GivenSplit | None:
        """Read the split that the interactions came with, if there is one; raises as :meth:`read_items`."""
        return None

    @abstractmethod
    def media(self, *, text_ids: bool) -> dict[str, MediaFiles]:
        """The media files by kind (clips, covers, sound); ``text_ids`` tells if item ids are text or integers."""
