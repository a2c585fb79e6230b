"""Charts drawn by matplotlib: inline SVG, which scales, prints and uses the fonts of the page, and PNG files."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import rcParams, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator

from microlens.errors import InputError
from microlens.files.writing import atomic_write
from microlens.page.bars import Bar, percent

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, for colour-blind readers
_DOTS_PER_INCH = 160
INK, QUIET, RULE = "#1a2027", "#5a6672", "#dde2e7"  # colours of page.html
_LONGEST_LABEL = 20
_LINE_HEIGHT = 14
_MOST_WITH_VALUES = 4  # maximum number of bars in a group that leaves room for their values
_LEADER = {"arrowstyle": "-", "alpha": 0.55, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
_LOOK = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so the layout is the same on every machine
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,
    "figure.dpi": 72,  # one point is one unit of the drawing
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points joined by a line, or without ``xs`` a level line at ``ys``; ``marked`` is the index of the best point."""

    name: str
    colour: str
    ys: Sequence[float]
    xs: Sequence[float] = ()
    marked: int | None = None


@contextmanager
def look() -> Iterator[None]:
    """Apply the charts' style, independent of any matplotlibrc; glyphs missing in the font are left to the browser."""
    with style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


@look()
def line_chart(name: str, curves: Sequence[Curve], *, label: str, shares: bool = False) -> str:
    """A line chart over epochs, with each curve labelled at its end.

    Args:
        name: prefix of the ids in the drawing, unique on the page.
        curves: the curves; at least one has points.
        label: description for screen readers.
        shares: the values are fractions, drawn from 0 and labelled in percent.
    """
    values = [y for curve in curves for y in curve.ys]
    figure = Figure((440 / 72, 258 / 72), layout="constrained")
    axes = _axes(figure, 0.0 if shares else min(values), max(values), shares)
    last = int(max(x for curve in curves for x in curve.xs))
    inner = MaxNLocator(4, steps=[1, 2, 5, 10], integer=True).tick_values(0, last)
    axes.set_xticks(sorted({1, *(tick for tick in inner if 1 < tick < last - inner[1] / 2), last}))
    axes.set_xlim(1, max(2, last))
    axes.set_xlabel("epoch", color=QUIET)
    for number, curve in enumerate(curves, 1):
        _draw_curve(axes, f"{name}-{{}}-{number}", curve)
    texts = _name_ends(axes, f"{name}-{{}}-{{}}", curves)
    figure.draw_without_rendering()  # lays out room for the labels, before they are moved apart
    figure.set_layout_engine("none")
    low, high = axes.get_ylim()
    gap = _LINE_HEIGHT * (high - low) / axes.get_window_extent().height
    for text, height in zip(texts, _apart([curve.ys[-1] for curve in curves], low, high, gap), strict=True):
        text.set_y(height)
    return svg(figure, name, label)


@look()
def bar_chart(name: str, groups: Sequence[tuple[str, str, Sequence[Bar]]], *, chance: float, label: str) -> str:
    """Groups of bars with interval whiskers, and a dotted line at ``chance``.

    Args:
        name: prefix of the ids in the drawing, unique on the page.
        groups: for each group two lines of text below it, and its bars.
        chance: the fraction expected of random guessing.
        label: description for screen readers.
    """
    figure = Figure((860 / 72, 292 / 72), layout="constrained")
    axes = _axes(figure, 0.0, max([chance, *(bar.high for _, _, bars in groups for bar in bars)]), shares=True)
    axes.set_xticks(range(len(groups)), [first for first, _, _ in groups], color=INK)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    dots = axes.axhline(chance, color=QUIET, linewidth=1.6, linestyle=(0, (1, 2)), zorder=0.9)
    dots.set(gid=f"{name}-chance", label=f"chance: {percent(chance)} %")
    below = axes.get_xaxis_transform()
    for position, (_, second, bars) in enumerate(groups):
        axes.annotate(second, (position, 0), (0, -33), below, "offset points", color=QUIET, ha="center", va="baseline")
        width = min(0.35, 0.8 / max(1, len(bars)))
        for number, bar in enumerate(bars):
            middle = position + (number - (len(bars) - 1) / 2) * width
            gid = f"{name}-{{}}-{position + 1}-{number + 1}"
            _draw_bar(axes, gid, bar, middle, 0.92 * width, with_value=len(bars) <= _MOST_WITH_VALUES)
    return svg(figure, name, label)


