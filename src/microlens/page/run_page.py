"""The page that compares finished runs."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from microlens.data.protocol import described
from microlens.data.split import Split
from microlens.evaluation.report import Report
from microlens.page import fill, require_page
from microlens.page.comparison import chance, open_data, read_runs
from microlens.page.html_tables import accuracy_table, cost_table, provenance
from microlens.page.overview import panels, verdict
from microlens.page.users import users_section


def write_page(path: str | Path, runs: Sequence[str | Path], dataset: str | Path | None = None) -> None:
    """Write a self-contained HTML page that compares the run folders ``runs``.

    Args:
        path: the HTML file.
        runs: run folders on the same data.
        dataset: the dataset, if it is not where :func:`microlens.runs.dataset_location.find_dataset` looks.

    Raises:
        InputError: matplotlib is not installed; ``path`` is a folder; there are no runs or more than the page has
            colours for; one is unfinished or its data gone; or they differ in protocol or data.
    """
    path, folders = Path(path), [Path(run) for run in runs]
    require_page(path)
    from microlens.page.figures import group_figure, training_figures  # matplotlib: only pages need it

    compared = read_runs(folders)
    data, split = open_data(compared[0], None if dataset is None else Path(dataset))
    guess = chance(split)
    values = {
        "title": f"{escape(compared[0].report.dataset)}: which run recommends best",
        "compared": _compared(compared[0].report, split),
        "verdict": verdict(compared, guess),
        "panels": panels(compared, split, guess),
        "accuracy": accuracy_table(compared, guess),
        "cost": cost_table(compared),
        "curves": training_figures([run.training for run in compared]),
        "groups": group_figure(compared, guess),
        "users": users_section(compared, data, split),
        "provenance": provenance(compared),
    }
    fill(path, "page.html", values)


def _compared(report: Report, split: Split) -> str:
    protocol = report.protocol
    required = f" Items without {' or '.join(protocol['require'])} are left out." if protocol["require"] else ""
    return (
        f"Runs on {escape(report.dataset)}, {split.num_users:,} users, {split.num_items:,} items and "
        f"{split.num_events:,} interactions: each reads what a user has watched and ranks what they might watch next. "
        f"{escape(described(protocol))}{required} "
        f"Protocol <code>{escape(protocol['hash'])}</code>."
    )
