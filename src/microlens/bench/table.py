"""A table of runs: trained where runs are missing, collected, and written in every format."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from numbers import Real
from pathlib import Path
from typing import Any

import polars as pl

from microlens.bench.formats import FORMATS, markdown
from microlens.bench.reading import Choices, dataset_folder, read_bench
from microlens.bench.results import collect, write_json
from microlens.bench.rows import MOST_SEEDS, Bench
from microlens.bench.runner import OnRow, Runner
from microlens.bench.sheets import Sheet, sheets
from microlens.building import listed
from microlens.counts import checked_count
from microlens.data.dataset import Dataset
from microlens.errors import InputError, printable, shown
from microlens.files.writing import write_text
from microlens.page import require_charts
from microlens.runs.display import row_display
from microlens.runs.terminal import Console


@dataclass(frozen=True, kw_only=True)
class Table:
    """A finished table.

    ``results`` is the content of its JSON file, ``sheets`` what is printed, ``path`` where it was written, without a
    suffix, ``written`` the suffixes, and ``failed`` the last line of each run that failed, by name.
    """

    results: dict[str, Any]
    sheets: list[Sheet]
    path: Path
    written: list[str]
    failed: dict[str, str]

    @property
    def frame(self) -> pl.DataFrame:
        """The test metrics of every row over all targets, as shares between 0 and 1: columns group, row, metrics."""
        rows = self.results["rows"]
        return pl.DataFrame([{"group": row["group"], "row": row["name"], **row["test"]["all"]} for row in rows])

    def __repr__(self) -> str:
        return markdown(self.sheets)

    def _repr_html_(self) -> str:
        return "".join(_html(sheet) for sheet in self.sheets)


def _html(sheet: Sheet) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(
        line([group], "th") + "".join(line(row, "td") for row in rows) for group, rows in sheet.groups.items()
    )
    return f"<h4>{escape(sheet.title)}</h4><table>{line(['', *sheet.columns], 'th')}{body}</table>"


def table(
    name: str,
    data: Dataset | str | Path,
    *,
    configs: str | Path | None = None,
    output: str | Path | None = None,
    only: Sequence[str] = (),
    against: str | None = None,
    source: str | Path | None = None,
    seeds: int = 1,
    protocol: str = "paper",
    jobs: int = 1,
    minutes: float | None = None,
    smoke: bool = False,
    mix: bool = False,
    html: bool = False,
    progress: bool = False,
) -> Table:
    """Train the rows of a table that are missing, each in its own process, and compare them.

    Args:
        name: a table of this package, such as "baseline".
        data: a prepared dataset, its folder, or its name in ``datasets/``.
        configs: the folder of the rows' configurations; ``configs/`` and the dataset's name by default.
        output: the folder of runs and tables; ``runs/bench/`` and the dataset's name by default.
        only: names of the rows wanted; all by default. The files are named NAME-some-rows.
        against: the row that the others are compared with, in place of the table's own.
        source: the prepared dataset that rows of the table "transfer" start from.
        seeds: runs of each row, at most 10.
        protocol: a name of :data:`microlens.data.protocol.NAMED_PROTOCOLS`, for all rows.
        jobs: runs trained at once.
        minutes: stop after so long; the same call again resumes.
        smoke: one epoch of small vectors a row, to see that everything works. The files are named NAME-smoke.
        mix: accept rows of different protocols, which the table then says.
        html: write a page, too.
        progress: show a bar over the rows.

    Raises:
        InputError: an argument is wrong, or rows failed; what did not fail is written.
    """
    seeds, jobs = checked_count("seeds", seeds, MOST_SEEDS), checked_count("jobs", jobs)
    if minutes is not None:
        _check_minutes(minutes)
    choices = Choices(
        configs=None if configs is None else Path(configs),
        output=None if output is None else Path(output),
        only=tuple(only),
        against=against,
        source=None if source is None else Path(source),
        seeds=seeds,
        protocol=protocol,
        smoke=smoke,
        mix=mix,
    )
    folder = data.folder if isinstance(data, Dataset) else dataset_folder(str(data))
    bench = read_bench(name, folder, choices)
    with row_display(Console(quiet=not progress), len(bench.jobs())) as on_row:
        made = make_table(bench, jobs=jobs, minutes=minutes, html=html, on_row=on_row)
    if made.failed:
        raise failed_rows([f"{row} of {name}" for row in made.failed])
    return made


def _check_minutes(minutes: Any) -> None:
    if not isinstance(minutes, Real) or isinstance(minutes, bool) or not float(minutes) > 0:  # also rejects NaN
        raise InputError(f"minutes is {shown(minutes)}; it must be a number above 0, or None for no limit.")


def make_table(bench: Bench, *, jobs: int, minutes: float | None, html: bool, on_row: OnRow) -> Table:
    """Train what is missing of ``bench``, collect the results, and write them in every format."""
    if html:
        require_charts()
    failed = Runner(bench, jobs=jobs, on_row=on_row, seconds=None if minutes is None else 60 * minutes).run()
    results = collect(bench, failed)
    found = sheets(results)
    write_json(bench.path.with_suffix(".json"), results)
    for ending, form in FORMATS.items():
        write_text(bench.path.with_suffix(f".{ending}"), printable(form(found)))
    written = ["json", *FORMATS]
    if html:
        from microlens.bench.page import write_table_page

        write_table_page(bench.path.with_suffix(".html"), bench, results)
        written.append("html")
    return Table(results=results, sheets=found, path=bench.path, written=written, failed=failed)


def failed_rows(names: Sequence[str]) -> InputError:
    """The error that names the rows that failed."""
    return InputError(f"{len(names)} rows failed ({listed(names)}); log.txt in their folders says why.")
