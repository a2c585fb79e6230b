"""What is fuzzed: a reader, the files it is given, and what it may answer."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import ClassVar
from unittest import mock

from microlens.cli import main
from microlens.errors import InputError
from tests.fuzz.mutations import Random

LONGEST_ANSWER = 2000  # letters; names of files may be long


class Target:
    """A reader under test. A case makes its input in a folder of its own, then reads it.

    ``answers`` are the exceptions that are right answers to bad input; everything else is a finding.
    """

    name: ClassVar[str]
    answers: ClassVar[tuple[type[Exception], ...]] = (InputError,)

    def prepare(self, folder: Path) -> None:
        """Write healthy files into ``folder``, once; every process then calls :meth:`open` of it."""

    def open(self, folder: Path) -> None:
        """Remember the healthy files."""
        self.seeds = folder

    def make(self, folder: Path, random: Random) -> str:
        """Write the input of one case into the empty ``folder``; what was done, in words."""
        raise NotImplementedError

    def read(self, folder: Path, random: Random) -> str | None:
        """Read the input; an ``AssertionError`` says that what came out is wrong. How it ended, if not well."""
        raise NotImplementedError


def check_answer(text: str) -> None:
    """An answer is there, and of bearable length."""
    assert 0 < len(text) < LONGEST_ANSWER, f"the answer has {len(text):,} letters: {text[:300]!r}"


def check_printed(text: str) -> None:
    """What a terminal is given holds nothing that commands it."""
    odd = sorted({character for character in text if not character.isprintable() and character != "\n"})
    assert not odd, f"the terminal is given {odd}: {text[:300]!r}"


def command(*arguments: object) -> str | None:
    """What a ``microlens`` command prints, or None where it answers with one sentence and exit status 2."""
    out, err = StringIO(), StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.object(sys, "argv", ["microlens", *map(str, arguments)]),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    said = err.getvalue().strip()
    check_printed(out.getvalue() + said)
    if not status:
        return out.getvalue()
    assert status == 2, f"exit status {status}: {said[-300:]!r}"
    if not said.startswith("Usage:"):  # a word of the command line itself is refused in a box
        check_answer(said)
        assert "\n" not in said, f"more than one sentence: {said!r}"
    return None
