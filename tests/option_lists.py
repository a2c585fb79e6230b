"""Writes the options of models and encoders that ``microlens list`` shows, from their signatures.

    python -m tests.option_lists

A test fails while the file says anything else.
"""

import json
import sys
from importlib import resources
from pathlib import Path
from typing import get_args

from microlens.cli.option_rows import STORED, Kind, own_rows, registry_of

OPTIONS = Path(str(resources.files("microlens.cli"))) / STORED


def main() -> int:
    """Rewrite the file."""
    OPTIONS.write_text(text())
    return 0


def text() -> str:
    """The file made anew: for each kind, name, options and description of its members, one a line."""
    kinds = []
    for kind in get_args(Kind):
        rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in own_rows(registry_of(kind)))
        kinds.append(f" {json.dumps(kind)}: [\n{rows}\n ]")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
