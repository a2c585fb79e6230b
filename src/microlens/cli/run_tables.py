"""Tables from the command line: made, shown, written."""

from microlens.bench.demonstration import demonstration
from microlens.bench.reading import Choices, dataset_folder, read_bench, table_names
from microlens.bench.sheets import fitting
from microlens.bench.table import Table, failed_rows, make_table
from microlens.cli.terminal_tables import sheet_table
from microlens.errors import InputError
from microlens.page import require_charts
from microlens.runs.display import row_display
from microlens.runs.terminal import Console

_PAPER_WIDTH = 400  # of tables that go to a file or a pipe


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
    """Train what is missing of a table, or of all tables, print it and write it in every format.

    Args:
        table: its name, or "all".
        dataset: a prepared dataset, its name in ``datasets/``, or "demo" or "smoke", which are made where missing.
        choices: see :class:`microlens.bench.Choices`; its ``source`` is not used.
        console: where progress and tables go.
        jobs: rows trained at once.
        minutes: after so long no other row starts, and those at work stop, to be picked up again.
        source: as ``dataset``, where rows start from it.
        page: write an HTML page of each table, too.

    Raises:
        InputError: something given is wrong, or rows failed; what did not fail is written.
    """
    if page:
        require_charts()
    names = table_names() if table == "all" else [table]
    folder = demonstration(dataset_folder(dataset), console)
    if source is None and dataset in ("demo", "smoke"):
        source = f"{dataset}-source"
    start = demonstration(dataset_folder(source), console) if source and "transfer" in names else None
    failures: list[str] = []
    for name in names:
        chosen = Choices(**{**vars(choices), "source": start if name == "transfer" else None})
        if table == "all" and name == "transfer" and start is None:
            console.print("transfer is left out: it needs --source DATASET.")
            continue
        try:
            bench = read_bench(name, folder, chosen)
        except InputError as error:
            if table != "all":
                raise
            console.print(f"{name} is left out: {error}")
            continue
        with row_display(console, len(bench.jobs())) as on_row:
            made = make_table(bench, jobs=jobs, minutes=minutes, html=page, on_row=on_row)
        failures += [f"{row} of {name}" for row in made.failed]
        show(made, console)
    if failures:
        raise failed_rows(failures)


def show(made: Table, console: Console) -> None:
    """Print a table, and say where it was written."""
    wide = console if console.is_terminal else Console(file=console.file, width=_PAPER_WIDTH, soft_wrap=False)
    for sheet in made.sheets:
        wide.print(sheet_table(fitting(sheet, wide.width)))
    console.print(f"{made.path}.{{{','.join(made.written)}}} are written.")
