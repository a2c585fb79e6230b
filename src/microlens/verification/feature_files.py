"""Feature files of others: whether two can be from the same encoder, and turning one into a file that is read here."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from microlens.data.arrays import open_array
from microlens.errors import InputError
from microlens.files.writing import atomic_write
from microlens.verification.linear_relations import LINEAR, Relation, relation

Matrix = NDArray[np.float64]

_MOST_ROWS = 4096
_LEAST_PAIRS = 3
_MOST_ID = 2**63 - 1
_FEW = 0.1
_ISOLATED = 0.5  # of all rows, those whose neighbours in the order of norms are the furthest
_MAPPED = ("copy_item", "official_item")


@dataclass(frozen=True, kw_only=True)
class FeatureComparison:
    """How two feature files A (N, D) and B (M, E) relate.

    Attributes:
        verdict: one sentence.
        same_encoder: True if both can be from the same encoder, at most followed by a scale, a rotation or another
            linear map.
        shapes: (N, D) and (M, E).
        aligned_by: how rows were paired: "ids", "row numbers", "equal rows" or "norms".
        in_order: True if rows with the same number or id are paired.
        rows: number of pairs that the numbers are of.
        not_finite: number of rows of A and of B that hold NaN or infinity, and are in no pair.
        numbers: of the relation, see :class:`microlens.verification.linear_relations.Relation`; and the share of rows
            of A that occur in B.
    """

    verdict: str
    same_encoder: bool
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    aligned_by: str
    in_order: bool
    rows: int
    not_finite: tuple[int, int]
    numbers: dict[str, float | None]


def compare_features(a: str | Path, b: str | Path) -> FeatureComparison:
    """Compare two feature files, ``NAME.npy`` with ``NAME.ids.npy`` next to it or without.

    Rows are paired by id where both files have ids, else by number. If they do not agree so, equal rows are paired, and
    then rows by their distance from the mean row, which neither a rotation nor another order of rows changes. Of more
    than 4,096 pairs some are drawn.

    Raises:
        InputError: a file is missing or damaged, or no rows can be paired.
    """
    first, second = _read(Path(a)), _read(Path(b))
    shapes = (first.values.shape, second.values.shape)
    common = _share_of_equal_rows(first.values, second.values)
    aligned_by, pairs = _pairs(first, second)
    pairs = _finite(first, second, pairs)
    found = _related(first, second, pairs)
    in_order = True
    if found is None or found.kind not in LINEAR:
        for by, others in (("equal rows", _equal_rows(first, second)), ("norms", _by_norms(first, second))):
            others = _finite(first, second, others)
            other = _related(first, second, others)
            if other is not None and other.kind in LINEAR:
                aligned_by, pairs, found, in_order = by, others, other, False
                break
    if found is None:
        raise InputError(
            f"{a} and {b} cannot be compared: of their {shapes[0][0]:,} and {shapes[1][0]:,} rows, {len(pairs)} can be "
            f"paired by {aligned_by}; at least {_LEAST_PAIRS} finite ones are needed."
        )
    not_finite = (int(np.sum(~first.finite)), int(np.sum(~second.finite)))
    return FeatureComparison(
        verdict=_sentence(found, not_finite, in_order=in_order),
        same_encoder=found.kind in LINEAR,
        shapes=shapes,
        aligned_by=aligned_by,
        in_order=in_order,
        rows=min(len(pairs), _MOST_ROWS),
        not_finite=not_finite,
        numbers={**asdict(found.numbers), "equal_rows": common},
    )


def adopt_features(source: str | Path, out: str | Path, *, first_id: int = 1, mapping: str | Path | None = None) -> int:
    """Write features without ids as ``OUT.npy`` with ``OUT.ids.npy``, which the encoder "features" reads.

    Args:
        source: a matrix (N, D) whose row r belongs to the item ``first_id + r``, as in the official files.
        out: the ``.npy`` file to write; must not exist.
        first_id: id of the first row.
        mapping: a csv with the columns copy_item and official_item, as ``data verify --write-mapping`` writes it, for
            features of a copy with other ids; rows of items that it lacks are left out.

    Returns:
        The number of rows written.

    Raises:
        InputError: a file is missing or damaged, ``out`` exists or does not end with ``.npy``, an id is no 64-bit
            integer, the mapping names an id twice, none of its ids has a row, or a row to write holds NaN, infinity or
            a value beyond float32.
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".npy":
        raise InputError(f"{out} does not end with .npy; name the file of the matrix.")
    for path in (out, out.with_suffix(".ids.npy")):
        if path.exists():
            raise InputError(f"{path} exists already; name a file that does not.")
    matrix = open_array(source, ndim=2)
    rows, ids = _rows_and_ids(len(matrix), first_id, Path(mapping) if mapping is not None else None)
    _check_finite(source, matrix, rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, values in ((out.with_suffix(".ids.npy"), ids), (out, matrix[rows])):
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, values, allow_pickle=False)
    return len(ids)


