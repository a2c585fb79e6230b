"""NFM, the neural factorization machine (He and Chua 2017, arXiv 1708.05027)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.factorization import FactorizationMachine, in_tiles, interactions


class NFM(FactorizationMachine):
    """Bi-interaction pooling of user's items and candidate, BatchNorm and one hidden layer (He and Chua 2017).

    There are no first-order terms and no user ids, as in the original code.

    The hidden layer is linear before its ReLU, so normalisation and pooling are multiplied into its weights: with
    pooled = a + t * c of a user (a, t) and a candidate c, and normed = s * pooled + r,

        W normed + b = (W diag(s * t)) c + (W (s * a + r) + b)

    which leaves one matrix product per user for all candidates.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors.
        final_relu: apply a ReLU to the output, as the original code does. Scores are then never negative, and all of
            them can become zero for good.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, final_relu: bool = False) -> None:
        super().__init__(item_encoder)
        self.norm = nn.BatchNorm1d(dim)
        self.hidden = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, 1)
        self.final_relu = final_relu
        for linear in (self.hidden, self.output):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The sum of the history's vectors and their interactions: (B, 2D)."""
        return torch.cat(interactions(history, vectors), 1)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """The network's output for the interactions of a user's items and each candidate: (Q, C)."""
        total, among = users.chunk(2, dim=1)  # (Q, D) each
        scale, shift = self._normalisation(len(total) * len(items), lambda: moments_of_pairs(total, among, items))
        weight = self.hidden.weight * scale  # (D, D)
        bias = self.hidden(shift) + among @ weight.T  # (Q, D)

        def network(total: Tensor, bias: Tensor, items: Tensor) -> Tensor:
            weights = (weight * total[:, None]).flatten(0, 1)  # (q*D, D)
            hidden = torch.addmm(bias.flatten(), items, weights.T).relu_()  # (c, q*D)
            return (hidden.view(-1, bias.shape[1]) @ self.output.weight[0]).view(-1, len(bias)).T

        return self._finished(in_tiles(network, [total, bias], items) + self.output.bias)

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """The network's output for the interactions of a user's items and each of its candidates: (Q, K)."""
        total, among = users[:, None].chunk(2, dim=2)  # (Q, 1, D) each
        pooled = torch.addcmul(among, total, items)  # (Q, K, D)
        scale, shift = self._normalisation(
            pooled.shape[0] * pooled.shape[1], lambda: (pooled.mean((0, 1)), pooled.var((0, 1), correction=0))
        )
        hidden = self.hidden(torch.addcmul(shift, pooled, scale)).relu()  # (Q, K, D)
        return self._finished(self.output(hidden).squeeze(2))

    def _finished(self, scores: Tensor) -> Tensor:
        return scores.relu() if self.final_relu else scores

    def _normalisation(self, pairs: int, moments: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Scale and shift (D,) that BatchNorm applies; in training from the ``moments``, which move the running ones.

        Args:
            pairs: the number of pairs of the batch.
            moments: computes their mean and variance, (D,) each.
        """
        norm = self.norm
        mean, variance, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
        assert mean is not None
        assert variance is not None
        assert batches is not None
        if self.training:
            running = mean, variance
            mean, variance = moments()
            unbiased = variance.detach() * (pairs / max(1, pairs - 1))
            for value, new in zip(running, (mean.detach(), unbiased), strict=True):
                value.lerp_(new.to(value.dtype), norm.momentum or 0.0)
            batches.add_(1)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        return scale, norm.bias - mean * scale


def moments_of_pairs(total: Tensor, among: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (D,) of a + t * c over all pairs of a user (a, t) and an item c.

    With c = m + d, where m is the mean of c, a pair is (a + t * m) + t * d. The second term has mean 0 over the items
    of each user, so that the two variances add.

    Args:
        total: t of each user, (Q, D).
        among: a of each user, (Q, D).
        items: c, (C, D).
    """
    centre = items.mean(0)  # (D,)
    of_users = torch.addcmul(among, total, centre)  # (Q, D)
    spread = (items - centre).square().mean(0) * total.square().mean(0)  # (D,)
    return of_users.mean(0), of_users.var(0, correction=0) + spread
