"""The command ``data stats``: a dataset described by tables, charts and a page."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microlens.cli.output import bar, console
from microlens.runs.terminal import Console

if TYPE_CHECKING:
    from rich.table import Table

    from microlens.stats.description import Description

_COMPARISON_WIDTH = 112


def stats(
    dataset: Annotated[Path, typer.Argument(help="A prepared dataset.")],
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page to this file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also write the charts as PNG files into this folder.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write all figures as JSON to this file.")] = None,
) -> None:
    """Describe a dataset: size, popularity, cold items and content, beside the data sets that the paper compares."""
    from microlens.page import require_charts, require_page
    from microlens.stats.description import describe

    if html is not None:
        require_page(html)
    if png is not None:
        require_charts()
    with bar("figures"):
        description = describe(dataset)
    _show(description)
    if json is not None:
        description.write_json(json)
        console.print(f"{json} is written.")
    if png is not None:
        console.print(f"{png}: {len(description.write_charts(png))} charts are written.")
    if html is not None:
        description.write_html(html)
        console.print(f"{html} is written; open it in a browser.")


def _show(description: "Description") -> None:
    from microlens.stats.tables import CONTENT, cold_sentence, percent, size_rows

    _show_comparison(description)
    console.print(_table(("", "all", "after the cut"), size_rows(description)))
    console.print(cold_sentence(description))
    items = description.size.items
    shares = (f"{CONTENT.get(kind, kind)} {percent(number / items)}" for kind, number in description.content.items())
    console.print(f"items with: {', '.join(shares)}")
    for what, why in description.missing.items():
        console.print(f"not described: {what} ({why})")


def _show_comparison(description: "Description") -> None:
    from microlens.stats.comparison import published

    others = published()
    table = _table(others["columns"], others["rows"])
    table.add_section()
    table.add_row(*(description.row[column] for column in others["columns"]), style="bold")
    Console(width=max(console.width, _COMPARISON_WIDTH)).print(table)  # cells are not cut on a narrow terminal
    console.print(f"The last row is computed; the others are those of {others['source']}.")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    first, *others = columns
    named = (Column(name, justify="right") for name in others)
    table = Table(first, *named, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table
