"""A recommender of one's own, trained and compared like any other, without touching the package.

    python examples/own_model.py [USERS]

A model says how a history becomes a vector. Batches, losses, full ranking, reports and recommendations come with
:class:`microlens.Recommender`. Parameters of the constructor that have a default are options of ``fit``.
"""

import sys

import polars as pl
import torch
from torch import Tensor, nn

import microlens as ml

NUM_USERS = int(sys.argv[1]) if len(sys.argv) > 1 else 500


class FadingMean(ml.Recommender):
    """The weighted mean of the vectors of a history; each item counts a learned share of the one after it.

    Args:
        item_encoder: item tower.
        share: what an item counts of the one after it, before training.
    """

    def __init__(self, *, item_encoder: ml.ItemEncoder, share: float = 0.7) -> None:
        super().__init__(item_encoder)
        self.logit = nn.Parameter(torch.logit(torch.tensor(share)))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """Compute the state of each user after the last item of the history.

        Args:
            users: (B,) users.
            history: (B, L) item numbers, left-padded with 0.
            vectors: (B, L, D) item vectors.

        Returns:
            (B, D).
        """
        age = torch.arange(history.shape[1] - 1, -1, -1, device=history.device)  # (L,)
        weights = torch.where(history > 0, self.logit.sigmoid() ** age, 0.0)  # (B, L)
        return (weights[..., None] * vectors).sum(1)


events = pl.DataFrame(
    [
        {"user": f"u{user}", "item": f"v{(7 * user + step) % 50}", "time": step}
        for user in range(NUM_USERS)
        for step in range(8)
    ]
)
data = ml.Dataset.from_frame(events, "datasets/own", user="user", item="item", time="time")
mine = ml.fit(data, FadingMean, encoder="id", output="runs/own", share=0.5, dim=32, epochs=8, lr=0.03, batch_size=32)
known = ml.fit(data, "popularity", output="runs/own-popularity")
print(ml.compare([mine, known]))
print(mine.recommend(users=["u0"], k=5))
