"""The console and progress bar of commands."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


def json_text(value: Any) -> str:
    """``value`` as JSON, with null for numbers that are not finite, which JSON does not have."""
    return json.dumps(_finite(value), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
