"""The charts of a description, as drawings for a page and as PNG files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from microlens.files.writing import atomic_write
from microlens.page.charts import INK, QUIET, RULE, look, svg
from microlens.stats.content import Videos
from microlens.stats.counts import ColdItems, Popularity, Timeline
from microlens.stats.description import Description
from microlens.stats.histogram import Histogram
from microlens.stats.tables import CONTENT, percent

BLUE = "#0072B2"
_WIDTH, _HEIGHT, _BAR_HEIGHT, _MARGIN = 360, 225, 21, 18  # points
_ROOM_FOR_TEXT = 1.75  # of the axis, in units of the longest bar
_LONGEST_LABEL = 26
_DOTS_PER_INCH = 160


@dataclass(frozen=True)
class Chart:
    """A chart: its name in files and on the page, its title, and the function that draws it."""

    name: str
    title: str
    draw: Callable[[], Figure]


def charts_of(description: Description) -> list[Chart]:
    """The charts for which a description has figures."""
    return [
        *_of_interactions(description),
        *(_of_times(description.timeline) if description.timeline else ()),
        *_of_items(description),
        *(_of_videos(description.videos) if description.videos else ()),
    ]


def _of_interactions(description: Description) -> Iterator[Chart]:
    yield Chart("popularity", "Item popularity", partial(popularity, description.popularity))
    yield Chart("sessions", "Session length", partial(sessions, description.sessions))
    yield Chart("cold", "Cold share of test targets, by popularity of the item", partial(cold, description.cold))


def _of_times(timeline: Timeline) -> Iterator[Chart]:
    by_period = partial(over_time, timeline)
    yield Chart(
        "interactions", f"Interactions by {timeline.period}", partial(by_period, timeline.interactions, "interactions")
    )
    first = f"Items that occur for the first time, by {timeline.period}"
    yield Chart("new-items", first, partial(by_period, timeline.new_items, "new items"))


def _of_items(description: Description) -> Iterator[Chart]:
    content = {CONTENT.get(kind, kind): number for kind, number in description.content.items()}
    yield Chart("content", "Items that have", partial(bars, content, description.size.items))
    if description.scripts:
        yield Chart("scripts", "Script of titles", partial(scripts, description.scripts))
    if description.tags:
        tags = {tag.name: tag.items for tag in description.tags}
        title = _most_common("Items by tag", tags, description.num_tags)
        yield Chart("tags", title, partial(bars, tags, description.content["tag"]))


def _of_videos(videos: Videos) -> Iterator[Chart]:
    if videos.durations is not None:
        yield Chart("durations", "Video duration", partial(duration, videos.durations))
    title = _most_common("Resolution", videos.resolutions, videos.num_resolutions)
    yield Chart("resolutions", title, partial(bars, videos.resolutions, videos.number))
    yield Chart("orientations", "Orientation", partial(bars, videos.orientations, videos.number))
    heard = {"with sound": videos.with_sound, "without sound": videos.number - videos.with_sound}
    yield Chart("sound", "Sound of videos", partial(bars, heard, videos.number))


def _most_common(title: str, shown: Mapping[str, int], number: int) -> str:
    return title if len(shown) == number else f"{title}, the {len(shown)} most common of {number:,}"


def drawing(chart: Chart) -> str:
    """A chart as inline SVG."""
    with look():
        return svg(chart.draw(), chart.name, chart.title)


def write_pictures(folder: Path, description: Description) -> list[Path]:
    """Write all charts as PNG files into ``folder``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart in charts_of(description):
        paths.append(folder / f"{chart.name}.png")
        with look(), atomic_write(paths[-1]) as temporary:
            figure = chart.draw()
            figure.suptitle(f"{description.name}: {chart.title}", fontsize=12, color=INK)
            figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, facecolor="white")
    return paths


def popularity(found: Popularity) -> Figure:
    """Interactions of an item by its rank, both axes logarithmic."""
    figure, axes = _axes("rank of the item", "interactions")
    axes.plot(found.ranks, found.counts, color=BLUE, linewidth=2.2)
    _logarithmic(axes, "x", found.ranks[0], found.ranks[-1])
    _logarithmic(axes, "y", found.counts[-1], found.counts[0])
    return figure


