"""Training, printing and writing tables of runs on the command line."""

from microlens.bench.demonstration import demonstration
from microlens.bench.reading import Choices, dataset_folder, read_bench, table_names
from microlens.bench.sheets import fitting
from microlens.bench.table import Table, failed_rows, make_table
from microlens.cli.terminal_tables import sheet_table
from microlens.errors import InputError
from microlens.page import require_charts
from microlens.runs.display import row_display
from microlens.runs.terminal import Console, uncut


def run_tables(
    table: str,
    dataset: str,
    choices: Choices,
    *,
    console: Console,
    jobs: int = 1,
    minutes: float | None = None,
    source: str | None = None,
    page: bool = False,
) -> None:
    """Train the missing rows of a table, or of all tables; print each table and write it in every format.

    Args:
        table: name of a table, or "all".
        dataset: a prepared dataset, its name in ``datasets/``, or "demo" or "smoke", which are created if missing.
        choices: see :class:`microlens.bench.Choices`; its ``source`` is not used.
        console: console for progress and tables.
        jobs: number of rows trained in parallel.
        minutes: time limit; no new row starts after it, and running rows stop and can be resumed.
        source: dataset to pretrain on, given like ``dataset``.
        page: also write an HTML page of each table.

    Raises:
        InputError: an argument is invalid, or rows failed; the tables are written with the other rows.
    """
    if page:
        require_charts()
    names = table_names() if table == "all" else [table]
    folder = demonstration(dataset_folder(dataset), console, frames="towers" in names, codes="semantic-ids" in names)
    if source is None and dataset in ("demo", "smoke"):
        source = f"{dataset}-source"
    start = demonstration(dataset_folder(source), console) if source and "transfer" in names else None
    failures: list[str] = []
    for name in names:
        chosen = Choices(**{**vars(choices), "source": start if name == "transfer" else None})
        if table == "all" and name == "transfer" and start is None:
            console.print("transfer is skipped: it needs --source DATASET.")
            continue
        try:
            bench = read_bench(name, folder, chosen)
        except InputError as error:
            if table != "all":
                raise
            console.print(f"{name} is skipped: {error}")
            continue
        with row_display(console, len(bench.jobs())) as on_row:
            made = make_table(bench, jobs=jobs, minutes=minutes, html=page, on_row=on_row)
        failures += [f"{row} of {name}" for row in made.failed]
        show(made, console)
    if failures:
        raise failed_rows(failures)


def show(made: Table, console: Console) -> None:
    """Print a table and the paths of its files."""
    wide = uncut(console)
    for sheet in made.sheets:
        wide.print(sheet_table(fitting(sheet, wide.width)))
    console.print(f"{made.path}.{{{','.join(made.written)}}} are written.")
