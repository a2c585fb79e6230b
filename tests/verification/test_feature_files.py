"""Feature files of others: how two relate, and ids for one that has none."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from microlens import adopt_features, compare_features
from microlens.data.feature_matrix import load_features
from microlens.errors import InputError
from microlens.verification.linear_relations import Kind, relation
from tests.data.test_prepare import run_command

N, D = 600, 16
RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(D, D)) * np.linspace(2, 0.1, D)
FEATURES = (RNG.normal(size=(N, D)) @ MIX + RNG.normal(size=D)).astype(np.float32)
ROTATION = np.linalg.qr(RNG.normal(size=(D, D)))[0]
ORDER = RNG.permutation(N)
NARROW = RNG.normal(size=(D, 10))

Change = Callable[[np.ndarray], np.ndarray]
CHANGES: dict[str, tuple[Change, str, bool, str]] = {
    "nothing": (lambda a: a, "hold the same vectors", True, "row numbers"),
    "half precision": (lambda a: a.astype(np.float16), "up to rounding", True, "row numbers"),
    "scale": (lambda a: 2.5 * a, "B is A times 2.5", True, "row numbers"),
    "normalised": (lambda a: a / np.linalg.norm(a, axis=1, keepdims=True), "the same directions", True, "row numbers"),
    "rotation": (lambda a: 3 * a @ ROTATION, "after a rotation or reflection", True, "row numbers"),
    "order": (lambda a: a[ORDER], "the rows are in another order", True, "equal rows"),
    "order, some rows": (lambda a: a[ORDER][:400], "the rows are in another order", True, "equal rows"),
    "order and scale": (lambda a: 2 * a[ORDER], "B is A times 2; the rows are in another order", True, "norms"),
    "order and rotation": (lambda a: (a @ ROTATION)[ORDER], "another order", True, "norms"),
    "projection": (lambda a: a @ NARROW, "differ by a linear map", True, "row numbers"),
    "noise": (lambda a: a + RNG.normal(size=a.shape), "another encoder or other input", False, "row numbers"),
    "another encoder": (lambda a: RNG.normal(size=a.shape), "of different encoders", False, "row numbers"),
    "a nonlinear one": (lambda a: np.sin(3 * a), "of different encoders", False, "row numbers"),
}


def saved(path: Path, values: np.ndarray, ids: np.ndarray | None = None) -> Path:
    np.save(path, values.astype(np.float32) if values.dtype == np.float64 else values)
    if ids is not None:
        np.save(path.with_suffix(".ids.npy"), ids)
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_named(change: str, tmp_path: Path) -> None:
    function, words, same, by = CHANGES[change]
    a, b = saved(tmp_path / "a.npy", FEATURES), saved(tmp_path / "b.npy", function(FEATURES))
    found = compare_features(a, b)
    assert words in found.verdict
    assert (found.same_encoder, found.aligned_by) == (same, by)
    assert found.in_order == ("order" not in change)


def test_rows_are_paired_by_id_where_there_are_ids(tmp_path: Path) -> None:
    ids = np.arange(100, 100 + N)
    a = saved(tmp_path / "a.npy", FEATURES, ids)
    b = saved(tmp_path / "b.npy", FEATURES[ORDER][:500], ids[ORDER][:500])
    found = compare_features(a, b)
    assert (found.aligned_by, found.in_order, found.rows) == ("ids", True, 500)
    assert found.verdict == "A and B hold the same vectors"
    assert found.numbers["equal_rows"] == pytest.approx(500 / N)
    saved(tmp_path / "b.npy", FEATURES, ids + 10_000)
    assert compare_features(a, b).verdict == "A and B hold the same vectors; the rows are in another order"


def test_rows_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    broken = FEATURES.copy()
    broken[5, 3] = np.nan
    a, b = saved(tmp_path / "a.npy", FEATURES), saved(tmp_path / "b.npy", 2 * broken)
    found = compare_features(a, b)
    assert found.verdict == "B is A times 2; rows with NaN or infinity are left out, 0 of A and 1 of B"
    assert (found.rows, found.not_finite) == (N - 1, (0, 1))
    ids = np.arange(N)
    a, b = saved(a, broken, ids), saved(b, np.where(broken > 3, np.inf, broken), ids)
    found = compare_features(a, b)
    infinite = int((np.isnan(broken) | (broken > 3)).any(axis=1).sum())
    assert (found.rows, found.not_finite) == (N - infinite, (1, infinite))


@pytest.mark.parametrize("with_ids", [True, False])
def test_too_few_rows_are_counted(tmp_path: Path, with_ids: bool) -> None:
    ids = np.arange(2) if with_ids else None
    a = saved(tmp_path / "a.npy", FEATURES[:2], ids)
    by = "ids" if with_ids else "row numbers"
    with pytest.raises(InputError, match=f"of their 2 and 2 rows, 2 can be paired by {by}; at least 3 finite ones"):
        compare_features(a, a)


def test_files_that_cannot_be_paired_or_read(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.npy", FEATURES), saved(tmp_path / "b.npy", RNG.normal(size=(40, 3)))
    with pytest.raises(InputError, match="of their 600 and 40 rows, 0 can be paired by row numbers"):
        compare_features(a, b)
    np.save(tmp_path / "b.npy", np.array([{"no": "pickles"}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"b\.npy is not a \.npy array of numbers"):
        compare_features(a, b)
    np.save(tmp_path / "a.ids.npy", np.arange(3))
    with pytest.raises(InputError, match=r"has 600 rows but .*a\.ids\.npy names 3"):
        compare_features(a, b)


def test_the_best_rotation_is_that_of_scipy() -> None:
    from scipy.linalg import orthogonal_procrustes

    a, b = RNG.normal(size=(50, 6)), RNG.normal(size=(50, 6))
    rotation, _ = orthogonal_procrustes(a, b)
    turned = a @ rotation
    scale = (turned * b).sum() / (turned * turned).sum()
    expected = np.linalg.norm(scale * turned - b) / np.linalg.norm(b)
    assert relation(a, b).numbers.rotated == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "kind"), [(1e-9, "equal"), (1e-4, "rounded"), (1e-2, "linear"), (0.3, "similar")])
def test_the_simplest_relation_that_holds_is_told(shift: float, kind: Kind) -> None:
    a = FEATURES.astype(np.float64)
    noise = RNG.normal(size=a.shape)
    assert relation(a, a + shift * np.linalg.norm(a) / np.linalg.norm(noise) * noise).kind == kind


def test_a_linear_map_is_judged_by_rows_that_it_was_not_fitted_to() -> None:
    a, b = RNG.normal(size=(4 * D + 4, D)), RNG.normal(size=(4 * D + 4, D))
    assert relation(a, b).numbers.fit < 0  # on the rows that it was fitted to, half of the variance


def test_vectors_of_zeros_have_numbers() -> None:
    zeros = np.zeros((20, 3))
    assert relation(zeros, zeros).kind == "equal"
    assert relation(FEATURES[:20, :3].astype(np.float64), zeros).kind in ("different", "scaled")


def test_official_features_get_their_ids(tmp_path: Path) -> None:
    source = saved(tmp_path / "official.npy", FEATURES)
    assert adopt_features(source, tmp_path / "out" / "image.npy") == N
    read = load_features(tmp_path / "out" / "image.npy", np.array([1, N, 7]))
    np.testing.assert_array_equal(read, FEATURES[[0, N - 1, 6]])


@pytest.mark.parametrize("first_id", [2**63 - N + 1, 2**63, -(2**63) - 1, 2**70])
@pytest.mark.parametrize("mapped", [True, False])
def test_ids_beyond_64_bits_are_refused(tmp_path: Path, first_id: int, mapped: bool) -> None:
    mapping = tmp_path / "map.csv"
    mapping.write_text("copy_item,official_item\n1,2\n")
    source = saved(tmp_path / "official.npy", FEATURES)
    with pytest.raises(InputError, match=f"the first id is {first_id}"):
        adopt_features(source, tmp_path / "o.npy", first_id=first_id, mapping=mapping if mapped else None)
    assert not list(tmp_path.glob("o.*"))
    last = adopt_features(source, tmp_path / "o.npy", first_id=2**63 - N)
    assert np.load(tmp_path / "o.ids.npy")[last - 1] == 2**63 - 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_rows_that_nothing_can_read_are_not_written(tmp_path: Path, value: float) -> None:
    values = FEATURES.astype(np.float64)
    values[41, 3] = value
    np.save(tmp_path / "official.npy", values)
    with pytest.raises(InputError, match=r"official\.npy: row 42 holds NaN, infinity or a value beyond float32"):
        adopt_features(tmp_path / "official.npy", tmp_path / "o.npy")
    assert not list(tmp_path.glob("o.*"))


def test_ids_of_others_are_not_overwritten(tmp_path: Path) -> None:
    source = saved(tmp_path / "official.npy", FEATURES)
    np.save(tmp_path / "o.ids.npy", np.arange(3))
    with pytest.raises(InputError, match=r"o\.ids\.npy exists already"):
        adopt_features(source, tmp_path / "o.npy")
    assert len(np.load(tmp_path / "o.ids.npy")) == 3


def test_features_of_a_permuted_copy_get_the_official_ids(tmp_path: Path) -> None:
    source, mapping = saved(tmp_path / "copy.npy", FEATURES), tmp_path / "map.csv"
    pl.DataFrame({"copy_item": [2, 0, 599, 700], "official_item": [31, 17, 5, 8]}).write_csv(mapping)
    status, said, _ = run_command(
        "features", "adopt", source, tmp_path / "o.npy", "--first-id", 0, "--mapping", mapping
    )
    assert status == 0
    assert "3 items" in said
    np.testing.assert_array_equal(load_features(tmp_path / "o.npy", np.array([31, 17, 5])), FEATURES[[2, 0, 599]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("copy_item,official_item\n1,2\n1,3\n", "in copy_item, an id is named twice"),
        ("copy_item,official_item\n1,2\n3,2\n", "in official_item, an id is named twice"),
        ("item,official_item\n1,2\n", "expected copy_item, official_item"),
        ("copy_item,official_item\n5000,2\n", "names no item with a row"),
        ("copy_item,official_item\nx,2\n", "cannot be read as a mapping"),
    ],
)
def test_what_is_no_mapping_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text(text)
    source = saved(tmp_path / "a.npy", FEATURES)
    with pytest.raises(InputError, match=reason):
        adopt_features(source, tmp_path / "o.npy", mapping=tmp_path / "map.csv")
    with pytest.raises(InputError, match="does not end with"):
        adopt_features(source, tmp_path / "o")
    with pytest.raises(InputError, match="exists already"):
        adopt_features(source, source)
    assert not (tmp_path / "o.npy").exists()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.npy", FEATURES), saved(tmp_path / "b.npy", FEATURES)
    np.save(a, FEATURES.astype(np.float64) * 1e200)
    said = run_command("features", "diff", a, b, "--json")[1]
    numbers = json.loads(said, parse_constant=pytest.fail)["numbers"]
    assert numbers["difference"] is None
    assert numbers["equal_rows"] == 0.0


def test_the_commands_of_features(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.npy", FEATURES), saved(tmp_path / "b.npy", FEATURES[ORDER])
    status, said, _ = run_command("features", "diff", a, b)
    assert status == 0
    assert said.startswith("A and B hold the same vectors; the rows are in another order.\n")
    found = json.loads(run_command("features", "diff", a, b, "--json")[1])
    assert found["numbers"]["equal_rows"] == 1.0
    for arguments in (("features",), ("features", "extract"), ("features", tmp_path)):
        status, _, told = run_command(*arguments)
        assert status == 2
        assert "Missing option '--encoder'" in told
    status, _, told = run_command("features", "--encoder", "resnet18", tmp_path / "none")
    assert "is not a prepared dataset" in told
