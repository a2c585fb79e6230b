"""What is reported of codes, counted by hand."""

import math

import numpy as np
import pytest

from microlens.quantization.report import break_ties, report_codes

CODES = np.array([[0, 0], [0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])


def test_a_report_by_hand() -> None:
    vectors = np.array([[1.0], [1.0], [3.0], [-1.0], [-3.0], [-1.0]], np.float32)
    restored = np.array([[1.0], [1.0], [3.0], [-1.0], [-1.0], [1.0]], np.float32)
    found = report_codes(CODES, vectors, restored, np.array([False, False, False, True, True, True]))
    assert (found.num_items, found.tuples, found.largest_group) == (6, 4, 3)
    assert found.colliding == pytest.approx(3 / 6)
    assert found.error == pytest.approx((4 + 4) / 22)
    first, second = found.levels
    assert (first.used, first.largest) == (2, 4)
    assert first.perplexity == pytest.approx(math.exp(-(4 / 6 * math.log(4 / 6) + 2 / 6 * math.log(2 / 6))))
    assert (second.used, second.largest) == (2, 4)
    assert found.new_items is not None
    assert found.new_items.num_items == 3  # (1, 1), (1, 0) and (0, 0); known are (0, 0) and (0, 1)
    assert found.new_items.known_codes == pytest.approx([1 / 3, 1])
    assert found.new_items.known_prefixes == pytest.approx([1 / 3, 1 / 3])


def test_without_new_items_or_spread() -> None:
    found = report_codes(CODES, np.ones((6, 1), np.float32), np.ones((6, 1), np.float32), np.zeros(6, np.bool_))
    assert found.error == 0
    assert found.new_items is not None
    assert (found.new_items.num_items, found.new_items.known_codes) == (0, [0, 0])
    assert report_codes(CODES, np.ones((6, 1), np.float32), np.ones((6, 1), np.float32)).new_items is None


def test_ties_are_broken_in_the_order_of_rows() -> None:
    assert break_ties(CODES).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 2]]
