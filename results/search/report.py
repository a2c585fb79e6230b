"""The search of MicroLens-50K as a table for docs/results.md, and drawn.

    python results/search/report.py [PICTURE]

Prints a row for every searched model: its trials, their minutes, the best validation HR@10 and the settings that
reached it. With a picture's name, draws the validation HR@10 of every trial by epoch.
"""

import json
import sys
from pathlib import Path
from typing import Any

from run import BUDGETS, METRIC, RESULTS
from write_configs import rounded, settings_of, winner

COLUMNS, WIDTH, HEIGHT = 4, 11.0, 1.9
BEST, OTHER = "#2b6cb0", "#9aa5b0"


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The table in Markdown."""
    lines = [
        "| configuration | trials, of which pruned | minutes | best valid HR@10 (epoch, most) | its settings |",
        "|---|---:|---:|---:|---|",
    ]
    for row in BUDGETS:
        trials = rows[row]
        if not trials:
            continue
        best = winner(trials)
        curve = best[METRIC]
        settings = ", ".join(f"{name.partition('.')[2]} {rounded(value)}" for name, value in settings_of(best).items())
        pruned = sum(trial["state"] == "pruned" for trial in trials)
        minutes = sum(trial["seconds"] for trial in trials) / 60
        lines.append(
            f"| `{row}` | {len(trials)}, {pruned} | {minutes:.0f} | {100 * max(curve):.2f} "
            f"({1 + curve.index(max(curve))}, {BUDGETS[row]['epochs']}) | {settings} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: dict[str, list[dict[str, Any]]], picture: Path) -> None:
    """All trials of every row by epoch; the best one in colour."""
    from matplotlib import pyplot

    searched = [row for row in BUDGETS if rows[row]]
    lines = -(-len(searched) // COLUMNS)
    figure, grid = pyplot.subplots(lines, COLUMNS, figsize=(WIDTH, HEIGHT * lines), sharex=True, sharey=True)
    for axes in grid.flat:
        axes.set_visible(False)
    for number, (row, axes) in enumerate(zip(searched, grid.flat, strict=False)):
        axes.set_visible(True)
        best = winner(rows[row])
        for trial in sorted(rows[row], key=lambda trial: trial is best):
            curve = [100 * value for value in trial[METRIC]]
            look = {"color": BEST, "linewidth": 2} if trial is best else {"color": OTHER, "linewidth": 1}
            axes.plot(range(1, len(curve) + 1), curve, marker="o", markersize=2, **look)
        axes.set_title(f"{row}: {100 * max(best[METRIC]):.2f}", fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e3e7eb")
        axes.set_xticks((1, 5, 10, 15))
        axes.tick_params(labelsize=8, labelbottom=number + COLUMNS >= len(searched))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("HR@10 on validation, percent", fontsize=9)
    figure.tight_layout()
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Print the table, and draw the trials if a picture is named."""
    rows = json.loads(RESULTS.read_text())["rows"]
    sys.stdout.write(table(rows))
    if len(sys.argv) > 1:
        draw(rows, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
