"""Nearest neighbours by the words of titles."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.new_items import NewItem
from microlens.encoders.words import WordRows
from microlens.recommenders.fitted import ByItemNumber, recency_weights


class TextKNN(ByItemNumber):
    """Ranks items by the words that their titles share with the titles of the history.

    The score of an item is the recency-weighted sum, over the items of the history, of the cosine between the TF-IDF
    vectors of both titles (see :func:`microlens.data.item_words.item_words`). Interactions are not used, so that new
    items are ranked like all others.

    Additional letters: V words, E words of all items, F words of the histories, repeats included.

    Args:
        titles: titles of items 1 to N.
        decay: weight of an item relative to the next more recent one, in (0, 1].
        min_items: words that occur in fewer titles are left out, at least 1.

    Raises:
        InputError: no word occurs in ``min_items`` titles.
    """

    depends_on_seed = False

    def __init__(self, *, titles: Sequence[str], decay: float = 0.8, min_items: int = 2) -> None:
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(f"decay = {decay:g}: it must be above 0 and at most 1")
        self.decay = decay
        self.rows = WordRows.of_catalogue(titles, min_items, "model text_knn")

    @property
    def reads_of_new(self) -> frozenset[str]:
        """The title, of which the words count that the catalogue has, too."""
        return frozenset({"title"})

    def with_new(self, items: Sequence[NewItem], encoded: Tensor) -> tuple["TextKNN", Tensor]:
        """The model with the titles of new items, and their numbers (A, 1)."""
        grown = deepcopy(self, {id(self.rows): self.rows})
        grown.rows = self.rows.with_new([item.title for item in items])
        numbers = torch.arange(self.rows.num_items, grown.rows.num_items, device=encoded.device) + 1
        return grown, numbers[:, None].to(encoded)

    def scores(self, states: Tensor) -> Tensor:
        """Score all items for states (Q, L) of item numbers: (Q, N+1), where column 0 is padding."""
        Q, L = states.shape
        words, values, starts = self.rows.of(states.flatten())  # (F,), (F,), (Q*L,)
        lengths = functional.pad(starts[1:], (0, 1), value=len(words)) - starts  # (Q*L,)
        read = torch.arange(Q * L, device=states.device).repeat_interleave(lengths)  # (F,) index into states of a word
        weights = recency_weights(states, self.decay).flatten()[read] * values  # (F,)
        queries = values.new_zeros(self.rows.num_words, Q)
        queries.index_put_((words, read // L), weights, accumulate=True)  # (V, Q)
        return functional.embedding_bag(
            self.rows.words, queries, self.rows.offsets[:-1], mode="sum", per_sample_weights=self.rows.weights
        ).T
