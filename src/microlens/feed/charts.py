"""Charts of a feed as PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from microlens.feed.report import METRICS, FeedReport
from microlens.feed.simulation.simulate import Simulation
from microlens.page.charts import COLOURS, INK, QUIET, look, plain_axes, save_png


@look()
def draw_like_rates(simulations: Mapping[str, Simulation], path: Path) -> None:
    """Draw the like-rate by position for each model of one or several simulations, with 95 % intervals.

    Args:
        simulations: simulations by a name, which precedes that of the model if there are several.
        path: the PNG file to write.
    """
    figure = Figure((7, 3.6), layout="constrained")
    axes = figure.subplots()
    plain_axes(axes)
    number = 0
    for name, simulation in simulations.items():
        for model, curve in simulation.curves.items():
            label, colour = model if len(simulations) == 1 else f"{name}: {model}", COLOURS[number % len(COLOURS)]
            positions = range(1, len(curve) + 1)
            axes.fill_between(
                positions, [rate.low for rate in curve], [rate.high for rate in curve], color=colour, alpha=0.18, lw=0
            )
            axes.plot(positions, [rate.mean for rate in curve], color=colour, lw=2, label=label)
            number += 1
    axes.axhline(next(iter(simulations.values())).chance, color=QUIET, lw=1.4, ls=(0, (1, 2)), label="at random")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("videos watched", color=QUIET)
    axes.set_ylabel("like-rate", color=QUIET)
    axes.legend(frameon=False, labelcolor=INK)
    save_png(figure, path)


@look()
def draw_new_shares(simulations: Mapping[str, Simulation], path: Path) -> None:
    """Draw the share of new videos in what each arm chose, by the people of all simulations, one after the other.

    Args:
        simulations: simulations by a name, in their order, at least one with new videos.
        path: the PNG file to write.
    """
    figure = Figure((7, 3.6), layout="constrained")
    axes = figure.subplots()
    plain_axes(axes)
    arms = list(dict.fromkeys(_arm(model) for one in simulations.values() for model in one.new_shares))
    for number, arm in enumerate(arms):
        axes.plot([], [], **_line(number), label=arm)
    began = 0
    for simulation in simulations.values():
        for model, shares in simulation.new_shares.items():
            width = simulation.people / len(shares)
            points = [(began + (step + 0.5) * width, share) for step, share in enumerate(shares) if share is not None]
            axes.plot(*zip(*points, strict=True), **_line(arms.index(_arm(model))))
        began += simulation.people
        if began < sum(one.people for one in simulations.values()):
            axes.axvline(began, color=QUIET, lw=1.4, ls=(0, (1, 2)))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("people", color=QUIET)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_ylabel("share of new videos", color=QUIET)
    figure.legend(loc="outside upper left", ncols=len(arms), frameon=False, labelcolor=INK)
    save_png(figure, path)


def _arm(model: str) -> str:
    return model.partition("@")[0]


def _line(number: int) -> dict[str, Any]:
    """The line of an arm; every other one is dashed, so that two at the same height are both seen."""
    return {"color": COLOURS[number % len(COLOURS)], "lw": 2, "ls": (0, (3, 3)) if number % 2 else "-"}


@look()
def draw_arms(report: FeedReport, path: Path) -> None:
    """Draw the means of each arm with their 95 % intervals, one panel for each metric.

    Args:
        report: the report.
        path: the PNG file to write.
    """
    figure = Figure((7, 1.1 + 0.35 * len(report.arms)), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        plain_axes(axes, grid="x")
        axes.set_title(metric, color=INK)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for row, arm in enumerate(report.arms):
            found = arm.means[metric]
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [row, row], color=COLOURS[row % len(COLOURS)], lw=3)
            axes.plot(found.mean, row, "o", color=COLOURS[row % len(COLOURS)], ms=7)
    panels[0].set_yticks(range(len(report.arms)), [arm.name for arm in report.arms], color=INK)
    panels[0].set_ylim(len(report.arms) - 0.5, -0.5)
    save_png(figure, path)
