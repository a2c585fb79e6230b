"""Everything known of each user, against loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from microlens.data.dataset import Dataset
from microlens.data.histories import Histories
from microlens.data.protocol import NAMED_PROTOCOLS, Protocol
from tests.conftest import random_sequences


@pytest.mark.parametrize("protocol", [{}, {"min_item_count": 3}, {"max_length": 0}, NAMED_PROTOCOLS["random"]])
def test_histories_are_those_of_a_loop_over_users(
    make_dataset: Callable[[list[list[int]]], Path], protocol: dict[str, object]
) -> None:
    dataset = Dataset(make_dataset(random_sequences(50, 30)))
    split, interactions = dataset.split(Protocol(**protocol)), dataset.interactions  # type: ignore[arg-type]
    histories = Histories.of_split(split, interactions)
    for user, number in enumerate(split.users_kept):
        known = set(split.sequences[split.offsets[user] : split.offsets[user + 1]].tolist())
        events = interactions.items[interactions.offsets[number] : interactions.offsets[number + 1]]
        numbers = {int(item): index for index, item in enumerate(split.items_kept)}
        expected = [numbers[int(item)] for item in events if numbers.get(int(item)) in known]
        assert histories[user].tolist() == expected


def test_the_last_items_are_left_padded() -> None:
    histories = Histories.of([np.array([5, 2, 9]), np.array([], np.int64), np.array([4])])
    users = np.array([2, 0, 1, 0])
    assert histories.last(users, 2).tolist() == [[0, 4], [2, 9], [0, 0], [2, 9]]
    assert histories.last(users).tolist() == [[0, 0, 4], [5, 2, 9], [0, 0, 0], [5, 2, 9]]
    assert histories.last(np.array([1])).tolist() == [[0]]
