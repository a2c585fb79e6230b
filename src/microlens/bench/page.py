"""A table as a self-contained HTML page: the winner, its lead, the significance and the cost."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from microlens.bench.differences import significant
from microlens.bench.rows import Bench
from microlens.bench.sheets import Sheet, reference_names, sheets, table_title
from microlens.data.protocol import described
from microlens.evaluation.significance import FEWEST_SEEDS, LEVEL, enough_seeds
from microlens.page import fill
from microlens.page.comparison import COLOURS, METRIC, ComparedRun, Training, chance, open_data, read_runs

Row = dict[str, Any]
_OF_SEVERAL = "has a test target in its top ten for"
_CLOSE = 0.9  # fraction of the best row's accuracy that the verdict calls close


def write_table_page(path: Path, bench: Bench, results: dict[str, Any]) -> None:
    """Write the page of a table.

    Args:
        path: the HTML file.
        bench: the table, whose runs provide the bars by popularity.
        results: the output of :func:`microlens.bench.collect` for the table.
    """
    from microlens.bench.charts import forest, pareto  # imports matplotlib, which only pages need

    rows = results["rows"]
    if not rows:
        return
    comparable = widest(rows)
    shown = best_rows(rows)
    colours = {row["name"]: colour for row, colour in zip(shown, COLOURS, strict=False)}
    references = reference_names(results)
    fill(
        path,
        "table.html",
        {
            "title": escape(table_title(results)),
            "share": "whose next item is" if _next_item(results) else "for whom a test target is",
            "compared": _compared(results),
            "verdict": verdict(results),
            "meaning": _meaning(),
            "diamonds": _diamonds(results),
            "legend": "".join(_label(name, colour) for name, colour in colours.items()),
            "forest": forest(rows, colours, references[0] if len(references) == 1 else None),
            "which": _which(comparable, rows),
            "pareto": pareto(comparable, colours),
            "curves": _curves(shown, colours),
            "groups": _groups(bench, shown),
            "sheets": "\n".join(_sheet(sheet) for sheet in sheets(results)),
            "provenance": _provenance(results),
        },
    )


def best_rows(rows: Sequence[Row]) -> list[Row]:
    """The best rows of :func:`widest` by test HR@10, at most as many as there are colours."""
    return sorted(widest(rows), key=lambda row: -row["test"]["all"]["HR@10"])[: len(COLOURS)]


def widest(rows: Sequence[Row]) -> list[Row]:
    """The rows that follow the protocol of the row with the most test targets."""
    protocol = max(rows, key=lambda row: row["num_targets"]["all"])["protocol"]
    return [row for row in rows if row["protocol"] == protocol]


def _which(comparable: Sequence[Row], rows: Sequence[Row]) -> str:
    if len(comparable) == len(rows):
        return ""
    groups = " and ".join(dict.fromkeys(row["group"] for row in comparable))
    return f"Here and below, only rows of {escape(groups)} are shown, because the rows follow several protocols."


def verdict(results: dict[str, Any]) -> str:
    """The verdict as HTML: the winner, its lead and significance, its cost, and a cheaper row that comes close."""
    does = "has the next item in its top ten for" if _next_item(results) else _OF_SEVERAL
    return "<br>".join(_verdict_of(rows, winner, does) for rows, winner in _by_protocol(results))


def _next_item(results: dict[str, Any]) -> bool:
    """True if the only target of each user is their next item."""
    return all(fields["split"] == "leave-one-out" for fields in results["protocols"].values())


def _by_protocol(results: dict[str, Any]) -> list[tuple[list[Row], dict[str, Any]]]:
    return [
        ([row for row in results["rows"] if row["protocol"] == protocol], results["winners"][protocol])
        for protocol in results["protocols"]
    ]


def _verdict_of(rows: list[Row], winner: dict[str, Any], does: str) -> str:
    by_name = {row["name"]: row for row in rows}
    best = by_name[winner["name"]]
    found = f"{does} {_percent(best)} of users, after {_time(best)}"
    if winner["next"] is None:
        return f"<b>{escape(best['name'])}</b> {found}; there is no other row to compare it with."
    ahead = winner["difference"]["HR@10"]
    by = f"{_points(ahead)} ahead of {escape(winner['next'])}"
    if not winner["difference"]["tested"]:
        why = _why_untested(best, by_name[winner["next"]])
        said = f"<b>{escape(best['name'])}</b> leads: it {found}. It is {by}; {why}."
    elif significant(winner["difference"], "HR@10", "p"):
        said = f"<b>{escape(best['name'])}</b> wins: it {found}. It is {by}, a significant difference."
    else:
        said = f"No clear winner: <b>{escape(best['name'])}</b> {found}, but is only {by}, which is not significant."
    if best["difference"] and best["difference"]["against"] != winner["next"]:
        said += _over_reference(best)
    cheaper = [row for row in rows if row["cost"]["seconds"] < best["cost"]["seconds"] / 2]
    close = [row for row in cheaper if _value(row) >= _CLOSE * _value(best)]
    if close:
        cheapest = min(close, key=lambda row: row["cost"]["seconds"])
        said += f" <b>{escape(cheapest['name'])}</b> reaches {_percent(cheapest)} after {_time(cheapest)}."
    return said


def _points(difference: dict[str, float]) -> str:
    mean, low, high = (100 * difference[name] for name in ("mean", "low", "high"))
    return f"{mean:.2f} points (95&nbsp;% interval {low:.2f} to {high:.2f})"


def _over_reference(best: Row) -> str:
    if best["difference"]["HR@10"]["mean"] <= 0:
        return ""
    found = best["difference"]
    real = "a significant difference" if significant(found, "HR@10") else "not significant after the correction"
    said = real if found["tested"] else "not tested"
    return f" It is {_points(found['HR@10'])} ahead of {escape(found['against'])}, {said}."


def _why_untested(*rows: Row) -> str:
    few = [row for row in rows if not enough_seeds(len(row["seeds"]), row["depends_on_seed"])]
    names = " and ".join(f"{escape(row['name'])} ({len(row['seeds'])})" for row in few)
    return f"the difference is not tested, because {names} would need {FEWEST_SEEDS} seeds"


def _value(row: Row) -> float:
    return float(row["test"]["all"]["HR@10"])


def _percent(row: Row) -> str:
    return f"{100 * _value(row):.2f}&nbsp;%"


def _time(row: Row) -> str:
    seconds = row["cost"]["seconds"]
    spent = f"{seconds:,.1f} s" if seconds < 60 else f"{seconds / 60:,.0f} min"
    return f"{spent} of training" if seconds else "no training at all"


def _compared(results: dict[str, Any]) -> str:
    rows = results["rows"]
    targets = sorted({row["num_targets"]["all"] for row in rows})
    said = f"{len(rows)} rows on {escape(results['dataset'])}, "
    said += f"{targets[0]:,}" if len(targets) == 1 else f"{targets[0]:,} to {targets[-1]:,}"
    said += f" test targets. {escape(_rules(results))}"
    if results["missing"]:
        said += f" {len(results['missing'])} rows of the table are missing, see below."
    return said


def _rules(results: dict[str, Any]) -> str:
    first, *others = results["protocols"].values()
    if others:
        return "Rows follow several protocols, named in the tables; only rows of the same protocol are comparable."
    return described(first)


def _meaning() -> str:
    return (
        f"A difference is called significant if a t-test over users and seeds gives p &lt; {LEVEL}; in the tables, * "
        f"marks differences that are significant after Holm's correction. Rows trained with fewer than {FEWEST_SEEDS} "
        "seeds are not tested."
    )


def _diamonds(results: dict[str, Any]) -> str:
    if not any("HR@10" in (row["published"] or {}) for row in results["rows"]):
        return "The dotted line marks the reference row."
    return (
        f"Diamonds are the paper's numbers on {escape(results['published']['dataset'])}, other data: only their order "
        "is comparable. The dotted line marks the reference row."
    )


def _curves(shown: Sequence[Row], colours: dict[str, str]) -> str:
    from microlens.page.figures import training_figures

    trainings = [_training(row, colours[row["name"]]) for row in shown]
    return f"<h2>Training curves of the best rows, first seed</h2>{training_figures(trainings)}"


def _training(row: Row, colour: str) -> Training:
    if not row["curves"]:
        return Training(name=row["name"], colour=colour, valid=[_valid(row)])
    first = row["curves"][0]
    shown = {"loss": first["loss"], "valid": first[METRIC], "best_epoch": first["best_epoch"]}
    return Training(name=row["name"], colour=colour, **shown)


def _valid(row: Row) -> float:
    return float(row["valid"][METRIC])


def _groups(bench: Bench, shown: Sequence[Row]) -> str:
    from microlens.page.figures import group_figure

    of_row = {row.name: row for row in bench.rows}
    compared = read_runs([of_row[row["name"]].config.output for row in shown])
    named = [ComparedRun(**{**vars(run), "name": row["name"]}) for run, row in zip(compared, shown, strict=True)]
    _, split = open_data(named[0])
    return f"<h2>The best rows by popularity of the next item</h2>{group_figure(named, chance(split))}"


def _label(name: str, colour: str) -> str:
    return f'<span><span class="run" style="--colour:{colour}">{escape(name)}</span></span>'


def _sheet(sheet: Sheet) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in ("", *sheet.columns))
    body = "".join(_group(group, rows, len(sheet.columns)) for group, rows in sheet.groups.items())
    listed = "".join(f"<li>{escape(note)}</li>" for note in sheet.notes)
    return (
        f'<h3 class="sheet">{escape(sheet.title)}</h3><div class="scroll"><table><thead><tr>{head}</tr></thead>{body}'
        f'</table></div><ul class="quiet notes">{listed}</ul>'
    )


def _group(group: str, rows: Sequence[Sequence[str]], columns: int) -> str:
    lines = [f'<tr><th scope="rowgroup" colspan="{columns + 1}">{escape(group)}</th></tr>']
    for name, *cells in rows:
        filled = "".join(f"<td>{_cell(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{filled}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>"


def _cell(text: str) -> str:
    """A value with its interval below it."""
    value, bracket, interval = text.partition(" (")
    return f"{escape(value)}<small>({escape(interval)}</small>" if bracket else escape(text)


def _provenance(results: dict[str, Any]) -> str:
    commits = sorted({row["commit"] for row in results["rows"]})
    packages = {f"{name} {version}" for row in results["rows"] for name, version in row["packages"].items()}
    protocols = ", ".join(results["protocols"])
    return (
        f"<p>Data <code>{escape(results['data_hash'])}</code>; protocol <code>{escape(protocols)}</code>; results "
        f"<code>{escape(results['checksum'])}</code>.</p><p>Commits: <code>{escape(', '.join(commits))}</code>.</p>"
        f"<p>{escape(', '.join(sorted(packages)))}.</p>"
    )
