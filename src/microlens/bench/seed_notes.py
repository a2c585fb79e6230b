"""The notes of a table on what its intervals and tests are over."""

from typing import Any

from microlens.evaluation.significance import FEWEST_SEEDS, LEVEL, enough_seeds

Row = dict[str, Any]


def interval_notes(results: dict[str, Any]) -> list[str]:
    """What brackets and stars of a table mean, and why rows have no star."""
    rows = results["rows"]
    if any("depends_on_seed" not in row for row in rows):
        return [
            "Brackets: 95 % intervals over users alone, by an earlier version of microlens bench. They leave out how "
            "much another seed would change a row, so no difference is marked as significant."
        ]
    lines = _brackets(rows)
    differences = [row["difference"] for row in rows if row["difference"]]
    if differences:
        lines += [
            "Differences are between the same users, with their 95 % interval; * marks significant ones "
            f"(p < {LEVEL}) in a t-test over users and seeds with Holm's correction for the number of tested rows.",
            *_untested(rows, {found["against"] for found in differences}),
        ]
    return lines


def _brackets(rows: list[Row]) -> list[str]:
    lines = ["Brackets: 95 % intervals over users and seeds; a deterministic row is the same for every seed."]
    if any(row["deviation"] for row in rows):
        lines.append("Rows with several seeds are means over seeds; the deviation is that between seeds.")
    if any(row["depends_on_seed"] and len(row["seeds"]) == 1 for row in rows):
        lines.append(
            "Rows with one seed: intervals over users only, which leave out how much another seed would change the row."
        )
    return lines


def _untested(rows: list[Row], references: set[str]) -> list[str]:
    few = [row for row in rows if not enough_seeds(len(row["seeds"]), row["depends_on_seed"])]
    lines = [
        f"Nothing is tested against {row['name']}, which has {_seeds(row)} of the {FEWEST_SEEDS} that a test needs."
        for row in few
        if row["name"] in references
    ]
    if any(row["difference"] for row in few):
        lines.append(f"Rows with fewer than {FEWEST_SEEDS} seeds are not tested and have no *.")
    return lines


def _seeds(row: Row) -> str:
    return "1 seed" if len(row["seeds"]) == 1 else f"{len(row['seeds'])} seeds"
