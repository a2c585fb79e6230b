"""Self-contained HTML pages with charts: a comparison of finished runs by accuracy, cost and example users."""

from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from microlens.errors import InputError, printable
from microlens.files.writing import write_text


def require_charts() -> None:
    """Check that charts can be drawn, before the work whose results they show.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError("HTML pages need the package matplotlib; install it with: pip install 'microlens[html]'")


def require_page(path: Path) -> None:
    """Check that a page can be written to ``path``, before the work whose results it shows.

    Raises:
        InputError: matplotlib is not installed, or ``path`` is a folder.
    """
    require_charts()
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the HTML file to write.")


def fill(path: Path, template: str, values: Mapping[str, str]) -> None:
    """Render a template of this package with values and the common head, and write it."""
    folder = resources.files("microlens.page")
    head, text, style = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("head.html", template, "style.css")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    filled = Template(text).substitute(values, head=Template(head).substitute(values, style=style))
    write_text(path, printable(filled))
