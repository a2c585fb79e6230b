"""What README and documentation show: their pages and fenced blocks, for the tests that run them."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md")))
FRAGMENT = "<!-- fragment -->"
"""Before a block that is a part of a dict literal and no program."""

_BLOCK = re.compile(
    r"(?P<before>[^\n]*\n)(?P<indent> *)```(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line of text, language, title, and text."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    is_fragment: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[str]:
        """The command lines of a console block without prompts and output; a line that goes on is joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        return prompted or [line for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text()
    return [_block(page, text, match) for match in _BLOCK.finditer(text)]


def _block(page: Path, text: str, match: "re.Match[str]") -> Block:
    language, _, rest = match["info"].partition(" ")
    title = re.search(r'title="([^"]*)"', rest)
    return Block(
        page=page,
        line=text.count("\n", 0, match.start("text")) + 1,
        language=language,
        title=title[1] if title else None,
        text=textwrap.dedent(match["text"]),
        is_fragment=match["before"].strip() == FRAGMENT,
    )


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]
