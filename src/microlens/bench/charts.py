"""The charts of a table's page: all rows with intervals, and accuracy against cost."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from microlens.page.charts import INK, QUIET, RULE, look, svg

Row = dict[str, Any]
_ROW_HEIGHT = 22
_OTHER = "#9aa5b0"


@look()
def forest(rows: Sequence[Row], colours: dict[str, str], reference: str | None) -> str:
    """Test HR@10 of all rows with intervals, by group; the paper's values are diamonds, the reference is a line.

    Args:
        rows: the rows of a table's JSON.
        colours: colours of the rows that other charts show, too.
        reference: the row whose value is drawn as a line through all rows, or None.
    """
    lines: list[Row | str] = []
    for row in rows:
        if row["group"] not in lines:
            lines.append(row["group"])
        lines.append(row)
    figure = Figure((860 / 72, (len(lines) * _ROW_HEIGHT + 46) / 72), layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=QUIET)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), ["" if isinstance(line, str) else line["name"] for line in lines], color=INK)
    for index, line in enumerate(lines):
        if isinstance(line, str):
            left = axes.annotate(line, (0, index), (4, 0), axes.get_yaxis_transform(), "offset points", va="center")
            left.set(fontweight="bold", color=INK)
        else:
            _draw_row(figure, index, line, colours.get(line["name"], _OTHER))
    named = next((row for row in rows if row["name"] == reference), None)
    if named is not None:
        value = 100 * named["test"]["all"]["HR@10"]
        axes.axvline(value, color=QUIET, linewidth=1.4, linestyle=(0, (1, 2)), zorder=0.9)
    axes.set_xlim(left=0)
    axes.set_xlabel("HR@10, percent of users", color=QUIET)
    return svg(figure, "forest", "HR@10 of every row with its interval")


def _draw_row(figure: Figure, index: int, row: Row, colour: str) -> None:
    (axes,) = figure.axes
    value = 100 * row["test"]["all"]["HR@10"]
    low, high = (100 * end for end in row["intervals"]["all"]["HR@10"])
    axes.plot([low, high], [index, index], color=colour, linewidth=3.5, solid_capstyle="butt")
    (dot,) = axes.plot(value, index, "o", color=colour, markersize=7, zorder=3)
    dot.set(gid=f"forest-row-{index}", label=f"{row['name']}: {value:.2f} % ({low:.2f} to {high:.2f})")
    published = (row["published"] or {}).get("HR@10")
    if published is not None:
        (diamond,) = axes.plot(100 * published, index, "D", color=INK, mfc="white", markersize=5.5, mew=1.2)
        diamond.set(gid=f"forest-paper-{index}", label=f"{row['name']}, the paper: {100 * published:.2f} %")


def front(rows: Sequence[Row]) -> list[Row]:
    """The Pareto front: the rows that no row of equal or lower cost equals or beats, cheapest first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["cost"]["seconds"], -row["test"]["all"]["HR@10"])):
        if not best or row["test"]["all"]["HR@10"] > best[-1]["test"]["all"]["HR@10"]:
            best.append(row)
    return best


@look()
def pareto(rows: Sequence[Row], colours: dict[str, str]) -> str:
    """Test HR@10 over seconds of training, with the Pareto front.

    Args:
        rows: the rows of a table's JSON.
        colours: colours of the rows that other charts show, too.
    """
    figure = Figure((860 / 72, 380 / 72), layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.grid(color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=QUIET)
    axes.set_xscale("symlog", linthresh=0.1)
    points = {row["name"]: (row["cost"]["seconds"], 100 * row["test"]["all"]["HR@10"]) for row in rows}
    on_front = [row["name"] for row in front(rows)]
    axes.step(*zip(*(points[name] for name in on_front), strict=True), where="post", color=QUIET, linewidth=1.2)
    for number, (name, point) in enumerate(points.items()):
        (dot,) = axes.plot(*point, "o", color=colours.get(name, _OTHER), markersize=8)
        dot.set(gid=f"pareto-{number}", label=f"{name}: {point[1]:.2f} % after {point[0]:,.1f} s")
        if name in on_front:
            axes.annotate(name, point, (-6, 7), textcoords="offset points", ha="right", fontsize=11)
    ticks = [0, *(10**power for power in range(-1, 7) if 10**power <= 2 * max(1, *(x for x, _ in points.values())))]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.1 * max(y for _, y in points.values()) or 1)
    axes.set_xlim(-0.05)
    axes.set_xlabel("seconds of training", color=QUIET)
    axes.set_ylabel("HR@10, percent", color=QUIET)
    return svg(figure, "pareto", "HR@10 over seconds of training")
