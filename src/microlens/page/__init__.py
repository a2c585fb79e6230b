"""A self-contained HTML page that compares finished runs by accuracy, cost and example users."""

from collections.abc import Mapping
from html import escape
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from microlens.data.protocol import described
from microlens.data.split import Split
from microlens.errors import InputError, printable
from microlens.evaluation.report import Report
from microlens.files.writing import write_text
from microlens.page.comparison import chance, open_data, read_runs
from microlens.page.html_tables import accuracy_table, cost_table, provenance
from microlens.page.overview import panels, verdict
from microlens.page.users import users_section

__all__ = ["fill", "require_charts", "write_page"]


def require_charts() -> None:
    """Check that charts can be drawn, before the work whose results they show.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError("HTML pages need the package matplotlib; install it with: pip install 'microlens[html]'")


def write_page(path: Path, runs: list[Path], dataset: Path | None = None) -> None:
    """Write a self-contained HTML page that compares the run folders ``runs``.

    Args:
        path: the HTML file.
        runs: run folders on the same data.
        dataset: the dataset, if it is not where :func:`microlens.runs.dataset_location.find_dataset` looks.

    Raises:
        InputError: matplotlib is not installed; ``path`` is a folder; there are no runs or more than the page has
            colours for; one is unfinished or its data gone; or they differ in protocol or data.
    """
    require_charts()
    from microlens.page.figures import group_figure, training_figures  # matplotlib: only pages need it

    if path.is_dir():
        raise InputError(f"{path} is a folder; name the HTML file to write.")
    compared = read_runs(runs)
    data, split = open_data(compared[0], dataset)
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


def fill(path: Path, template: str, values: Mapping[str, str]) -> None:
    """Render a template of this package with values and the common head, and write it."""
    folder = resources.files("microlens.page")
    head, text, style = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("head.html", template, "style.css")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    filled = Template(text).substitute(values, head=Template(head).substitute(values, style=style))
    write_text(path, printable(filled))


def _compared(report: Report, split: Split) -> str:
    protocol = report.protocol
    required = f" Items without {' or '.join(protocol['require'])} are left out." if protocol["require"] else ""
    return (
        f"Runs on {escape(report.dataset)}, {split.num_users:,} users, {split.num_items:,} items and "
        f"{split.num_events:,} interactions: each reads what a user has watched and ranks what they might watch next. "
        f"{escape(described(protocol))}{required} "
        f"Protocol <code>{escape(protocol['hash'])}</code>."
    )