def _axes(figure: Figure, low: float, high: float, shares: bool) -> Axes:
    """Empty axes with about four steps between round numbers that enclose ``low`` and ``high``."""
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.tick_params(length=0, pad=8, labelcolor=QUIET)
    high = round(high, 12) if high > low else low + (abs(low) or 1.0)  # an interval may end at 1.0000000000000002
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    axes.set_yticks(ticks, [f"{100 * tick:g} %" if shares else f"{tick:g}" for tick in ticks])
    axes.set_ylim(ticks[0], ticks[-1])
    return axes


def _draw_curve(axes: Axes, gid: str, curve: Curve) -> None:
    xs = curve.xs or axes.get_xlim()
    (line,) = axes.plot(xs, np.broadcast_to(curve.ys, len(xs)), color=curve.colour, linewidth=2)
    line.set(gid=gid.format("curve"), label=curve.name, linestyle="-" if curve.xs else (0, (3.5, 2)))
    if curve.marked is not None:
        x, y = xs[curve.marked], curve.ys[curve.marked]
        (ring,) = axes.plot(x, y, "o", color=curve.colour, mfc="white", markersize=9, mew=2.5, zorder=3)
        ring.set(gid=gid.format("best"), label=f"{curve.name}, best epoch {x:g}")


def _name_ends(axes: Axes, gid: str, curves: Sequence[Curve]) -> list[Annotation]:
    texts = []
    for number, curve in enumerate(curves, 1):
        end = curve.ys[-1]
        short = curve.name if len(curve.name) <= _LONGEST_LABEL else curve.name[: _LONGEST_LABEL - 1] + "…"
        leader = {**_LEADER, "color": curve.colour}
        anchor = ((curve.xs or axes.get_xlim())[-1], end), (1.03, end), "data", axes.get_yaxis_transform()
        texts.append(axes.annotate(short, *anchor, leader, annotation_clip=False, va="center_baseline"))
        texts[-1].set(gid=gid.format("name", number), label=curve.name)
    return texts


def _apart(wanted: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Positions near ``wanted``, in the same order, at least ``gap`` apart, within ``low`` and ``high`` if they fit."""
    order, steps = np.argsort(wanted, kind="stable"), gap * np.arange(len(wanted))
    raised = np.maximum.accumulate(np.asarray(wanted)[order] - steps)
    heights = np.empty(len(wanted))
    heights[order] = np.clip(raised, low, high - steps[-1]) + steps
    return heights.tolist()


def _draw_bar(axes: Axes, gid: str, bar: Bar, middle: float, width: float, with_value: bool) -> None:
    (block,) = axes.bar(middle, bar.value, width, color=bar.colour)
    centre, half = (bar.low + bar.high) / 2, (bar.high - bar.low) / 2
    whisker = axes.errorbar(middle, centre, half, fmt="none", ecolor=INK, elinewidth=1.3, capsize=3.5)
    says = f"{bar.name}: {percent(bar.value)} % ({percent(bar.low)} to {percent(bar.high)})"
    block.set(gid=gid.format("bar"), label=says)
    whisker.lines[2][0].set(gid=gid.format("whisker"), label=says)
    if with_value:
        text = axes.annotate(percent(bar.value), (middle, bar.high), (0, 5), "data", "offset points", fontsize=11)
        text.set(gid=gid.format("value"), ha="center", annotation_clip=False)


def svg(figure: Figure, name: str, label: str) -> str:
    """The SVG of a figure without matplotlib's header and ids; labels of parts with a gid become their titles."""
    rcParams["svg.hashsalt"] = name
    for part in figure.findobj():
        part.set_clip_on(False)  # a ring at the edge is drawn in full
    written = StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = re.sub(r'<g id="[\w.]+_\d+"', "<g", text[text.index('<g id="figure_1"') :])
    for part in figure.findobj(lambda artist: bool(artist.get_gid()) and bool(artist.get_label())):
        opening = f'<g id="{part.get_gid()}">'
        text = text.replace(opening, f"{opening}<title>{escape(str(part.get_label()))}</title>")
    width, height = figure.get_size_inches() * 72
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{text}'


def plain_axes(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Remove frame and ticks, and draw grid lines behind the data."""
    axes.spines[:].set_visible(False)
    axes.grid(axis=grid, color=RULE, lw=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=QUIET)


def save_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG file.

    Raises:
        InputError: ``path`` does not end with .png.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} does not end with .png; charts are written as PNG.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, facecolor="white")
