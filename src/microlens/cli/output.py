"""The console and progress bar of commands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from microlens.runs.terminal import Console

console = Console()


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function that updates it, called with (done, total)."""
    from microlens.files.progress_bar import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(description, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def size_in_bytes(text: str) -> int:
    """Parse a size such as 2GB, 500MB or 1.5GiB.

    Raises:
        typer.BadParameter: it is no size.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise typer.BadParameter(f"'{text}' is no size; accepted are numbers with a unit, such as 2GB.") from None
