"""Learned embeddings of the words of titles."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.item_words import item_words
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError


class WordRows(nn.Module):
    """The weighted words of every item, see :func:`microlens.data.item_words.item_words`.

    Args:
        titles: titles of items 1 to N.
        min_items: words that occur in fewer titles are left out.
        where: the configuration table, for messages.

    Raises:
        InputError: no word occurs in ``min_items`` titles.
    """

    offsets: Tensor
    words: Tensor
    weights: Tensor

    def __init__(self, titles: Sequence[str], min_items: int, where: str) -> None:
        super().__init__()
        if min_items < 1:
            raise ValueError(f"min_items = {min_items}: it must be at least 1")
        found = item_words(titles, min_items)
        if not found.names:
            raise InputError(f"{where}: no word occurs in the titles of {min_items} items of the dataset.")
        self.num_words = len(found.names)
        for name, values in (("offsets", found.offsets), ("words", found.words), ("weights", found.weights)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def of(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The E words of ``items`` (M,): words (E,), weights (E,), and where each item's words begin (M,)."""
        begins = self.offsets[items]  # (M,)
        lengths = self.offsets[items + 1] - begins  # (M,)
        starts = lengths.cumsum(0) - lengths  # (M,)
        positions = torch.arange(int(lengths.sum()), device=items.device)  # (E,)
        positions += (begins - starts).repeat_interleave(lengths)
        return self.words[positions], self.weights[positions], starts


class WordsEncoder(ItemEncoder):
    """One learned vector per word, summed over the words of a title with their TF-IDF weights.

    A bag of words, as in fastText (Joulin et al. 2017, arXiv 1607.01759), trained from scratch with the recommender. An
    item whose title has no known word has a zero vector.

    Args:
        titles: titles of items 1 to N.
        dim: D, the size of item vectors.
        min_items: words that occur in fewer titles are left out, at least 1.
        dropout: dropout rate of an item's words, in [0, 1).

    Raises:
        InputError: no word occurs in ``min_items`` titles.
    """

    known_items_only = True

    def __init__(self, *, titles: Sequence[str], dim: int, min_items: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout = {dropout:g}: it must be at least 0 and below 1")
        self.dropout = dropout
        self.rows = WordRows(titles, min_items, "encoder words")
        self.table = nn.Parameter(init.xavier_normal_(Tensor(self.rows.num_words, dim)))

    def forward(self, items: ItemBatch) -> Tensor:
        """Sum the weighted vectors of the items' words: (M, D)."""
        words, weights, starts = self.rows.of(items.items)
        weights = functional.dropout(weights, self.dropout, self.training).to(self.table.dtype)
        summed: Tensor = functional.embedding_bag(words, self.table, starts, mode="sum", per_sample_weights=weights)
        return summed
