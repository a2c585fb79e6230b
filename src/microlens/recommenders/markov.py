"""First-order Markov chain over items."""

import torch
from torch import Tensor

from microlens.data.split import Split
from microlens.recommenders.counting import SparseRows, following_pairs, summed
from microlens.recommenders.fitted import Fitted


class Markov(Fitted):
    """Ranks items by how often they directly follow the last item in the training set; ties by popularity.

    Counts and a fraction that grows with popularity are added in float32, which tells near popularities apart only for
    small counts.
    """

    depends_on_seed = False
    sizes = {"popularity": ("items",)}  # noqa: RUF012
    popularity: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.following = SparseRows()
        self.register_buffer("popularity", torch.zeros(0))

    def fit(self, split: Split) -> None:
        """Count the pairs of consecutive items."""
        _, sources, targets = next(following_pairs(split), (1, split.items_kept[:0], split.items_kept[:0]))
        self.following.fill(summed(sources, targets, torch.ones(len(sources)).numpy(), split.num_items))
        counts = torch.from_numpy(split.train_counts)
        self.popularity = (counts / (counts.max() + 1)).float().to(self.popularity.device)

    def scores(self, states: Tensor) -> Tensor:
        """Transition counts from the last item, plus a fraction below 1 that grows with popularity: (Q, N+1)."""
        last = states[:, -1:]
        return self.following.weighted_sum(last, torch.ones_like(last).float()).add_(self.popularity)
