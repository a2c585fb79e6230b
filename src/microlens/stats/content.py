"""Figures of the items of a dataset: what they have, tags, scripts of titles, and videos."""

from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from microlens.data.interactions import Int64
from microlens.stats.histogram import Histogram, Summary

_MOST_TAGS, _MOST_RESOLUTIONS = 24, 12
SCRIPTS = (
    *("Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari"),
    *("Bengali", "Tamil", "Telugu", "Thai", "Khmer", "Lao", "Myanmar", "Georgian", "Armenian", "Ethiopic"),
)
"""Unicode scripts that are told apart."""
OTHER, NONE = "other", "no letters"


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A tag with the number of its items, and of their interactions."""

    name: str
    items: int
    interactions: int


def coverage(items: pl.DataFrame) -> dict[str, int]:
    """The number of items that have each kind of content: titles, tag, likes, views, clips, covers, sound."""
    told = {
        name: int((items[name].fill_null("").str.strip_chars() != "").sum()) for name in (*title_columns(items), "tag")
    }
    numbers = {name: items[name].count() for name in ("likes", "views")}
    return {**told, **numbers, **{kind: int(items[kind].sum()) for kind in ("clips", "covers", "sound")}}


def title_columns(items: pl.DataFrame) -> list[str]:
    """The columns of titles: title, and title_en and the like where a release has titles in several languages."""
    return [name for name in items.columns if name == "title" or name.startswith("title_")]


def most_common_tags(items: pl.DataFrame, counts: Int64) -> tuple[int, tuple[Tag, ...]]:
    """The number of tags, and the tags of most items; ``counts`` (N,) are the interactions of the items."""
    tagged = items.select("tag", pl.Series("interactions", counts)).filter(pl.col("tag").fill_null("") != "")
    tags = tagged.group_by("tag").agg(pl.len().alias("items"), pl.col("interactions").sum())
    first = tags.sort(["items", "tag"], descending=[True, False]).head(_MOST_TAGS)
    return len(tags), tuple(Tag(name=tag, items=number, interactions=sum_) for tag, number, sum_ in first.iter_rows())


def scripts(titles: pl.Series) -> dict[str, int]:
    """The number of titles by the script of most of their letters, most common first; empty titles are not counted.

    A script (Latin, Han, ...) is not a language: English and Spanish are both in Latin script.
    """
    text = titles.drop_nulls().alias("title").to_frame().filter(pl.col("title").str.strip_chars() != "")
    letters = [pl.col("title").str.count_matches(rf"\p{{{script}}}").alias(script) for script in SCRIPTS]
    counts = text.select(*letters, pl.col("title").str.count_matches(r"\p{L}").alias("letters"))
    known = pl.sum_horizontal(SCRIPTS)
    counts = counts.with_columns(pl.max_horizontal(pl.lit(0), pl.col("letters").cast(pl.Int64) - known).alias(OTHER))
    most = pl.concat_list(*SCRIPTS, OTHER).list.arg_max()
    names = pl.lit(pl.Series([*SCRIPTS, OTHER]).implode()).list.get(most)
    script = pl.when(pl.max_horizontal(*SCRIPTS, OTHER) > 0).then(names).otherwise(pl.lit(NONE)).alias("script")
    return _value_counts(counts.select(script).to_series())


def _value_counts(values: pl.Series) -> dict[Any, int]:
    """Numbers by value, most common first, then by value."""
    counts = values.rename("value").drop_nulls().value_counts(name="number")
    return dict(counts.sort(["number", "value"], descending=[True, False]).iter_rows())


@dataclass(frozen=True, kw_only=True)
class Videos:
    """The decoded videos: durations in seconds, sizes in pixels as displayed, codecs, and how many have sound.

    ``resolutions`` are the twelve most common of ``num_resolutions``.
    """

    number: int
    duration: Summary | None
    durations: Histogram | None
    resolutions: dict[str, int]
    num_resolutions: int
    orientations: dict[str, int]
    codecs: dict[str, int]
    with_sound: int

    @classmethod
    def of(cls, items: pl.DataFrame) -> Self | None:
        """Describe the videos of items with clips; None if there are none."""
        videos = items.filter(pl.col("clips"))
        if videos.is_empty():
            return None
        durations = videos["duration"].drop_nulls().to_numpy()
        size = pl.concat_str(pl.col("width"), pl.lit(" x "), pl.col("height"))
        difference = pl.col("width") - pl.col("height")
        orientation = (
            pl.when(difference > 0)
            .then(pl.lit("landscape"))
            .when(difference < 0)
            .then(pl.lit("portrait"))
            .when(difference == 0)
            .then(pl.lit("square"))
        )
        sizes = _value_counts(videos.select(size).to_series())
        return cls(
            number=len(videos),
            duration=Summary.of(durations) if len(durations) else None,
            durations=Histogram.of(durations) if len(durations) else None,
            resolutions=dict(list(sizes.items())[:_MOST_RESOLUTIONS]),
            num_resolutions=len(sizes),
            orientations=_value_counts(videos.select(orientation).to_series()),
            codecs=_value_counts(videos["codec"]),
            with_sound=int(videos["sound"].sum()),
        )
