"""The description of a dataset: all figures in one object, which writes itself as JSON, charts and a page."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from microlens.data.dataset import Dataset
from microlens.data.protocol import Protocol
from microlens.files.writing import write_text
from microlens.page import require_charts, require_page
from microlens.stats.comparison import comparison_row
from microlens.stats.content import Tag, Videos, coverage, most_common_tags, scripts, title_columns
from microlens.stats.counts import ColdItems, Popularity, Size, Timeline, item_counts
from microlens.stats.histogram import Histogram, Summary


@dataclass(frozen=True, kw_only=True)
class Description:
    """The figures of a dataset.

    ``size`` counts all interactions, ``cut`` those that the protocol keeps, to whose split ``cold`` refers. ``content``
    is the number of items that have each kind of content, ``scripts`` the number of titles by script for each column of
    titles, and ``numbers`` summarizes likes and views. ``timeline`` is None without timestamps, ``videos`` without
    videos.
    """

    name: str
    checksum: str
    protocol: str
    row: dict[str, str]
    size: Size
    cut: Size
    cold: ColdItems
    popularity: Popularity
    sessions: Histogram
    timeline: Timeline | None
    content: dict[str, int]
    comments: int
    num_tags: int
    tags: tuple[Tag, ...]
    scripts: dict[str, dict[str, int]]
    numbers: dict[str, Summary]
    videos: Videos | None

    @property
    def missing(self) -> dict[str, str]:
        """What cannot be described, and why."""
        absent = {
            "interactions over time": self.timeline is None and "the release has no timestamps",
            "titles": not self.scripts and "no item has a title",
            "tags": not self.tags and "no item has a tag",
            "durations, resolutions, orientation and sound of videos": self.videos is None and "there are no videos",
        }
        return {what: why for what, why in absent.items() if why}

    def write_json(self, path: str | Path) -> None:
        """Write all figures as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def write_html(self, path: str | Path) -> None:
        """Write a self-contained HTML page with tables and charts.

        Raises:
            InputError: matplotlib is not installed, or ``path`` is a folder.
        """
        require_page(Path(path))
        from microlens.stats.page import write_description_page  # matplotlib: only charts need it

        write_description_page(Path(path), self)

    def write_charts(self, folder: str | Path) -> list[Path]:
        """Write the charts as PNG files into ``folder``, over files of the same names; returns their paths.

        Raises:
            InputError: matplotlib is not installed, or ``folder`` is a file.
        """
        require_charts()
        from microlens.stats.plots import write_pictures  # matplotlib: only charts need it

        return write_pictures(Path(folder), self)


def describe(dataset: Dataset | str | Path) -> Description:
    """Compute the figures that describe a dataset: sizes, popularity, time, cold items, tags, titles and videos.

    Args:
        dataset: a prepared dataset or its folder.

    Returns:
        The figures; those after the cut and of cold items are under the protocol of the MicroLens paper.

    Raises:
        InputError: the dataset is damaged, or no user has enough items for the protocol.
    """
    if not isinstance(dataset, Dataset):
        dataset = Dataset(dataset)
    interactions, items, protocol = dataset.interactions, dataset.items, Protocol()
    split = dataset.split(protocol)
    size, content = Size.of(interactions), coverage(items)
    num_tags, tags = most_common_tags(items, item_counts(interactions))
    by_script = {name: scripts(items[name]) for name in title_columns(items) if content[name]}
    return Description(
        name=dataset.name,
        checksum=dataset.checksum,
        protocol=protocol.hash,
        row=comparison_row(dataset.name, size, content, by_script),
        size=size,
        cut=Size.of(split),
        cold=ColdItems.of(split),
        popularity=Popularity.of(interactions),
        sessions=Histogram.of(np.diff(interactions.offsets), whole=True),
        timeline=Timeline.of(interactions),
        content=content,
        comments=_num_comments(dataset.folder),
        num_tags=num_tags,
        tags=tags,
        scripts=by_script,
        numbers={name: Summary.of(items[name].drop_nulls().to_numpy()) for name in ("likes", "views") if content[name]},
        videos=Videos.of(items),
    )


def _num_comments(folder: Path) -> int:
    path = folder / "comments.parquet"
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()) if path.is_file() else 0
