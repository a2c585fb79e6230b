"""Where everything is printed."""

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


class Console(rich.console.Console):
    """Prints text as it is: no markup, no emoji, no breaking of lines, and nothing in it steers the terminal.

    Args:
        options: those of rich's console.
    """

    def __init__(self, **options: Any) -> None:
        plain = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
        super().__init__(**(plain | options))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does; what is text and no command of rich itself is made printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def replace_what_cannot_be_encoded() -> None:
    """Print ``?`` where the terminal or file that is printed to has no such character, in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has ended, as with ``| head``."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file of the system
        return False
    watch = select.poll()
    watch.register(number, 0)  # that the other end is closed is told without being asked for
    return bool(watch.poll(0))


def stop_printing() -> None:
    """Let what is still to be printed to standard output vanish, at the end of the process too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
