"""Tables of runs: declared row by row, trained where missing, and compared on the same users."""

from microlens.bench.formats import FORMATS, markdown
from microlens.bench.reading import Choices, check_table, dataset_folder, read_bench, table_names
from microlens.bench.results import collect, read_results
from microlens.bench.rows import Bench, Job, Row
from microlens.bench.runner import Runner
from microlens.bench.sheets import Sheet, sheets

__all__ = [
    "FORMATS",
    "Bench",
    "Choices",
    "Job",
    "Row",
    "Runner",
    "Sheet",
    "check_table",
    "collect",
    "dataset_folder",
    "markdown",
    "read_bench",
    "read_results",
    "sheets",
    "table_names",
]
