"""A chart of what new items cost known ones."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from microlens.page.charts import COLOURS, INK, QUIET, look, plain_axes, save_png


@look()
def draw_new_items(curves: Mapping[str, pl.DataFrame], path: Path, k: int = 10) -> None:
    """Draw hits on new items against hits on known ones, a line for each run; a dot marks the scores as they are.

    Args:
        curves: what :func:`microlens.new_item_curve` returns, by the names of runs.
        path: the PNG file to write.
        k: length of the lists, for the labels.
    """
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    plain_axes(axes)
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(curve["known"], curve["new"], color=colour, lw=2, label=name)
        as_it_is = curve.filter(pl.col("offset") == 0)
        axes.plot(as_it_is["known"], as_it_is["new"], "o", color=colour, ms=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=2))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"HR@{k} of known items", color=QUIET)
    axes.set_ylabel(f"HR@{k} of new items", color=QUIET)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=INK)
    save_png(figure, path)
