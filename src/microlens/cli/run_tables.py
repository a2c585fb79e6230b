"""Tables from the command line: made, shown, written."""

from microlens.bench.demonstration import demonstration
from microlens.bench.formats import FORMATS
from microlens.bench.reading import Choices, dataset_folder, read_bench, table_names
from microlens.bench.results import collect, write_json
from microlens.bench.rows import Bench
from microlens.bench.runner import Runner
from microlens.bench.sheets import fitting, sheets
from microlens.cli.terminal_tables import sheet_table
from microlens.errors import InputError, printable
from microlens.files.writing import write_text
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
            runner = Runner(bench, jobs=jobs, on_row=on_row, seconds=None if minutes is None else 60 * minutes)
            failed = runner.run()
        failures += [f"{row} of {name}" for row in failed]
        show(bench, failed, console, page=page)
    if failures:
        raise InputError(f"{len(failures)} rows failed ({', '.join(failures)}); log.txt in their folders says why.")


def show(bench: Bench, failed: dict[str, str], console: Console, *, page: bool) -> None:
    """Print a table and write it in every format."""
    results = collect(bench, failed)
    found = sheets(results)
    wide = console if console.is_terminal else Console(file=console.file, width=_PAPER_WIDTH, soft_wrap=False)
    for sheet in found:
        wide.print(sheet_table(fitting(sheet, wide.width)))
    write_json(bench.path.with_suffix(".json"), results)
    for ending, form in FORMATS.items():
        write_text(bench.path.with_suffix(f".{ending}"), printable(form(found)))
    written = ["json", *FORMATS]
    if page:
        from microlens.bench.page import write_table_page

        write_table_page(bench.path.with_suffix(".html"), bench, results)
        written.append("html")
    console.print(f"{bench.path}.{{{','.join(written)}}} are written.")
