"""The items of a feed: those of the dataset, and uploads, with their texts, media files and rules."""

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.dataset import Dataset
from microlens.data.web_copies import WEB_COPIES
from microlens.feed.database import Row
from microlens.feed.settings import FeedSettings
from microlens.media.web_copies import WEB_CODECS, WEB_SUFFIXES
from microlens.release.folder import MEDIA, find_release
from microlens.release.media_files import find_media

_MOST_TAGS = 50
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item as the page shows it; what is unknown is None."""

    id: str
    title: str
    title_original: str | None
    tag: str
    likes: int
    views: int
    width: int | None
    height: int | None
    duration_ms: int | None
    video: Path | None
    playable: bool
    cover: Path | None


class Catalogue:
    """All items, numbered as in the dataset, from 1; uploads are numbered after them.

    Args:
        dataset: the dataset.
        release: folder of the release, which holds videos and covers.
        settings: which tags are shown, and to whom.

    Attributes:
        active: whether each item may be shown: (C,), for padding False; another array whenever that changes.
        adult: whether each item is shown to adults only: (C,).
        pins: item numbers by the position in a session at which they are shown, from 1.
    """

    def __init__(self, dataset: Dataset, release: Path | None, settings: FeedSettings) -> None:
        self.dataset = dataset
        self._settings = settings
        self._ids = dataset.item_ids
        self._table = dataset.items.with_columns(pl.col("title", "tag").fill_null(""))
        self._durations = self._table["duration"].to_numpy()
        self._uploads: list[Item] = []
        self._numbers: dict[str, int] = {}  # of uploads
        self._changing = threading.Lock()
        self.pins: list[tuple[int, int]] = []
        videos, covers = _media(release, text_ids=self._ids.dtype == pl.String)
        self._videos, self._covers = videos, covers
        tags = self._table["tag"]
        self._allowed = np.concatenate([[False], self._shown(tags)])
        self.adult: Bools = np.concatenate([[False], tags.is_in(list(settings.adult_tags)).to_numpy()])
        self.active: Bools = self._allowed.copy()

    def __len__(self) -> int:
        return len(self.active) - 1

    @property
    def dataset_ids(self) -> pl.Series:
        """The ids of the items of the dataset, number 1 first."""
        return self._ids

    @cached_property
    def tags(self) -> list[str]:
        """The tags that may be shown to everyone: those that are allowed, or the most frequent ones of the dataset."""
        frequent = self._table.filter(pl.col("tag") != "")["tag"].value_counts(sort=True)["tag"]
        hidden = {*self._settings.blocked_tags, *self._settings.adult_tags}
        return [tag for tag in self._settings.allowed_tags or frequent if tag not in hidden][:_MOST_TAGS]

    def _shown(self, tags: pl.Series) -> Bools:
        allowed, blocked = list(self._settings.allowed_tags), list(self._settings.blocked_tags)
        shown = ~tags.is_in(blocked)
        found: Bools = (shown & tags.is_in(allowed) if allowed else shown).to_numpy()
        return found

    def number(self, item: str) -> int | None:
        """The number of an item, or None if there is no such item."""
        if item in self._numbers:
            return self._numbers[item]
        try:
            wanted: Any = item if self._ids.dtype == pl.String else int(item)
            index = int(self._ids.search_sorted(wanted))
        except (ValueError, OverflowError, TypeError):
            return None
        found = index < len(self._ids) and str(self._ids[index]) == item
        return index + 1 if found else None

    def id(self, number: int) -> str:
        """The id of an item."""
        own = number - 1 - len(self._ids)
        return self._uploads[own].id if own >= 0 else str(self._ids[number - 1])

    def item(self, number: int) -> Item:
        """An item by its number."""
        own = number - 1 - len(self._ids)
        if own >= 0:
            return self._uploads[own]
        row = self._table.row(number - 1, named=True)
        key = self._ids[number - 1]
        copy = self.dataset.folder / WEB_COPIES / f"{number}.mp4"
        video = copy if copy.is_file() else self._videos.get(key)
        return Item(
            id=str(key),
            title=row["title"],
            title_original=_original_title(row),
            tag=row["tag"],
            likes=row["likes"] or 0,
            views=row["views"] or 0,
            width=row["width"],
            height=row["height"],
            duration_ms=self.duration_ms(number),
            video=video,
            playable=video is not None and (video == copy or _is_playable(video, row["codec"])),
            cover=self._covers.get(key),
        )

    def search(self, text: str) -> list[int]:
        """Numbers of the items whose id, title or tag has a text in it, whatever its case; the newest first."""
        wanted, first = text.strip().casefold(), len(self._ids) + 1
        uploads = [
            first + index
            for index, item in enumerate(self._uploads)
            if any(wanted in field.casefold() for field in (item.id, item.title, item.tag))
        ]
        texts = (self._ids.cast(pl.String), self._table["title"], self._table["tag"])
        has = [column.str.to_lowercase().str.contains(wanted, literal=True).to_numpy() for column in texts]
        return [*reversed(uploads), *(1 + np.flatnonzero(np.logical_or.reduce(has))[::-1]).tolist()]

    def duration_ms(self, number: int) -> int | None:
        """The length of an item's video."""
        own = number - 1 - len(self._ids)
        if own >= 0:
            return self._uploads[own].duration_ms
        duration = float(self._durations[number - 1])
        return None if math.isnan(duration) else round(1000 * duration)

    def add_upload(self, row: Row) -> int:
        """Add an uploaded item, a row of the store; returns its number."""
        number = len(self.active)
        cover = row["cover"]
        item = Item(
            id=row["item"],
            title=row["title"],
            title_original=None,
            tag=row["tag"],
            likes=0,
            views=0,
            width=row["width"],
            height=row["height"],
            duration_ms=row["duration_ms"],
            video=Path(row["path"]),
            playable=True,
            cover=None if cover is None else Path(cover),
        )
        shown = bool(self._shown(pl.Series([item.tag]))[0])
        with self._changing:
            self._uploads.append(item)
            self._numbers[item.id] = number
            self._allowed = np.append(self._allowed, shown)
            self.adult = np.append(self.adult, item.tag in self._settings.adult_tags)
            self.active = np.append(self.active, shown)
        return number

    def apply_rules(self, rules: Iterable[Row]) -> None:
        """Replace the rules of the operator by the rows of the store; rules on unknown items are ignored."""
        down, pins = set(), []
        for rule in rules:
            number = self.number(rule["item"])
            if number is not None and rule["state"] == "taken-down":
                down.add(number)
            elif number is not None and rule["pin"] is not None:
                pins.append((int(rule["pin"]), number))
        with self._changing:
            active = self._allowed.copy()
            active[list(down)] = False
            self.pins = sorted(pins)
            if not np.array_equal(active, self.active):
                self.active = active


def _media(release: Path | None, *, text_ids: bool) -> tuple[dict[Any, Path], dict[Any, Path]]:
    """The videos and covers of a release by item id."""
    if release is None:
        return {}, {}
    found = find_release(release)
    videos = find_media(found.videos, MEDIA["clips"][1], text_ids=text_ids)
    covers = find_media(found.covers, MEDIA["covers"][1], text_ids=text_ids)
    return dict(videos.by_item), dict(covers.by_item)


def _original_title(row: Row) -> str | None:
    """The title in the language it was written in, if the title of the dataset is a translation."""
    columns = ["title_original", *sorted(name for name in row if name.startswith("title_") and name != "title_en")]
    found = next((row[name] for name in columns if row.get(name)), None)
    return None if found == row["title"] else found


def _is_playable(video: Path, codec: str | None) -> bool:
    return codec in WEB_CODECS and video.suffix.lower() in WEB_SUFFIXES
