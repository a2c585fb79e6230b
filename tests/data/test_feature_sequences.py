"""Sequences of vectors in a file: matched by id, mapped, with missing vectors told from broken ones."""

from pathlib import Path

import numpy as np
import pytest

from microlens.data import feature_sequences
from microlens.data.feature_sequences import FeatureSequences
from microlens.errors import InputError
from tests.reference.features_loop import features_loop

ROW_IDS = [30, 7, 10, 20, 50, 40]


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_sequences, "ROWS_AT_ONCE", 2)


def write(path: Path, vectors: np.ndarray, row_ids: list[int] = ROW_IDS) -> Path:
    np.save(path, vectors)
    np.save(path.with_suffix(".ids.npy"), np.array(row_ids))
    return path


def numbers() -> np.ndarray:
    return np.arange(6 * 3 * 4).reshape(6, 3, 4).astype(np.float16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_rows_are_matched_by_id_in_any_order(tmp_path: Path, dtype: type) -> None:
    vectors = numbers().astype(dtype)
    wanted = [20, 10, 50, 30]
    file = FeatureSequences(write(tmp_path / "x.npy", np.asfortranarray(vectors)), np.array(wanted))
    found = file.read(np.array([3, 1, 1, 4]))
    assert found.dtype == (np.float16 if dtype is np.float16 else np.float32)
    expected = features_loop(vectors.tolist(), ROW_IDS, [50, 20, 20, 30])
    assert found.tolist() == expected
    assert (file.num_vectors, file.feature_dim) == (3, 4)
    assert file.present.all()


def test_a_vector_of_nan_is_missing_and_reads_as_zero(tmp_path: Path) -> None:
    vectors = numbers()
    vectors[2, 1] = vectors[5, :2] = np.nan
    file = FeatureSequences(write(tmp_path / "x.npy", vectors), np.array([10, 20, 40]))
    assert file.present.tolist() == [[True, False, True], [True, True, True], [False, False, True]]
    found = file.read(np.array([1, 3]))
    assert not found[0, 1].any()
    assert not found[1, :2].any()
    assert found[1, 2].tolist() == vectors[5, 2].tolist()
    file.read(np.array([1]))[:] = 9
    assert np.isnan(np.load(tmp_path / "x.npy")[2, 1]).all()  # the file is never written to


def test_only_what_is_read_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float16, (1000, 8, 64))
    array[:] = 1
    del array
    np.save(path.with_suffix(".ids.npy"), np.arange(1000))
    assert isinstance(FeatureSequences(path, np.arange(1000))._rows, np.memmap)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda vectors: vectors.__setitem__((3, 1, 2), np.nan), "item 20 contains NaN, infinity"),
        (lambda vectors: vectors.__setitem__((3, 1), np.inf), "item 20 contains NaN, infinity"),
        (lambda vectors: vectors.__setitem__(3, np.nan), "item 20 has no vector; .*an item needs at least one"),
    ],
)
def test_broken_items_are_named(tmp_path: Path, plant: object, message: str) -> None:
    vectors = numbers()
    plant(vectors)  # type: ignore[operator]
    path = write(tmp_path / "x.npy", vectors)
    with pytest.raises(InputError, match=message):
        FeatureSequences(path, np.array([10, 50, 20]))
    FeatureSequences(path, np.array([10, 50, 40]))  # other items are not asked for


def test_files_of_another_shape_and_missing_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one vector per item; the encoder features"):
        FeatureSequences(write(tmp_path / "flat.npy", numbers()[:, 0]), np.array([10]))
    with pytest.raises(InputError, match="expected 3 dimensions"):
        FeatureSequences(write(tmp_path / "deep.npy", numbers()[..., None]), np.array([10]))
    with pytest.raises(InputError, match="has no row for 1 items"):
        FeatureSequences(write(tmp_path / "x.npy", numbers()), np.array([10, 60]))
