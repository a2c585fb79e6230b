"""Terminal output."""

import os
import select
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from microlens.errors import printable

_WIDE = 400  # characters


class Console(rich.console.Console):
    """A rich console that prints text verbatim: no markup, emoji or line wrapping, and control characters escaped.

    Args:
        options: options of ``rich.console.Console``.
    """

    def __init__(self, **options: Any) -> None:
        plain = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
        super().__init__(**(plain | options))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, and escape control characters in all segments except rich's own control codes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def uncut(console: Console) -> Console:
    """A console of the same output for tables; in a file or a pipe it is so wide that no column is cut."""
    return console if console.is_terminal else Console(file=console.file, width=_WIDE, soft_wrap=False)


def replace_what_cannot_be_encoded() -> None:
    """Print ``?`` for characters that the output encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def nobody_reads() -> bool:
    """True if standard output is a pipe whose reader has exited, as with ``| head``."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # not backed by a file descriptor
        return False
    if sys.platform == "win32":  # no poll, and writing to such a pipe raises another error
        return False
    watch = select.poll()
    watch.register(number, 0)  # poll() always reports a closed reader, whatever the event mask
    return bool(watch.poll(0))


def stop_printing() -> None:
    """Discard all further standard output, including the flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
