"""The words of titles as an encoder against a plain loop."""

import torch

from microlens.data.batches import ItemBatch
from microlens.data.item_words import item_words
from microlens.encoders.words import WordsEncoder
from tests.data.test_item_words import TITLES, weights_loop


def test_vectors_are_weighted_sums_of_words() -> None:
    encoder = WordsEncoder(titles=TITLES, dim=5, min_items=1)
    names = item_words(TITLES, 1).names
    items = torch.tensor([3, 1, 7, 2, 1])  # the third title is empty
    vectors = encoder(ItemBatch(items=items))
    rows = weights_loop(TITLES, 1)
    for item, vector in zip(items.tolist(), vectors, strict=True):
        expected = torch.zeros(5)
        for word, weight in rows[item - 1].items():
            expected = expected + weight * encoder.table[names.index(word)]
        torch.testing.assert_close(vector, expected)


def test_dropout_leaves_words_out_in_training_only() -> None:
    encoder = WordsEncoder(titles=TITLES, dim=5, min_items=1, dropout=0.5)
    batch = ItemBatch(items=torch.ones(2000, dtype=torch.long))
    whole = encoder.eval()(batch)[0]
    drawn = encoder.train()(batch)
    assert len(drawn.unique(dim=0)) > 10
    torch.testing.assert_close(drawn.mean(0), whole, rtol=0.2, atol=0.02)
