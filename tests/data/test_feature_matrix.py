"""Feature files of one's own: rows are found by id, and every kind of damage is one sentence that names the file."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from microlens.data.feature_matrix import load_features
from microlens.errors import InputError
from tests.conftest import random_sequences
from tests.data.test_prepare import run_command
from tests.reference.features_loop import features_loop

Array = npt.NDArray[np.generic]
ITEMS = np.array([10, 20, 30])
ROW_IDS = np.array([30, 10, 99, 20])  # item 99 is extra
MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)
NUMBERS, INTEGERS = "is not a .npy array of numbers", "is not a .npy array of integers"


def save(folder: Path, matrix: Array | bytes, row_ids: Array | bytes) -> Path:
    """Write a matrix and its ids, or bytes in the place of either."""
    for name, content in (("f.npy", matrix), ("f.ids.npy", row_ids)):
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            np.save(folder / name, content, allow_pickle=True)
    return folder / "f.npy"


def bytes_of(write: Callable[..., None], *content: object) -> bytes:
    """What ``write`` writes into a file."""
    buffer = io.BytesIO()
    write(buffer, *content)
    return buffer.getvalue()


def changed(row: int, value: float, dtype: str = "f4") -> Array:
    """The matrix with ``value`` in the middle of a row."""
    matrix = MATRIX.astype(dtype)
    matrix[row, 1] = value
    return matrix


class Executed:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return pytest.fail, ("an object of the file was unpickled",)


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_found_by_id_whatever_their_order(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row_ids = rng.choice(1000, 60, replace=False)
    matrix = rng.normal(size=(60, 4)).astype(np.float32)
    wanted = rng.permutation(row_ids)[:40]
    expected = features_loop(matrix.tolist(), row_ids.tolist(), wanted.tolist())
    order = rng.permutation(60)
    for rows in (np.arange(60), order):
        loaded = load_features(save(tmp_path, matrix[rows], row_ids[rows]), wanted)
        assert loaded.dtype == np.float32
        assert loaded.tolist() == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "u2", "i8"])
@pytest.mark.parametrize("id_dtype", ["i4", "i8", "u4", "u8", ">i8"])
def test_any_numbers_and_any_integers_do(tmp_path: Path, dtype: str, id_dtype: str) -> None:
    loaded = load_features(save(tmp_path, MATRIX.astype(dtype), ROW_IDS.astype(id_dtype)), ITEMS)
    np.testing.assert_array_equal(loaded, MATRIX[[1, 3, 0]])
    assert loaded.dtype == np.dtype(np.float32)


def test_what_nobody_asks_for_may_be_broken(tmp_path: Path) -> None:
    loaded = load_features(save(tmp_path, changed(2, np.nan), ROW_IDS), ITEMS)
    np.testing.assert_array_equal(loaded, MATRIX[[1, 3, 0]])


DAMAGED_MATRICES: dict[str, tuple[Array | bytes, str]] = {
    "NaN": (changed(0, np.nan), ": the features of item 30 contain NaN, infinity or a value beyond float32."),
    "infinity": (changed(1, -np.inf), ": the features of item 10 contain NaN, infinity or a value beyond float32."),
    "too large": (
        changed(3, 1e300, "f8"),
        ": the features of item 20 contain NaN, infinity or a value beyond float32.",
    ),
    "one dimension": (MATRIX[:, 0], " has shape (4,); expected 2 dimensions, none of size 0."),
    "three dimensions": (
        MATRIX[..., None],
        " has shape (4, 3, 1): several vectors per item; "
        "the encoders layer_mix, attention_pool and iisan read such files.",
    ),
    "four dimensions": (MATRIX[..., None, None], " has shape (4, 3, 1, 1); expected 2 dimensions, none of size 0."),
    "one number": (np.float32(3) * np.ones(()), " has shape (); expected 2 dimensions, none of size 0."),
    "no rows": (MATRIX[:0], " has shape (0, 3); expected 2 dimensions, none of size 0."),
    "no width": (MATRIX[:, :0], " has shape (4, 0); expected 2 dimensions, none of size 0."),
    "texts": (MATRIX.astype("U4"), f" {NUMBERS} but of <U4."),
    "complex": (MATRIX.astype("c8"), f" {NUMBERS} but of complex64."),
    "times": (MATRIX.astype("M8[s]"), f" {NUMBERS} but of datetime64[s]."),
    "records": (np.zeros((4, 3), [("a", "f4")]), f" {NUMBERS} but of [('a', '<f4')]."),
    "raw bytes": (np.zeros((4, 3), "V2"), f" {NUMBERS} but of |V2."),
    "objects": (np.full((4, 3), Executed(), object), f" {NUMBERS}."),
    "a pickle": (pickle.dumps(Executed()), f" {NUMBERS}."),
    "an archive": (bytes_of(np.savez, MATRIX), f" {NUMBERS}."),
    "text": (b"0.1 0.2\n", f" {NUMBERS}."),
    "nothing": (b"", f" {NUMBERS}."),
    "cut": (bytes_of(np.save, MATRIX)[:-1], " has 175 bytes; a .npy array of shape (4, 3) needs 176."),
    "too long": (bytes_of(np.save, MATRIX) + b"!", " has 177 bytes; a .npy array of shape (4, 3) needs 176."),
    "a cut header": (bytes_of(np.save, MATRIX)[:40], f" {NUMBERS}."),
    "an open bracket": (bytes_of(np.save, MATRIX).replace(b"(4, 3)", b"(4, 3 "), f" {NUMBERS}."),
    "a comma for a dtype": (bytes_of(np.save, MATRIX).replace(b"<f4", b"<,4"), f" {NUMBERS}."),
}

DAMAGED_IDS: dict[str, tuple[Array | bytes, str]] = {
    "floats": (ROW_IDS.astype("f8"), f" {INTEGERS} but of float64."),
    "floats with NaN": (np.array([30, 10, np.nan, 20]), f" {INTEGERS} but of float64."),
    "texts": (ROW_IDS.astype("U2"), f" {INTEGERS} but of <U2."),
    "yes and no": (ROW_IDS > 20, f" {INTEGERS} but of bool."),
    "objects": (np.array([Executed()] * 4), f" {INTEGERS}."),
    "an archive": (bytes_of(np.savez, ROW_IDS), f" {INTEGERS}."),
    "nothing": (b"", f" {INTEGERS}."),
    "a column": (ROW_IDS[:, None], " has shape (4, 1); expected 1 dimension, none of size 0."),
    "twice": (np.array([30, 10, 30, 20]), " names item 30 twice; each item may have only one row."),
    "an extra item twice": (np.array([99, 10, 99, 20]), " names item 99 twice; each item may have only one row."),
}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_features(path, ITEMS)
    return str(error.value)


@pytest.mark.parametrize("case", DAMAGED_MATRICES)
def test_a_damaged_matrix_is_named(tmp_path: Path, case: str) -> None:
    matrix, sentence = DAMAGED_MATRICES[case]
    path = save(tmp_path, matrix, ROW_IDS)
    assert refusal(path) == f"{path}{sentence}"


@pytest.mark.parametrize("case", DAMAGED_IDS)
def test_damaged_ids_are_named(tmp_path: Path, case: str) -> None:
    row_ids, sentence = DAMAGED_IDS[case]
    path = save(tmp_path, MATRIX, row_ids)
    assert refusal(path) == f"{path.with_suffix('.ids.npy')}{sentence}"


@pytest.mark.parametrize("count", [3, 5])
def test_ids_of_another_length_are_refused(tmp_path: Path, count: int) -> None:
    path = save(tmp_path, MATRIX, np.append(ROW_IDS, 7)[:count])
    assert refusal(path) == f"{path} has 4 rows but {path.with_suffix('.ids.npy')} names {count}."


@pytest.mark.parametrize("absent", [[10], [30], [10, 30]])  # at either end of the ids too
def test_items_without_a_row_are_counted_and_the_first_is_named(tmp_path: Path, absent: list[int]) -> None:
    path = save(tmp_path, MATRIX, np.where(np.isin(ROW_IDS, absent), ROW_IDS + 1000, ROW_IDS))
    assert refusal(path) == f"{path} has no row for {len(absent)} items (first: item {absent[0]})."


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "f.npy"
    way_out = "does not exist; features are NAME.npy (one row per item) with NAME.ids.npy (item ids)."
    assert refusal(path) == f"{path} {way_out}"
    np.save(path, MATRIX)
    assert refusal(path) == f"{path.with_suffix('.ids.npy')} {way_out}"
    (tmp_path / "folder.npy").mkdir()
    assert refusal(tmp_path / "folder.npy") == f"{tmp_path / 'folder.npy'} cannot be read: Is a directory."


@pytest.mark.parametrize("case", ["floats", "objects", "texts"])
def test_a_command_ends_with_the_sentence_and_status_2(
    tmp_path: Path, make_dataset: Callable[[list[list[int]]], Path], case: str
) -> None:
    dataset = make_dataset(random_sequences(20, 12))
    matrix = DAMAGED_MATRICES[case][0] if case in DAMAGED_MATRICES else MATRIX
    row_ids = DAMAGED_IDS[case][0] if case == "floats" else ROW_IDS
    path = save(tmp_path, matrix, row_ids)
    named = path.with_suffix(".ids.npy") if case == "floats" else path
    config = tmp_path / "config.toml"
    config.write_text(
        f'dataset = "{dataset}"\noutput = "{tmp_path / "run"}"\n[model]\nname = "sasrec"\ndim = 8\n'
        f'[encoder]\nname = "features"\npath = "{path}"\n'
    )
    status, _, told = run_command("train", config)
    assert status == 2
    assert told.startswith(f"microlens: {named} is not a .npy array of ")
    assert told.count("\n") == 1