@dataclass(frozen=True, kw_only=True)
class _Features:
    values: NDArray[Any]
    ids: NDArray[Any] | None

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """True for the rows without NaN and infinity: (N,)."""
        parts = [np.isfinite(part).all(axis=1) for part in _blocks(self.values)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)


def _read(path: Path) -> _Features:
    values = open_array(path, ndim=2)
    ids_path = path.with_suffix(".ids.npy")
    if not ids_path.exists():
        return _Features(values=values, ids=None)
    ids = open_array(ids_path, ndim=1, content="integers or text").astype(np.str_)
    if len(ids) != len(values):
        raise InputError(f"{path} has {len(values):,} rows but {ids_path} names {len(ids):,}.")
    return _Features(values=values, ids=ids)


def _pairs(a: _Features, b: _Features) -> tuple[str, NDArray[np.int64]]:
    """Pairs of rows (P, 2) with the same id or number; none if there are no ids and the numbers of rows differ."""
    if a.ids is not None and b.ids is not None:
        _, left, right = np.intersect1d(a.ids, b.ids, return_indices=True)
        return "ids", np.stack([left, right], axis=1)
    number = len(a.values) if len(a.values) == len(b.values) else 0
    return "row numbers", np.repeat(np.arange(number)[:, None], 2, axis=1)


