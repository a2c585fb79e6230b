"""Where commands print, and the bar of what takes more than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from microlens.runs.terminal import Console

console = Console()
LARGEST_SEED = 2**63 - 1  # that NumPy, PyTorch and a file of JSON all take


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calls with (done, total)."""
    from microlens.files.progress_bar import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(description, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total)
