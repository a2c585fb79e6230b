"""Made interactions: the stated shape, in any number."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.release.synthetic_interactions import write_interactions_only
from tests.data.test_prepare import run_command


def test_interactions_have_the_shape_of_microlens(tmp_path: Path) -> None:
    written = write_interactions_only(tmp_path / "release", users=20_000, items=8_000, seed=3)
    rows = pl.read_csv(tmp_path / "release" / "synthetic_pairs.csv")
    assert len(rows) == written
    lengths = rows.group_by("user").len()["len"].to_numpy()
    assert set(rows["user"]) == set(range(1, 20_001))
    assert lengths.min() == 5
    assert lengths.mean() == pytest.approx(7.2, abs=0.15)
    assert np.mean(lengths == 5) == pytest.approx(0.41, abs=0.02)
    assert np.quantile(lengths, [0.5, 0.99]) == pytest.approx([6, 25], abs=4)
    counts = np.sort(np.bincount(rows["item"])[1:])[::-1]
    assert rows["item"].min() >= 1
    assert len(counts) == 8_000
    assert counts[:800].sum() / written == pytest.approx(0.37, abs=0.02)
    assert rows["timestamp"].is_sorted()
    two_years = 2 * 365 * 86_400_000
    assert rows["timestamp"][-1] - rows["timestamp"][0] == pytest.approx(two_years, rel=0.001)


def test_the_rows_of_a_user_are_spread_over_the_file(tmp_path: Path) -> None:
    write_interactions_only(tmp_path / "release", users=5_000, items=100, mean_length=12)
    rows = pl.read_csv(tmp_path / "release" / "synthetic_pairs.csv").with_row_index()
    spread = rows.group_by("user").agg(pl.col("index").max() - pl.col("index").min())["index"]
    assert spread.mean() > 0.6 * len(rows)
    assert prepare(tmp_path / "release", tmp_path / "dataset").interactions.num_users == 5_000


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_interactions_only(tmp_path / name, users=50, items=9, seed=seed)
        contents.append((tmp_path / name / "synthetic_pairs.csv").read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert contents[0].startswith(b"user,item,timestamp\r\n")


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mean_length is 4; a synthetic release accepts 5 or more"):
        write_interactions_only(tmp_path / "x", users=5, items=5, mean_length=4)
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="x exists already"):
        write_interactions_only(tmp_path / "x", users=5, items=5)


def test_the_folder_may_be_text(tmp_path: Path) -> None:
    assert write_interactions_only(str(tmp_path / "x"), users=5, items=5) >= 25
    assert (tmp_path / "x" / "synthetic_pairs.csv").is_file()
    with pytest.raises(InputError, match="x exists already"):
        write_interactions_only(str(tmp_path / "x"), users=5, items=5)


def test_the_command_writes_them(tmp_path: Path) -> None:
    options = ("--interactions-only", "--users", "30", "--items", "9", "--mean-length", "6")
    status, told, _ = run_command("data", "synth", tmp_path / "out", *options)
    assert status == 0
    assert "interactions of 30 users. Next: microlens data prepare" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["synthetic_pairs.csv"]
