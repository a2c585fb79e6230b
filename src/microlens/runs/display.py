"""Progress of jobs over items and over the rows of a table."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.progress import TaskID

from microlens.files.progress_bar import OnProgress, counting_bar, progress_bar
from microlens.runs.terminal import Console


def extraction_display(description: str, *, progress: bool) -> AbstractContextManager[OnProgress]:
    """A progress bar for computations over all items; it appears at the first update."""
    return counting_bar(description, Console(quiet=not progress))


@contextmanager
def row_display(console: Console, total: int) -> Iterator[Callable[[str, str], None]]:
    """Show a bar over the rows of a table, the progress of each running row, and one line per row that ends."""
    with progress_bar(console) as bar:
        whole = bar.add_task("rows", total=total, note="")
        at_work: dict[str, tuple[float, TaskID]] = {}

        def show(row: str, event: str) -> None:
            if event == "started":
                at_work[row] = time.monotonic(), bar.add_task(f"  {row}", total=None, note="starting")
            elif event in {"finished", "failed", "stopped"}:
                took = "was there"
                if row in at_work:
                    begun, task = at_work.pop(row)
                    bar.remove_task(task)
                    took = f"{event} after {time.monotonic() - begun:,.0f} s"
                bar.console.print(f"{row}: {took}")
                bar.advance(whole)
            elif event:
                bar.update(at_work[row][1], note=event)

        yield show
