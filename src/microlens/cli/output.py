"""Where commands print, and the bar of what takes more than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

# Titles and paths are printed as they are: no markup, no emoji.
AS_IT_IS: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
console = Console(**AS_IT_IS)


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calls with (done, total)."""
    from microlens.progress import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(description, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total)
