"""Items as learned ids, and items that are left without one."""

import pytest
import torch

from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder

COUNTS = torch.tensor([0, 3, 0, 1, 5])  # item 2 is not in the train part
ITEMS = ItemBatch(items=torch.tensor([4, 2, 1, 3]))


def test_without_dropout_every_item_has_its_vector() -> None:
    encoder = IdEncoder(num_items=4, dim=8, train_counts=COUNTS)
    torch.testing.assert_close(encoder(ITEMS), encoder.table[ITEMS.items])
    assert encoder.state_dict().keys() == {"table"}


def test_with_dropout_items_that_are_new_have_none() -> None:
    encoder = IdEncoder(num_items=4, dim=8, train_counts=COUNTS, dropout=0.5).eval()
    vectors = encoder(ITEMS)
    assert not vectors[1].any()
    torch.testing.assert_close(vectors[[0, 2, 3]], encoder.table[[4, 1, 3]])


def test_the_share_left_out_in_training_is_the_one_asked_for_and_nothing_is_scaled() -> None:
    encoder = IdEncoder(num_items=4, dim=8, train_counts=COUNTS, dropout=0.3).train()
    left_out = 0
    for _ in range(1000):
        vectors = encoder(ITEMS)
        absent = ~vectors.any(1)
        assert absent[1]
        torch.testing.assert_close(vectors[~absent], encoder.table[ITEMS.items][~absent])
        left_out += int(absent.sum()) - 1
    assert left_out / 3000 == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        IdEncoder(num_items=4, dim=8, dropout=dropout)
