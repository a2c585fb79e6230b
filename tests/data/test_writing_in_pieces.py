"""Arrays and tables written in pieces: the files that are written at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microlens.data import parquet_tables
from microlens.data.arrays import ArrayWriter, open_array
from microlens.data.parquet_tables import write_table
from microlens.errors import InputError


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20), max_size=6))
def test_an_array_in_pieces_is_the_file_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with ArrayWriter(folder / "pieces.npy", np.int32) as writer:
        for piece in pieces:
            writer.append(np.array(piece, np.int64))
    whole = [value for piece in pieces for value in piece]
    np.save(folder / "whole.npy", np.array(whole, np.int32))
    assert (folder / "pieces.npy").read_bytes() == (folder / "whole.npy").read_bytes()
    if whole:
        assert open_array(folder / "pieces.npy", ndim=1).tolist() == whole


@pytest.mark.parametrize("size", [1, 7, 64, 200, 1000])
def test_a_table_depends_on_its_rows_only(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_tables, "ROWS", 64)
    table = pl.DataFrame({"a": range(200), "b": [f"{n}" for n in range(200)]})
    write_table(table.iter_slices(size), tmp_path / "pieces.parquet")
    write_table([table], tmp_path / "whole.parquet")
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pl.read_parquet(tmp_path / "pieces.parquet").equals(table)
    write_table([table.clear()], tmp_path / "empty.parquet")
    assert pl.read_parquet(tmp_path / "empty.parquet").equals(table.clear())


def test_a_full_disk_is_an_oserror(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_table([pl.DataFrame({"a": range(100_000)})], Path("/dev/full"))


def test_an_error_of_the_rows_ends_the_writing(tmp_path: Path) -> None:
    def rows() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"a": range(300_000)})
        raise InputError("the second part is invalid")

    with pytest.raises(InputError, match="the second part is invalid"):
        write_table(rows(), tmp_path / "x.parquet")
