"""Pickles of arrays are read as numpy wrote them, and anything else in a pickle is refused before it runs."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.files.array_pickles import read_arrays


def written(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / "arrays.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def assert_same(mine: Any, expected: Any) -> None:
    assert type(mine) is type(expected)
    if isinstance(expected, dict):
        assert list(mine) == list(expected)
        mine, expected = list(mine.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        assert len(mine) == len(expected)
        for one, other in zip(mine, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert mine.dtype == expected.dtype
        np.testing.assert_array_equal(mine, expected)
    else:
        assert mine == expected


ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.arange(10, dtype=np.uint8)[::3],
    np.array([1.5, np.inf, np.nan], dtype=np.float16),
    np.arange(5, dtype=">i4"),
    np.array([[True, False]]),
    np.array(2 + 3j, dtype=np.complex64),
    np.zeros((0, 3)),
]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_numpy_wrote_is_read(tmp_path: Path, protocol: int) -> None:
    shared = np.arange(3.0)
    tree = {
        "arrays": ARRAYS,
        3: ("text", b"bytes", None, True, 2.5, 10**40),
        "scalars": [np.float32(1.25), np.int64(-3), np.bool_(True)],
        "twice": [shared, shared],
    }
    assert_same(read_arrays(written(tmp_path, tree, protocol)), tree)


def test_arrays_can_be_written_to(tmp_path: Path) -> None:
    (array,) = read_arrays(written(tmp_path, [np.zeros(3)]))
    array[0] = 1
    assert array.tolist() == [1, 0, 0]


class Call:
    """A function and its arguments, which the normal unpickler calls."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def explode(mark: str) -> None:
    Path(mark).touch()


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "exploded"
    path = written(tmp_path, {"weights": Call(explode, str(mark))}, protocol)
    with pytest.raises(
        InputError, match=r"arrays.pkl names \S+\.explode, which is not run; accepted are pickles of numpy"
    ):
        read_arrays(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # the pickle does run


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Fraction(1, 3), "fractions.Fraction"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (eval, "builtins.eval"),
        (np.load, "numpy.load"),
        (np.random.default_rng(0), r"numpy.random\S+"),
        (np.zeros(3).view(np.recarray), r"numpy\S*recarray"),
    ],
)
def test_other_objects_are_named(tmp_path: Path, content: object, name: str) -> None:
    with pytest.raises(InputError, match=f"names {name}, which is not run"):
        read_arrays(written(tmp_path, content))


@pytest.mark.parametrize(
    "array", [np.array([1, "x", None], dtype=object), np.array(["abc"]), np.array(["2020"], "M8[D]")]
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path: Path, array: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="not a complete pickle of numpy arrays"):
        read_arrays(written(tmp_path, [array]))


def test_an_array_is_no_larger_than_its_content(tmp_path: Path) -> None:
    path = written(tmp_path, np.arange(7, dtype=np.uint8))
    content = path.read_bytes()
    assert content.count(b"K\x07\x85") == 1  # the shape, (7,)
    path.write_bytes(content.replace(b"K\x07\x85", b"J\xff\xff\xff\x7f\x85"))
    with pytest.raises(InputError, match="truncated or damaged"):
        read_arrays(path)


def test_a_pickle_changes_nothing_for_later_files(tmp_path: Path) -> None:
    """It may set attributes of what it is given, such as the default arguments of a function."""
    scalar = np.float32(0).__reduce__()[0]
    without_content = written(tmp_path, Call(scalar, np.dtype("f4"))).read_bytes()
    path = tmp_path / "arrays.pkl"
    for content in (
        b"\x80\x03cnumpy._core.multiarray\nscalar\nN}X\x0c\x00\x00\x00__defaults__C\x04\x00\x00\x00\x00\x85s\x86b.",
        without_content,
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a complete pickle"):
            read_arrays(path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path, {"a": np.arange(1000), "b": ARRAYS})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="not a complete pickle of numpy arrays"):
        read_arrays(path)


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: list[object] = [np.zeros(1)]
    endless.append(endless)
    with pytest.raises(InputError, match="not a complete pickle"):
        read_arrays(written(tmp_path, endless))


def test_a_reference_to_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arrays.pkl").write_bytes(b"\x80\x04\x8c\x05otherQ.")
    with pytest.raises(InputError, match="refers to the object 'other' outside of the file"):
        read_arrays(tmp_path / "arrays.pkl")
