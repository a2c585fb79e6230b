"""Charts as inline SVG: a few lines of markup that scale, print, and take their fonts from the page around them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours that stand out on white, less the green that marks targets."""

_CHARACTER = 6.4  # average width of a letter at the charts' font size
_LONGEST_LABEL = 20
_LINE_HEIGHT = 14
_ROOM_FOR_VALUE = 27  # a bar at least this wide carries its value


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points joined by a line; ``marked`` is the position of the one to stand out. Without points, ``level`` is drawn.

    ``xs`` and ``ys`` are equally long.
    """

    name: str
    colour: str
    xs: Sequence[float] = ()
    ys: Sequence[float] = ()
    marked: int | None = None
    level: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A share with its interval."""

    name: str
    colour: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Frame:
    """From data to the drawing's coordinates."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


def percent(share: float) -> str:
    """A share as a reader says it: 41.2, 0.31, 0; without the sign."""
    value = 100 * share
    if value == 0:
        return "0"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers whose first is at most ``low`` and whose last is at least ``high``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def line_chart(curves: Sequence[Curve], *, label: str, shares: bool = False) -> str:
    """Curves over epochs, each named at its end.

    Args:
        curves: at least one of them with points.
        label: what a screen reader says.
        shares: the values are shares, drawn from 0 and labelled in percent.
    """
    values = [y for curve in curves for y in (*curve.ys, *([] if curve.level is None else [curve.level]))]
    y_ticks = nice_ticks(0.0 if shares else min(values), max(values))
    x_ticks = _whole_ticks(max(x for curve in curves for x in curve.xs))
    room = 16 + _CHARACTER * max(len(_short(curve.name)) for curve in curves)
    frame = _Frame(44, 440 - room, 12, 216, (1, max(2, x_ticks[-1])), (y_ticks[0], y_ticks[-1]))
    body = [_grid(frame, y_ticks, shares)]
    body += [f'<text class="tick" x="{frame.x(tick)}" y="234" text-anchor="middle">{tick}</text>' for tick in x_ticks]
    middle = (frame.left + frame.right) / 2
    body.append(f'<text class="tick" x="{middle:.1f}" y="252" text-anchor="middle">epoch</text>')
    ends = [frame.y(curve.level if curve.level is not None else curve.ys[-1]) for curve in curves]
    for curve, end, name_at in zip(curves, ends, _apart(ends, frame.top, frame.bottom), strict=True):
        body.append(_curve(frame, curve, end, name_at))
    return _svg(440, 258, label, body)


def bar_chart(groups: Sequence[tuple[str, str, Sequence[Bar]]], *, chance: float, label: str) -> str:
    """Groups of bars with interval whiskers, and a dashed line at ``chance``.

    Args:
        groups: the two lines under each group, and its bars.
        chance: the share that guessing would have.
        label: what a screen reader says.
    """
    ticks = nice_ticks(0.0, max([chance, *(bar.high for _, _, bars in groups for bar in bars)]))
    frame = _Frame(40, 860, 22, 250, (0, len(groups)), (0.0, ticks[-1]))
    dots = f'<path class="chance" d="M{frame.left} {frame.y(chance)}H{frame.right}"/>'
    body = [_grid(frame, ticks, shares=True), dots]
    for number, (first, second, bars) in enumerate(groups):
        left, right = frame.x(number + 0.1), frame.x(number + 0.9)
        middle = (left + right) / 2
        body.append(f'<text x="{middle:.1f}" y="268" text-anchor="middle">{escape(first)}</text>')
        body.append(f'<text class="tick" x="{middle:.1f}" y="284" text-anchor="middle">{escape(second)}</text>')
        width = min(48.0, (right - left) / max(1, len(bars)))
        start = middle - width * len(bars) / 2
        body += [_bar(frame, bar, start + width * place, width) for place, bar in enumerate(bars)]
    return _svg(860, 292, label, body)


def _curve(frame: _Frame, curve: Curve, end: float, name_at: float) -> str:
    if curve.level is not None:
        line = f'<path class="level" d="M{frame.left} {end}H{frame.right}" stroke="{curve.colour}"/>'
        last = frame.right
    else:
        points = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in zip(curve.xs, curve.ys, strict=True))
        line = f'<polyline class="curve" points="{points}" stroke="{curve.colour}"/>'
        last = frame.x(curve.xs[-1])
    if curve.marked is not None:
        x, y = curve.xs[curve.marked], curve.ys[curve.marked]
        line += (
            f'<circle class="best" cx="{frame.x(x)}" cy="{frame.y(y)}" r="4.5" stroke="{curve.colour}">'
            f"<title>best epoch {x:g}</title></circle>"
        )
    elif len(curve.xs) == 1:
        line += f'<circle cx="{last}" cy="{end}" r="3" fill="{curve.colour}"/>'
    leader = f'<path class="leader" d="M{last} {end}L{frame.right + 8:.1f} {name_at:.1f}" stroke="{curve.colour}"/>'
    name = f'<text x="{frame.right + 11:.1f}" y="{name_at + 4:.1f}">{escape(_short(curve.name))}</text>'
    return f'<g data-run="{escape(curve.name)}"><title>{escape(curve.name)}</title>{leader}{line}{name}</g>'


def _bar(frame: _Frame, bar: Bar, left: float, width: float) -> str:
    top, low, high, middle = frame.y(bar.value), frame.y(bar.low), frame.y(bar.high), left + width / 2
    says = f"{bar.name}: {percent(bar.value)} % ({percent(bar.low)} to {percent(bar.high)})"
    parts = [
        f'<g data-run="{escape(bar.name)}"><title>{escape(says)}</title>',
        f'<rect x="{left + 1.5:.1f}" y="{top}" width="{width - 3:.1f}" height="{frame.bottom - top:.1f}" '
        f'fill="{bar.colour}"/>',
        f'<path class="whisker" d="M{middle:.1f} {low}V{high}m-3.5 0h7M{middle - 3.5:.1f} {low}h7"/>',
    ]
    if width >= _ROOM_FOR_VALUE:
        parts.append(f'<text class="value" x="{middle:.1f}" y="{high - 5:.1f}">{percent(bar.value)}</text>')
    return "".join([*parts, "</g>"])


def _grid(frame: _Frame, ticks: Sequence[float], shares: bool) -> str:
    parts = []
    for tick in ticks:
        y, text = frame.y(tick), f"{100 * tick:g} %" if shares else f"{tick:g}"
        parts.append(f'<path class="grid" d="M{frame.left} {y}H{frame.right}"/>')
        parts.append(f'<text class="tick" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _whole_ticks(last: float) -> list[int]:
    """The first epoch, round numbers, and the last epoch, none too close to another."""
    step = max(1, round(nice_ticks(0.0, last)[1]))
    inner = [number for number in range(step, int(last), step) if number > 1 and last - number > step / 2]
    return sorted({1, *inner, int(last)})


def _apart(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Heights near ``wanted``, in the same order, a line apart from each other and within the chart if they fit."""
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    heights = list(wanted)
    lowest = top - _LINE_HEIGHT
    for place in order:
        lowest = heights[place] = max(heights[place], lowest + _LINE_HEIGHT)
    limit = bottom + _LINE_HEIGHT
    for place in reversed(order):
        limit = heights[place] = min(heights[place], limit - _LINE_HEIGHT)
    return heights


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"


def _svg(width: int, height: int, label: str, body: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'
