"""Popularity and tags beside the id (the paper's Table 5)."""

import numpy as np
import pytest
import torch

from microlens.data.batches import ItemBatch
from microlens.encoders.popularity_bins import PopularityBinsEncoder
from microlens.encoders.tag import TagEncoder
from microlens.errors import InputError

D = 4


def bin_one_by_one(count: int, most: int, bins: int) -> int:
    """The first of the equal intervals of [0, most] whose upper end is above the count; the last holds ``most``."""
    for number in range(bins):
        if count < most * (number + 1) / bins:
            return number
    return bins - 1


@pytest.mark.parametrize("bins", [2, 10, 37])
def test_bins_are_of_equal_width(bins: int) -> None:
    counts = np.append(0, np.random.default_rng(bins).geometric(0.05, 300))
    counts[7] = 0
    encoder = PopularityBinsEncoder(train_counts=torch.from_numpy(counts), dim=D, bins=bins)
    expected = [bin_one_by_one(int(count), int(counts.max()), bins) for count in counts]
    assert encoder.bin_of_item.tolist() == expected
    assert set(expected) >= {0, bins - 1}
    vectors = encoder(ItemBatch(items=torch.tensor([7, 3, 7])))
    torch.testing.assert_close(vectors, encoder.table[torch.tensor([expected[item] for item in (7, 3, 7)])])


def test_a_catalogue_without_a_train_part_is_one_bin() -> None:
    encoder = PopularityBinsEncoder(train_counts=torch.zeros(5, dtype=torch.long), dim=D)
    assert encoder.bin_of_item.tolist() == [0] * 5


def test_fewer_than_two_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        PopularityBinsEncoder(train_counts=torch.ones(5), dim=D, bins=1)


def test_items_of_one_tag_share_a_vector() -> None:
    tags = ["Game", "", "Anime", "Game", "", "Game, Anime"]
    encoder = TagEncoder(tags=tags, dim=D)
    vectors = encoder(ItemBatch(items=torch.arange(1, 7))).tolist()
    for one, tag in enumerate(tags):
        for other, another in enumerate(tags):
            assert (vectors[one] == vectors[other]) is (tag == another)
    again = TagEncoder(tags=list(reversed(tags)), dim=D)
    assert again.tag_of_item[1:].tolist() == encoder.tag_of_item[1:].flip(0).tolist()


def test_a_dataset_without_tags_is_refused() -> None:
    with pytest.raises(InputError, match="no item of the dataset has a tag"):
        TagEncoder(tags=["", ""], dim=D)