def sessions(found: Histogram) -> Figure:
    """Users by number of interactions, both axes logarithmic where lengths are spread widely."""
    figure, axes = _axes("interactions of a user", "users of this length")
    edges, counts = np.asarray(found.edges), np.asarray(found.counts)
    widths = np.diff(edges)  # a bin of several lengths shows their mean
    some = counts > 0
    lengths, heights = edges[:-1][some] + (widths[some] - 1) / 2, (counts / widths)[some]
    axes.plot(lengths, heights, "o-", color=BLUE, linewidth=1.6, markersize=4.5)
    if found.is_wide:
        _logarithmic(axes, "x", lengths[0], lengths[-1])
        _logarithmic(axes, "y", heights.min(), heights.max())
    else:
        _from_zero(axes, heights.max())
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def duration(found: Histogram) -> Figure:
    """Videos by duration."""
    figure, axes = _axes("seconds", "videos")
    axes.stairs(found.counts, found.edges, fill=True, color=BLUE)
    if found.is_wide:
        _logarithmic(axes, "x", found.edges[0], found.edges[-1])
    _from_zero(axes, max(found.counts))
    return figure


def cold(found: ColdItems) -> Figure:
    """The share of test targets that do not occur in the train part, by number of interactions of the item."""
    shares, texts = {}, []
    for group in found.by_popularity:
        name = f"{group.least:,}" if group.least == group.most else f"{group.least:,}-{group.most:,}"
        share = group.cold / group.targets
        shares[f"{name} interaction{'s' if group.most > 1 else ''}"] = share
        texts.append(f"{percent(share)} of {group.targets:,}")
    return _bars(shares, texts)


def over_time(found: Timeline, counts: Sequence[int], what: str) -> Figure:
    """Counts by period."""
    figure, axes = _axes("", what)
    starts = np.array(found.starts, "datetime64[m]")
    width = starts[1] - starts[0] if len(starts) > 1 else np.timedelta64(1, "D")
    axes.stairs(counts, np.append(starts, starts[-1] + width), fill=True, color=BLUE)
    locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    _from_zero(axes, max(counts))
    return figure


def scripts(found: Mapping[str, Mapping[str, int]]) -> Figure:
    """Titles by script, for each column of titles."""
    if len(found) == 1:
        (by_script,) = found.values()
        return bars(by_script, sum(by_script.values()))
    named = {
        f"{column}: {script}": number for column, by_script in found.items() for script, number in by_script.items()
    }
    return bars(named, max(sum(by_script.values()) for by_script in found.values()))


def bars(numbers: Mapping[str, int], whole: int) -> Figure:
    """A horizontal bar for each number, with its share of ``whole``."""
    return _bars(numbers, [f"{number:,}  ({percent(number / whole)})" for number in numbers.values()])


def _bars(values: Mapping[str, float], texts: Sequence[str]) -> Figure:
    figure = Figure((_WIDTH / 72, (len(values) * _BAR_HEIGHT + _MARGIN) / 72), layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xticks([])
    axes.barh(range(len(values)), list(values.values()), 0.68, color=BLUE)
    axes.set_yticks(range(len(values)), [_cut(name) for name in values], fontsize=11)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(0, _ROOM_FOR_TEXT * max(values.values()) or 1)
    for position, (value, text) in enumerate(zip(values.values(), texts, strict=True)):
        end = axes.annotate(text, (value, position), (5, 0), textcoords="offset points")
        end.set(va="center", color=QUIET, fontsize=11)
    return figure


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    """An empty chart with named axes and a grid."""
    figure = Figure((_WIDTH / 72, _HEIGHT / 72), layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelcolor=QUIET)
    axes.set_xlabel(x, color=QUIET)
    axes.set_ylabel(y, color=QUIET)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    return figure, axes


def _from_zero(axes: Axes, most: float) -> None:
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=True).tick_values(0, max(1, most))
    axes.set_yticks(ticks)
    axes.set_ylim(0, ticks[-1])


def _logarithmic(axes: Axes, axis: str, low: float, high: float) -> None:
    """Make an axis logarithmic, with ticks at 1, 10, 100, ... or, over less than two decades, also at 2 and 5."""
    axes.set(**{f"{axis}scale": "log"})
    steps = (1,) if high >= 100 * low else (1, 2, 5)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [
        step * 10.0**power for power in powers for step in steps if low <= 1.01 * step * 10.0**power <= 1.02 * high
    ]
    getattr(axes, f"set_{axis}ticks")(ticks, [_short(tick) for tick in ticks])
    getattr(axes, f"set_{axis}lim")(low / 1.05, 1.05 * high)
    axes.minorticks_off()


def _short(number: float) -> str:
    """``number`` for an axis: 0.5, 20, 5k, 2.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
