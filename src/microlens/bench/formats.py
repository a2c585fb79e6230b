"""Output of sheets as Markdown, CSV and LaTeX."""

import csv
import re
from collections.abc import Callable, Sequence
from io import StringIO

from microlens.bench.sheets import Sheet

_TEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"\textdagger{}",
}


def markdown(sheets: Sequence[Sheet]) -> str:
    """Format sheets as Markdown."""
    return "\n".join(_markdown_sheet(sheet) for sheet in sheets)


def _markdown_sheet(sheet: Sheet) -> str:
    lines = [
        f"**{sheet.title}**",
        "",
        f"| | {' | '.join(sheet.columns)} |",
        "|---" + "|---:" * len(sheet.columns) + "|",
    ]
    for group, rows in sheet.groups.items():
        lines.append(f"| **{group}** |" + " |" * len(sheet.columns))
        lines += [f"| {' | '.join(cell.replace('*', chr(92) + '*') for cell in row)} |" for row in rows]
    notes = [f"- {note.replace('*', chr(92) + '*')}" for note in sheet.notes]
    return "\n".join([*lines, "", *notes, *([""] if notes else [])])


def comma_separated(sheets: Sequence[Sheet]) -> str:
    """Format sheets as CSV with one line per cell (sheet, group, row, column, value), for spreadsheets and plots."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sheet", "group", "row", "column", "value"])
    for sheet in sheets:
        for group, rows in sheet.groups.items():
            for name, *cells in rows:
                pairs = zip(sheet.columns, cells, strict=True)
                writer.writerows([sheet.title, group, name, column, cell] for column, cell in pairs)
    return text.getvalue()


def latex(sheets: Sequence[Sheet]) -> str:
    """Format sheets as LaTeX tables; they need the packages booktabs and graphicx."""
    return "\n".join(_latex_sheet(sheet) for sheet in sheets)


def _latex_sheet(sheet: Sheet) -> str:
    count = len(sheet.columns)
    lines = [
        r"\begin{table}",
        rf"\caption{{{_tex(sheet.title)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * count}}}",
        r"\toprule",
        f" & {' & '.join(map(_tex, sheet.columns))} \\\\",
    ]
    for group, rows in sheet.groups.items():
        lines += [r"\midrule", rf"\multicolumn{{{count + 1}}}{{l}}{{\textit{{{_tex(group)}}}}} \\"]
        lines += [" & ".join(map(_tex, row)) + r" \\" for row in rows]
    notes = [rf"\par\footnotesize {_tex(note)}" for note in sheet.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", *notes, r"\end{table}", ""])


def _tex(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^†]", lambda found: _TEX[found[0]], text)


FORMATS: dict[str, Callable[[Sequence[Sheet]], str]] = {"md": markdown, "csv": comma_separated, "tex": latex}
"""Formatters of a table's sheets, by file suffix."""
