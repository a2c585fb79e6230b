"""Titles, tags, likes and comments: damaged files, and healthy ones as other programs write them."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

from microlens.release.metadata import read_comments, read_likes, read_tags, read_titles
from tests.fuzz.dialects import encoded, rendered
from tests.fuzz.mutations import Random
from tests.fuzz.target import Target
from tests.fuzz.text_mutations import damage_text

READERS = {"titles": read_titles, "tags": read_tags, "likes": read_likes, "comments": read_comments}
COLUMNS = {
    "titles": ("item", "title"), "tags": ("item", "tag"), "likes": ("item", "likes", "views"),
    "comments": ("user", "item", "comment"),
}  # fmt: skip
SUFFIXES = {"titles": "csv", "tags": "csv", "likes": "txt", "comments": "txt"}
TITLES = (
    "a plain title", "one, two, three", 'she said "no"', "日本の動画", "très bien", "12", "7,5 of 10", "#tag 1;2",
    "emoji 🎬", "two\nlines", "a line\n5,and what looks like a row", "x", "tab\there", " led and trailed ",
)  # fmt: skip


class Tables(Target):
    """Half of the cases are damaged; of the others ``truth.json`` says what they hold."""

    name = "tables"

    def make(self, folder: Path, random: Random) -> str:
        """Write one of the tables, named by what it is."""
        kind = list(READERS)[int(random.integers(4))]
        rows = some_rows(kind, random)
        path = folder / f"{kind}.{SUFFIXES[kind]}"
        separators = "," if kind in ("titles", "tags") else "\t"
        if random.random() < 0.5:
            text = StringIO()
            csv.writer(text, delimiter=separators, lineterminator="\n").writerows([COLUMNS[kind], *rows])
            path.write_bytes(damage_text(text.getvalue().encode(), random))
            return f"{kind}, damaged"
        if kind in ("titles", "tags"):
            path.write_bytes(rendered(rows, COLUMNS[kind], random))
        else:
            path.write_bytes(encoded("".join("\t".join(map(str, row)) + "\n" for row in rows), random))
        (folder / "truth.json").write_text(json.dumps(rows))
        return f"{kind}, the same otherwise"

    def read(self, folder: Path, random: Random) -> str | None:
        """What is read has to be there, and what is not read has to be counted."""
        (path,) = (path for path in folder.iterdir() if path.name != "truth.json")
        found = READERS[path.stem](path)
        keys = ["user_id", "item_id"] if path.stem == "comments" else ["item_id"]
        assert not found.table.select(keys).null_count().sum_horizontal().item(), "rows without an id"
        assert found.unreadable >= 0, found.unreadable
        if path.stem != "comments":
            assert found.table["item_id"].is_unique().all(), "an item twice"
        if (folder / "truth.json").exists():
            compare(found.table.rows(), found.unreadable, json.loads((folder / "truth.json").read_text()))


def compare(rows: list[tuple[Any, ...]], unreadable: int, truth: list[list[Any]]) -> None:
    """Every row that was read is true, however white its spaces are, and the others are counted."""

    def plain(row: Any) -> tuple[str, ...]:
        return tuple(" ".join(str(value).split()) for value in row)

    true = {plain(row) for row in truth}
    wrong = next((row for row in rows if plain(row) not in true), None)
    assert wrong is None, f"misread: {wrong!r}"
    lost = len(truth) - len(rows)
    assert lost <= unreadable, f"{lost} of {len(truth)} rows are gone and {unreadable} are counted"


def some_rows(kind: str, random: Random) -> list[list[Any]]:
    """Five to thirty rows, ids of one to nineteen digits."""
    factor = int(random.choice([1, 1, 10**6, 10**17]))
    items = [int(item) * factor for item in random.permutation(40)[: int(random.integers(5, 31))] + 1]
    if kind == "likes":
        return [[item, *random.integers(0, 10**6, 2).tolist()] for item in items]
    words = [TITLES[int(random.integers(len(TITLES)))] for _ in items]
    if kind == "comments":
        return [
            [int(random.integers(1, 9)), item, word.replace("\n", " ").replace("\t", " ")]
            for item, word in zip(items, words, strict=True)
        ]
    return [[item, word] for item, word in zip(items, words, strict=True)]
