"""The page that describes a dataset."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import microlens
from microlens.data.protocol import Protocol, described
from microlens.page import fill
from microlens.stats.comparison import published
from microlens.stats.description import Description
from microlens.stats.histogram import Summary
from microlens.stats.plots import Chart, charts_of, drawing
from microlens.stats.tables import NUMBERS, number_rows, percent, size_rows

_TICKS = {"yes": "<b>&#10003;</b>", "no": '<span class="quiet">&#10007;</span>', "-": "&ndash;", "": ""}


def write_description_page(path: Path, description: Description) -> None:
    """Write the self-contained HTML page of a dataset to ``path``."""
    fill(
        path,
        "stats.html",
        {
            "title": f"{escape(description.name)}: what the dataset holds",
            "compared": _subject(description),
            "verdict": _verdict(description),
            "panels": "\n".join(_panels(description)),
            "charts": "\n".join(map(_figure, charts_of(description))),
            "missing": _missing(description),
            "sizes": _sizes(description),
            "numbers": _numbers(description),
            "protocol": escape(described(vars(Protocol()))),
            "comparison": _comparison(description.row),
            "source": escape(published()["source"]),
            "provenance": _provenance(description),
        },
    )


def _subject(description: Description) -> str:
    timeline = description.timeline
    when = f", from {timeline.first} to {timeline.last}" if timeline else ", without timestamps"
    return f"Who interacted with which item{when}, and what is known of the items."


def _verdict(description: Description) -> str:
    size, top = description.size, description.popularity.top_shares["0.1"]
    return (
        f"<b>{size.interactions:,}</b> interactions of <b>{size.users:,}</b> users with <b>{size.items:,}</b> items. "
        f"The most popular tenth of the items receives {percent(top)} of the interactions, and "
        f"{percent(description.cold.share('test'))} of the test targets are items that nobody had in training."
    )


def _panels(description: Description) -> list[str]:
    size, popularity, timeline = description.size, description.popularity, description.timeline
    sessions, items = size.sessions, popularity.items
    of_users = f"{_range(sessions)} interactions each, median {sessions.median:g}, mean {sessions.mean:.2f}"
    of_items = f"{_range(items)} interactions each, median {items.median:g}; {popularity.once:,} with only one"
    days = f"from {timeline.first} to {timeline.last}" if timeline else "no timestamps; in order for each user"
    return [
        _panel("Users", size.users, of_users),
        _panel("Items", size.items, of_items),
        _panel(
            "Interactions", size.interactions, f"{percent(size.density)} of all pairs of a user and an item; {days}"
        ),
    ]


def _range(numbers: Summary) -> str:
    return f"{numbers.least:,.0f} to {numbers.most:,.0f}"


def _panel(heading: str, number: int, text: str) -> str:
    return f'<section class="panel"><h3>{heading}</h3><b class="figure">{number:,}</b><p>{escape(text)}</p></section>'


def _figure(chart: Chart) -> str:
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>{drawing(chart)}</figure>"


def _missing(description: Description) -> str:
    if not description.missing:
        return ""
    told = "; ".join(f"{what} ({why})" for what, why in description.missing.items())
    return f'<p class="about missing">Not shown: {escape(told)}.</p>'


def _sizes(description: Description) -> str:
    body = "".join(_row(name, map(escape, cells)) for name, *cells in size_rows(description))
    head = _head(["", "all", "after the cut"])
    return f'<table class="sizes">{head}<tbody>{body}</tbody></table>'


def _numbers(description: Description) -> str:
    """The tables of likes, views and durations, and the number of comments; empty if there are none of them."""
    rows = [_row(name, map(escape, cells)) for name, *cells in number_rows(description)]
    table = f'<table class="sizes">{_head(["", *NUMBERS])}<tbody>{"".join(rows)}</tbody></table>'
    comments = f'<p class="key">{description.comments:,} comments.</p>' if description.comments else ""
    listed = f'<h2>Likes, views and durations</h2><div class="scroll">{table}</div>' if rows else ""
    return listed + comments


def _comparison(row: dict[str, str]) -> str:
    table = published()
    others = "".join(_row(name, map(_cell, cells)) for name, *cells in table["rows"])
    own = _row(row["Dataset"], [_cell(row[column]) for column in table["columns"][1:]], kind="own")
    return f'<table class="comparison">{_head(table["columns"])}<tbody>{own}{others}</tbody></table>'


def _cell(text: str) -> str:
    return _TICKS.get(text, escape(text))


def _head(columns: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return f"<thead><tr>{cells}</tr></thead>"


def _row(name: str, cells: Iterable[str], kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    filled = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr{attribute}><th scope="row">{escape(name)}</th>{filled}</tr>'


def _provenance(description: Description) -> str:
    return (
        f"<p>Dataset {escape(description.name)}, checksum <code>{escape(description.checksum)}</code>; protocol of the "
        f"cut and of cold items <code>{escape(description.protocol)}</code>; microlens {escape(microlens.__version__)}."
        "</p>"
    )