def _finite(a: _Features, b: _Features, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs of which both rows are finite."""
    return pairs[a.finite[pairs[:, 0]] & b.finite[pairs[:, 1]]]


def _related(a: _Features, b: _Features, pairs: NDArray[np.int64]) -> Relation | None:
    """The relation of a sample of finite pairs; None if there are fewer than three."""
    if len(pairs) < _LEAST_PAIRS:
        return None
    if len(pairs) > _MOST_ROWS:
        chosen = np.random.default_rng(0).choice(len(pairs), _MOST_ROWS, replace=False)
        pairs = pairs[np.sort(chosen)]
    return relation(a.values[pairs[:, 0]].astype(np.float64), b.values[pairs[:, 1]].astype(np.float64))


def _blocks(matrix: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows of a matrix that may be larger than memory, some at a time."""
    for start in range(0, len(matrix), _MOST_ROWS):
        yield matrix[start : start + _MOST_ROWS]


def _check_finite(path: Path, matrix: NDArray[Any], rows: NDArray[np.int64]) -> None:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
        for part in _blocks(rows):
            broken = ~np.isfinite(np.asarray(matrix[part], np.float32)).all(axis=1)
            if broken.any():
                row = int(part[np.argmax(broken)])
                raise InputError(
                    f"{path}: row {row + 1} holds NaN, infinity or a value beyond float32; compute it again."
                )


def _keys(values: NDArray[Any]) -> pl.Series:
    """A text for each row that equal rows share."""
    plain = np.ascontiguousarray(values.astype(np.float32)) + np.float32(0)  # -0 becomes 0
    return pl.Series("key", [row.tobytes() for row in plain], dtype=pl.Binary)


def _share_of_equal_rows(a: NDArray[Any], b: NDArray[Any]) -> float:
    if a.shape[1] != b.shape[1]:
        return 0.0
    return float(_keys(a).is_in(_keys(b).implode()).mean() or 0)  # type: ignore[arg-type]


def _equal_rows(a: _Features, b: _Features) -> NDArray[np.int64]:
    """Pairs (P, 2) of rows that are equal, and equal to no other; none if they are few."""
    if a.values.shape[1] != b.values.shape[1]:
        return np.empty((0, 2), np.int64)
    left, right = (
        pl.DataFrame({"key": _keys(one.values)}).with_row_index(name).filter(pl.col("key").is_unique())
        for one, name in ((a, "left"), (b, "right"))
    )
    pairs = left.join(right, on="key").select("left", "right").to_numpy().astype(np.int64)
    return pairs if len(pairs) > _FEW * min(len(a.values), len(b.values)) else pairs[:0]


def _by_norms(a: _Features, b: _Features) -> NDArray[np.int64]:
    """Pairs (P, 2) of rows with the same rank by distance from the mean; those close to others in rank are left out."""
    if len(a.values) != len(b.values):
        return np.empty((0, 2), np.int64)
    orders, gaps = [], []
    for one in (a, b):
        values = np.nan_to_num(one.values.astype(np.float64))
        norms = np.linalg.norm(values - values.mean(axis=0), axis=1)
        order = np.argsort(norms, kind="stable")
        steps = np.diff(norms[order], prepend=-np.inf, append=np.inf)
        orders.append(order)
        gaps.append(np.minimum(steps[:-1], steps[1:]))
    isolated = np.argsort(-np.minimum(*gaps), kind="stable")[: max(3, int(_ISOLATED * len(orders[0])))]
    return np.stack([orders[0][isolated], orders[1][isolated]], axis=1)


def _sentence(found: Relation, not_finite: tuple[int, int], *, in_order: bool) -> str:
    sentence = found.sentence if in_order else f"{found.sentence}; the rows are in another order"
    if not any(not_finite):
        return sentence
    return f"{sentence}; rows with NaN or infinity are left out, {not_finite[0]:,} of A and {not_finite[1]:,} of B"


def _rows_and_ids(number: int, first_id: int, mapping: Path | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The rows to write (R,) and their ids (R,)."""
    last_id = first_id + number - 1
    if first_id < -_MOST_ID - 1 or last_id > _MOST_ID:
        raise InputError(f"the first id is {first_id} and the last one would be {last_id}; ids are 64-bit integers.")
    rows = np.arange(number)
    if mapping is None:
        return rows, rows + first_id
    table = _read_mapping(mapping)
    known = table.filter(pl.col(_MAPPED[0]).is_between(first_id, last_id))
    known = known.with_columns(row=pl.col(_MAPPED[0]) - first_id)
    if known.is_empty():
        raise InputError(f"{mapping} names no item with a row; the first row is of item {first_id}.")
    known = known.sort("row")
    return known["row"].to_numpy().astype(np.int64), np.asarray(known[_MAPPED[1]].to_list())


def _read_mapping(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, schema_overrides={_MAPPED[0]: pl.Int64}, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a mapping ({error}); expected columns {', '.join(_MAPPED)}."
        ) from None
    if not set(_MAPPED) <= set(table.columns):
        raise InputError(f"{path} has the columns {', '.join(table.columns)}; expected {', '.join(_MAPPED)}.")
    for name in _MAPPED:
        if table[name].is_duplicated().any() or table[name].has_nulls():
            raise InputError(f"{path} is no mapping: in {name}, an id is named twice or missing.")
    return table
