"""A progress bar on the terminal or in a notebook."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""


def progress_bar(console: Console) -> Progress:
    """A bar with a count, the time passed and an estimate of what is left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
    )


@contextmanager
def counting_bar(description: str, console: Console | None = None) -> Iterator[OnProgress]:
    """A bar that calls with (done, total) move; it appears with the first."""
    with progress_bar(console or Console()) as bar:
        tasks: list[TaskID] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bar.add_task(description, total=total, note=""))
            bar.update(tasks[0], completed=done, total=total)

        yield show


def shown_bar(description: str, *, shown: bool) -> AbstractContextManager[OnProgress | None]:
    """A :func:`counting_bar` if it is to be shown, or else None."""
    return counting_bar(description) if shown else nullcontext()
