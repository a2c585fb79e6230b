"""Writing the recommended lists of many users to a file in chunks."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from microlens.data.interactions import Int64
from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import atomic_write
from microlens.runs.recommend import CHUNK, Ranker

SUFFIXES = (".parquet", ".csv", ".jsonl")


def check_suffix(path: Path, accepted: tuple[str, ...] = SUFFIXES) -> None:
    """Check the suffix and the folder of an output file.

    Raises:
        InputError: the suffix is not in ``accepted``, or the folder does not exist.
    """
    if path.suffix.lower() not in accepted:
        raise InputError(f"{path} ends in '{path.suffix}'; accepted: {', '.join(accepted)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; create it first.")


def write_lists(path: Path, ranker: Ranker, users: Int64, k: int, on_progress: OnProgress | None) -> None:
    """Write the ``k`` best items of ``users`` (U,) to ``path``, atomically.

    Raises:
        InputError: see :func:`check_suffix`; or a score is NaN or infinite.
    """
    check_suffix(path)
    chunks = _chunks(ranker, users, k, on_progress)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(temporary, chunks)
            return
        with temporary.open("wb") as file:
            for number, chunk in enumerate(chunks):
                if path.suffix.lower() == ".csv":
                    chunk.write_csv(file, include_header=number == 0)
                else:
                    chunk.write_ndjson(file)


def write_vectors(path: Path, vectors: pl.DataFrame) -> int:
    """Write a table of vectors to a Parquet file, atomically; returns the number of rows.

    Raises:
        InputError: the suffix is not .parquet, or the folder does not exist.
    """
    check_suffix(path, (".parquet",))
    with atomic_write(path) as temporary, temporary.open("wb") as file:  # errors of polars name no file
        vectors.write_parquet(file)
    return len(vectors)


def _chunks(ranker: Ranker, users: Int64, k: int, on_progress: OnProgress | None) -> Iterator[pl.DataFrame]:
    for start in range(0, max(1, len(users)), CHUNK):  # one chunk without rows has the columns

        def moved(done: int, _: int, start: int = start) -> None:
            if on_progress is not None:
                on_progress(start + done, len(users))

        yield ranker.table(k, users=users[start : start + CHUNK], on_progress=moved)


def _write_parquet(path: Path, chunks: Iterator[pl.DataFrame]) -> None:
    """Write all chunks to one Parquet file; Parquet cannot be appended to, so each chunk is a temporary file first."""
    path.touch()  # so that an error names this file, and not the folder of chunks
    with TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent) as folder:
        pieces = []
        for number, chunk in enumerate(chunks):
            pieces.append(Path(folder) / f"{number}.parquet")
            chunk.write_parquet(pieces[-1])
        pl.scan_parquet(pieces, glob=False).sink_parquet(path)
