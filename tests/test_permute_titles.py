"""The control of titles has the same titles at other items, and the same interactions."""

import subprocess
import sys
from pathlib import Path

import polars as pl

from tests.conftest import REPOSITORY

PROGRAM = REPOSITORY / "results" / "permute_titles.py"
TITLES = [f'Title {item}, with "quotes" and a comma' for item in range(1, 31)]


def test_titles_are_dealt_out_anew(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    (release / "x_pairs.tsv").write_text("1\t3 4 5\n2\t5 6\n")
    table = pl.DataFrame({"item": range(1, 31), "title": TITLES})
    table.write_csv(release / "x_titles.csv", quote_style="non_numeric")
    for name in ("one", "two"):
        subprocess.run([sys.executable, PROGRAM, release, tmp_path / name], check=True)
    made = pl.read_csv(tmp_path / "one" / "x_titles.csv")
    assert made["item"].to_list() == table["item"].to_list()
    assert made["title"].to_list() != TITLES
    assert sorted(made["title"].to_list()) == sorted(TITLES)
    assert (tmp_path / "one" / "x_pairs.tsv").read_bytes() == (release / "x_pairs.tsv").read_bytes()
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()
