"""Writes the tree of the README from the code: what each room of the package is for, in the words of its docstring.

    python -m tests.readme_tree

A test fails while the README says anything else.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.test_layers import LAYERS, PACKAGE

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- tree: written by make readme -->", "<!-- end of the tree -->"
BESIDE = {
    "configs/": "One TOML file a run, one folder a dataset",
    "deploy/": "The feed on several servers: Dockerfile, compose file, configuration of nginx",
    "docs/": "Pages of the documentation; make docs builds the site",
    "examples/": "Short scripts, run by the tests",
    "gate/": "Default models on public data, held against Popularity, published figures and the last run; make gate",
    "results/": "The numbers that README and docs show, as JSON, with configuration, seed, commit and data checksum",
    "speed/": "Speed and memory beside other libraries, with results as JSON",
    "tests/": "A folder for each room of the package; reference/ has slow twins, golden/ numbers of the original code",
}
_NAME_WIDTH = 20


def main() -> int:
    """Rewrite the tree in the README."""
    README.write_text(with_tree(README.read_text()))
    return 0


def with_tree(readme: str) -> str:
    """The README's text, the tree between its two markers made anew."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n```text\n{tree()}```\n{END}{after}"


def tree() -> str:
    """The folders of the repository, and the rooms and modules of the package in the order of their imports."""
    lines = ["src/microlens/", *(f"  {line}" for line in rooms())]
    return "".join(f"{line}\n" for line in (*lines, *(_line(name, what, 2) for name, what in BESIDE.items())))


def rooms() -> Iterator[str]:
    """A line for each sub-package, then one for each module; each imports those above it."""
    names = [name for layer in LAYERS for name in sorted(layer) if name != "__main__"]
    for name in names:
        if (PACKAGE / name).is_dir():
            yield _line(f"{name}/", purpose(PACKAGE / name / "__init__.py"))
    for name in names:
        if (PACKAGE / f"{name}.py").is_file():
            yield _line(f"{name}.py", purpose(PACKAGE / f"{name}.py"))


def purpose(path: Path) -> str:
    """The first sentence of a module's docstring, without markup and the full stop."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.sub(r"`+", "", text.split("\n\n")[0].replace("\n", " ").split(". ")[0]).rstrip(".")


def _line(name: str, what: str, wider: int = 0) -> str:
    return f"{name:<{_NAME_WIDTH + wider}}{what}"


if __name__ == "__main__":
    sys.exit(main())
