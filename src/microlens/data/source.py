"""What a dataset folder is made from: a release folder, or data frames."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from microlens.files.writing import sha256
from microlens.release.ids import TextIds
from microlens.release.media_files import MediaFiles
from microlens.release.metadata import Metadata
from microlens.release.pairs import Pairs


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A table by what it holds: its name in the manifest, size in bytes and SHA-256."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of_file(cls, path: Path) -> "Origin":
        """The table in a file."""
        return cls(path=path.name, bytes=path.stat().st_size, sha256=sha256(path))


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table says about items, and how messages call the table and its rows."""

    name: str
    metadata: Metadata
    rows: str = "lines"


@dataclass(frozen=True, kw_only=True)
class Unused:
    """Names of what a source holds and nothing reads; ``what`` they are, and why."""

    what: str
    names: list[str]
    why: str


class Source(ABC):
    """Interactions, what is known of the items, and their media files; nothing is read before it is asked for."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the dataset is called in its manifest."""

    @property
    @abstractmethod
    def origins(self) -> list[Origin]:
        """All tables; with media files and settings they identify the dataset."""

    @property
    def unused(self) -> list[Unused]:
        """What is not read, besides media files."""
        return []

    @abstractmethod
    def read_pairs(self) -> Pairs:
        """Read the interactions.

        Raises:
            InputError: they cannot be used.
        """

    @abstractmethod
    def read_items(self, text_ids: TextIds) -> list[Table]:
        """Read the tables of items: columns item_id and any of title, tag, likes, views.

        Raises:
            InputError: one cannot be used.
        """

    def read_comments(self, text_ids: TextIds) -> Table | None:
        """Read the comments, columns user_id, item_id and text, if there are any; raises as :meth:`read_items`."""
        return None

    @abstractmethod
    def media(self, *, text_ids: bool) -> dict[str, MediaFiles]:
        """The media files by kind (clips, covers, sound), of items whose ids are text or integers."""
