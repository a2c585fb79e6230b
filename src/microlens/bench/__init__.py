"""Tables of runs: declared row by row, trained where they are missing, compared on the same users."""

from microlens.bench.results import collect
from microlens.bench.rows import Bench, Row, read_bench
from microlens.bench.runner import run_rows
from microlens.bench.sheets import Sheet, markdown, sheets, write_results

__all__ = ["Bench", "Row", "Sheet", "collect", "markdown", "read_bench", "run_rows", "sheets", "write_results"]
