"""The scaling study of MicroLens-50K as a table for docs/results.md, and drawn.

    python results/scaling/report.py [PICTURE]

Prints a row for every trained model. With a picture's name, draws validation HR@10 against D, the length of the history
and the share of users, by epoch, and against the seconds of training, with the models that no other is ahead of.
"""

import json
import sys
from pathlib import Path
from typing import Any

from study import BASE, ENCODERS, GROWN, GROWN_OF, RESULTS

CURVE = "valid HR@10 by epoch"
COLOURS = dict(zip(ENCODERS, ("#2b6cb0", "#9aa5b0", "#b7791f", "#c53030", "#2f855a"), strict=True))
LABELS = {
    "dim": "D",
    "history": "items of the history that the model reads",
    "share": "share of the users that it is trained on",
}

Row = dict[str, Any]


def table(rows: list[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| items are | D | history | users | valid HR@10 | NDCG@10 | epochs (best) | seconds | parameters |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    front = pareto(rows)
    for row in sorted(rows, key=order):
        hits, mark = f"{100 * row['valid']['HR@10']:.2f}", "**" if row in front else ""
        lines.append(
            f"| {row['encoder']} | {row['dim']} | {row['history']} | {100 * row['share']:.0f} % | {mark}{hits}{mark} | "
            f"{100 * row['valid']['NDCG@10']:.2f} | {len(row[CURVE])} ({row['best_epoch']}) | {row['seconds']:.0f} | "
            f"{row['parameters'] / 1e6:.2f} M |"
        )
    return "\n".join(lines) + "\n"


def order(row: Row) -> tuple[Any, ...]:
    """By encoder, and then by the quantity that differs from the base."""
    return list(ENCODERS).index(row["encoder"]), [(list(BASE).index(name), row[name]) for name in changed(row)]


def changed(row: Row) -> list[str]:
    """The quantities that differ from the base: one, or none."""
    return [name for name, value in BASE.items() if row[name] != value]


def pareto(rows: list[Row]) -> list[Row]:
    """The rows that no other is at least as good as in both HR@10 and seconds, fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["seconds"], -row["valid"]["HR@10"])):
        if not front or row["valid"]["HR@10"] > front[-1]["valid"]["HR@10"]:
            front.append(row)
    return front


def draw(rows: list[Row], picture: Path) -> None:
    """Three quantities, the epochs, and the front."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 6.6), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    for column, quantity in enumerate(GROWN):
        axes = figure.add_subplot(grid[0, column])
        for encoder in GROWN_OF:
            _draw_quantity(axes, [row for row in rows if row["encoder"] == encoder], quantity)
        ticks = sorted((BASE[quantity], *GROWN[quantity]))
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.set_ylim(bottom=0, top=11)
        axes.set_xlabel(LABELS[quantity], fontsize=9)
    axes = figure.add_subplot(grid[1, 0])
    for row in rows:
        if not changed(row):
            curve = [100 * value for value in row[CURVE]]
            axes.plot(range(1, len(curve) + 1), curve, color=COLOURS[row["encoder"]], label=row["encoder"])
    axes.set_xlabel("epoch", fontsize=9)
    _draw_front(figure.add_subplot(grid[1, 1:]), rows)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e3e7eb")
        axes.tick_params(labelsize=8)
    for axes in (figure.axes[0], figure.axes[3]):
        axes.set_ylabel("HR@10 on validation, percent", fontsize=9)
    figure.legend(
        *figure.axes[3].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=9, frameon=False
    )
    figure.savefig(picture, dpi=100)


def _draw_quantity(axes: Any, rows: list[Row], quantity: str) -> None:
    """HR@10 against one quantity, the others as in the base."""
    others = {name: value for name, value in BASE.items() if name != quantity}
    chosen = [row for row in rows if all(row[name] == value for name, value in others.items())]
    chosen.sort(key=lambda row: row[quantity])
    values = [row[quantity] for row in chosen]
    axes.plot(values, [100 * row["valid"]["HR@10"] for row in chosen], marker="o", color=COLOURS[chosen[0]["encoder"]])
    axes.set_xscale("log", base=2)
    axes.minorticks_off()


def _draw_front(axes: Any, rows: list[Row]) -> None:
    """HR@10 against seconds, and a line through the front."""
    for row in rows:
        axes.scatter(row["seconds"], 100 * row["valid"]["HR@10"], color=COLOURS[row["encoder"]], s=22, zorder=3)
    front = pareto(rows)
    axes.plot(
        [row["seconds"] for row in front], [100 * row["valid"]["HR@10"] for row in front],
        color="#4a5568", linewidth=1, drawstyle="steps-post",
    )  # fmt: skip
    for row in front:
        label = ", ".join(f"{name} {row[name]:g}" for name in changed(row)) or "base"
        axes.annotate(
            label, (row["seconds"], 100 * row["valid"]["HR@10"]),
            xytext=(-5, 3), textcoords="offset points", fontsize=7, ha="right",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("seconds of training, one core", fontsize=9)


def main() -> None:
    """Print the table, and draw it if a picture is named."""
    rows = json.loads(RESULTS.read_text())["rows"]
    sys.stdout.write(table(rows))
    if len(sys.argv) > 1:
        draw(rows, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
