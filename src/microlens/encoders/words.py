"""Learned embeddings of the words of titles."""

from collections.abc import Sequence
from typing import Self

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.item_words import ItemWords, item_words, words_of
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError


class WordRows(nn.Module):
    """The weighted words of items, see :class:`microlens.data.item_words.ItemWords`."""

    offsets: Tensor
    words: Tensor
    weights: Tensor

    def __init__(self, vocabulary: pl.DataFrame, offsets: Tensor, words: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        for name, values in (("offsets", offsets), ("words", words), ("weights", weights)):
            self.register_buffer(name, values, persistent=False)

    @classmethod
    def of_catalogue(cls, titles: Sequence[str], min_items: int, where: str) -> Self:
        """The words of a catalogue, which are the vocabulary.

        Args:
            titles: titles of items 1 to N.
            min_items: words that occur in fewer titles are left out.
            where: the configuration table, for messages.

        Raises:
            InputError: no word occurs in ``min_items`` titles.
        """
        if min_items < 1:
            raise ValueError(f"min_items = {min_items}: it must be at least 1")
        found = item_words(titles, min_items)
        if not found.names:
            raise InputError(f"{where}: no word occurs in the titles of {min_items} items of the dataset.")
        return cls(found.vocabulary, *_tensors(found))

    def of_new(self, titles: Sequence[str]) -> Self:
        """The words of titles outside the catalogue, numbered from 1, in the same vocabulary and with its idf."""
        found = _tensors(words_of(titles, self.vocabulary))
        return type(self)(self.vocabulary, *(values.to(self.words.device) for values in found))

    def with_new(self, titles: Sequence[str]) -> Self:
        """These rows, followed by those of titles outside the catalogue."""
        new = self.of_new(titles)
        return type(self)(
            self.vocabulary,
            torch.cat([self.offsets, self.offsets[-1] + new.offsets[2:]]),
            torch.cat([self.words, new.words]),
            torch.cat([self.weights, new.weights]),
        )

    @property
    def num_items(self) -> int:
        """The number of items, padding not counted."""
        return len(self.offsets) - 2

    @property
    def num_words(self) -> int:
        """V, the number of words of the vocabulary."""
        return len(self.vocabulary)

    def of(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The E words of ``items`` (M,): words (E,), weights (E,), and where each item's words begin (M,)."""
        begins = self.offsets[items]  # (M,)
        lengths = self.offsets[items + 1] - begins  # (M,)
        starts = lengths.cumsum(0) - lengths  # (M,)
        positions = torch.arange(int(lengths.sum()), device=items.device)  # (E,)
        positions += (begins - starts).repeat_interleave(lengths)
        return self.words[positions], self.weights[positions], starts


def _tensors(found: ItemWords) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(found.offsets), torch.from_numpy(found.words), torch.from_numpy(found.weights)


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
        self.rows = WordRows.of_catalogue(titles, min_items, "encoder words")
        self.table = nn.Parameter(init.xavier_normal_(Tensor(self.rows.num_words, dim)))

    @property
    def reads_of_new(self) -> frozenset[str]:
        """The title, of which the words count that the catalogue has, too."""
        return frozenset({"title"})

    def forward(self, items: ItemBatch) -> Tensor:
        """Sum the weighted vectors of the items' words: (M, D)."""
        if items.new is None:
            words, weights, starts = self.rows.of(items.items)
        else:
            rows = self.rows.of_new([item.title for item in items.new])
            words, weights, starts = rows.words, rows.weights, rows.offsets[1:-1]
        weights = functional.dropout(weights, self.dropout, self.training).to(self.table.dtype)
        summed: Tensor = functional.embedding_bag(words, self.table, starts, mode="sum", per_sample_weights=weights)
        return summed
