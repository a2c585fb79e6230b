"""A stable sort by packed keys: the one that Python's sorted() makes, whether keys and indices fit together or not."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microlens.release.stable_order import sort_stably

LEAST, MOST = -(2**63), 2**63 - 1
integers = st.integers(-3, 3) | st.integers(-(2**58), 2**58) | st.sampled_from([LEAST, LEAST + 1, MOST])


def assert_sorted(keys: npt.NDArray[Any]) -> None:
    ordered, order = sort_stably(keys.copy())
    expected = sorted(range(len(keys)), key=lambda index: keys[index])
    assert order.tolist() == expected
    assert ordered.tolist() == keys[expected].tolist()
    assert ordered.dtype == keys.dtype


@given(st.lists(integers, max_size=40))
def test_integers_of_64_bits(keys: list[int]) -> None:
    assert_sorted(np.array(keys, np.int64))


@given(st.lists(st.integers(-5, 5) | st.sampled_from([-(2**31), 2**31 - 1]), max_size=40))
def test_integers_of_32_bits(keys: list[int]) -> None:
    assert_sorted(np.array(keys, np.int32))


@given(st.lists(st.sampled_from([0.0, -0.0, 0.5, -1.5, 1e300]), max_size=20))
def test_decimals(keys: list[float]) -> None:
    assert_sorted(np.array(keys))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 255, 256, 257])
def test_keys_as_wide_as_fit_and_one_wider(count: int) -> None:
    bits = 63 - (count - 1).bit_length()
    for span in (2**bits - 1, 2**bits):
        for least in (LEAST, -5, 0):
            assert_sorted(np.array([least + span, least] * count, np.int64)[:count])
