"""A fusion of trained recommenders that ranks new items fairly among known ones."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from microlens.data.split import Split
from microlens.recommenders.base import Recommender
from microlens.recommenders.conditional_logit import fit_conditional_logit
from microlens.recommenders.fitted import Fitted
from microlens.recommenders.new_items import new_ahead

USERS_AT_ONCE = 256
ROUNDING = 1e-4  # by which sums of scores may be wrong; a tie would push the target out
LIST = 10  # the length of the lists whose hits ``warm_loss`` counts


class Part(NamedTuple):
    """A trained recommender and its item vectors (N+1, D), row 0 being padding."""

    model: Recommender
    catalogue: Tensor


class Fusion(Fitted):
    r"""A conditional logit over the scores of several recommenders, with terms of its own for new items.

    Item i scores, for a user,

    .. math:: \sum_k w_k f_k(i) + [i \text{ is new}] \Big(\sum_k v_k f_k(i) + b\Big)

    where an item is new if it has no training interactions. For a recommender that was trained with gradients, f is its
    score; for one that counts or compares, whose scores have no common scale, f is ln((M + 1) / (r + 1)) where r is the
    item's rank among the items outside the history, 0 for items beyond rank M (compare reciprocal rank fusion, Cormack
    et al. 2009).

    w and v maximise the likelihood of the validation targets among sampled items (McFadden 1978). New items are unlike
    the known ones in two ways: id models cannot score them, and nothing says how popular they will be. v lets them rely
    on other recommenders than known items do. b is then the largest number with which known targets of the validation
    part lose at most the share ``warm_loss`` of their hits among the first ten to new items; 0 if there are none.

    Letters, besides the usual: K recommenders, M listed items, A alternatives.

    Args:
        parts: the trained recommenders, see :func:`microlens.runs.assembly.build_experiment`.
        train_counts: (N+1,) training interactions of each item number.
        warm_loss: share of the known targets' hits that new items may cost, in [0, 1).
        listed: M, the number of items in the list of a recommender without gradients, at least 1.
        targets: number of validation targets that w and v are fitted on, besides all that are new.
        alternatives: A, the number of items sampled for each target.
    """

    is_new: Tensor
    weights: Tensor
    new_weights: Tensor
    offset: Tensor

    def __init__(
        self,
        *,
        parts: Sequence[Part],
        train_counts: Tensor,
        warm_loss: float = 0.01,
        listed: int = 1000,
        targets: int = 10_000,
        alternatives: int = 400,
    ) -> None:
        super().__init__()
        if not 0 <= warm_loss < 1 or min(listed, targets, alternatives) < 1:
            raise ValueError(
                f"warm_loss = {warm_loss:g}, listed = {listed}, targets = {targets}, alternatives = {alternatives}: "
                "warm_loss must be at least 0 and below 1, the others at least 1"
            )
        self.warm_loss, self.listed, self.targets, self.alternatives = warm_loss, listed, targets, alternatives
        self.known_users_only = any(part.model.known_users_only for part in parts)
        self.models = nn.ModuleList(part.model for part in parts)
        for number, part in enumerate(parts):
            self.register_buffer(f"catalogue_{number}", part.catalogue, persistent=False)
        is_new = train_counts == 0
        is_new[0] = False
        self.register_buffer("is_new", is_new, persistent=False)
        self.register_buffer("weights", torch.ones(len(parts)))
        self.register_buffer("new_weights", torch.zeros(len(parts)))
        self.register_buffer("offset", torch.zeros(()))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The user number and the history as the state: (B, 1 + L)."""
        return torch.cat([users[:, None], history], 1).float()

    def scores(self, states: Tensor) -> Tensor:
        """The fused scores of all items for states (Q, 1 + L): (Q, N+1)."""
        features = self.features(states[:, 0].long(), states[:, 1:].long())
        scores = torch.einsum("kqn,k->qn", features, self.weights)
        new = self.is_new.nonzero()[:, 0]
        extra = torch.einsum("kqn,k->qn", features[:, :, new], self.new_weights) + self.offset
        return scores.index_add(1, new, extra)

    def features(self, users: Tensor, history: Tensor) -> Tensor:
        """What each recommender says of all items, f above, for users (Q,) with histories (Q, L): (K, Q, N+1)."""
        features = []
        for number, model in enumerate(self.models):
            assert isinstance(model, Recommender)
            catalogue = self.get_buffer(f"catalogue_{number}")
            scores = model.score(model.last_states(users, history, catalogue[history]), catalogue)
            trained = any(parameter.requires_grad for parameter in model.parameters())
            features.append(scores if trained else log_ranks(scores, history, self.listed))
        return torch.stack(features)

    @torch.no_grad()
    def fit(self, split: Split) -> None:
        """Fit w, v and b on the validation part of ``split``."""
        targets = torch.from_numpy(split.targets("valid").astype(np.int64)).to(self.weights.device)
        on_new = self.is_new[targets]
        drawn = torch.randperm(len(targets), device=targets.device)[: self.targets]
        rows = on_new.index_fill(0, drawn, True).nonzero()[:, 0]
        choices = [
            self._alternatives(self.features(users, history), seen, targets[here])
            for here, users, history, seen in _validation(split, rows)
        ]
        with torch.enable_grad():
            weights, new_weights, _ = fit_conditional_logit(*map(torch.cat, zip(*choices, strict=True)))
        self.weights.copy_(weights)
        self.new_weights.copy_(new_weights)
        self.offset.zero_()
        limits = [self.offset.new_empty(0)]  # a protocol may have no known targets
        limits += [
            new_ahead(self._candidates(users, history, seen), targets[here], self.is_new, LIST)
            for here, users, history, seen in _validation(split, on_new.logical_not().nonzero()[:, 0])
        ]
        self.offset.fill_(tolerated(torch.cat(limits), self.warm_loss))

    def _alternatives(self, features: Tensor, seen: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of :func:`fit_conditional_logit` from features (K, q, N+1) of q targets."""
        drawn = torch.randint(1, features.shape[2], (len(targets), self.alternatives), device=targets.device)
        items = torch.cat([targets[:, None], drawn], 1)  # (q, 1 + A)
        possible = (drawn != targets[:, None]) & (drawn[:, :, None] != seen[:, None]).all(2)  # (q, A)
        chosen = features.gather(2, items.expand(len(features), -1, -1)).permute(1, 2, 0)  # (q, 1 + A, K)
        return chosen, self.is_new[items], torch.cat([torch.ones_like(possible[:, :1]), possible], 1)

    def _candidates(self, users: Tensor, history: Tensor, seen: Tensor) -> Tensor:
        """The fused scores (q, N+1), minus infinity for padding and items ``seen`` (q, H)."""
        scores = self.scores(self.last_states(users, history, history))
        return scores.scatter(1, seen, -torch.inf).index_fill(1, seen.new_zeros(1), -torch.inf)


def log_ranks(scores: Tensor, history: Tensor, listed: int) -> Tensor:
    """ln((M + 1) / (r + 1)) of each item's rank r outside the history (Q, L): (Q, N+1), 0 beyond rank M.

    Tied items share the last of their ranks, so that items about which a recommender says nothing get 0.
    """
    scores = scores.scatter(1, history, -torch.inf).index_fill(1, history.new_zeros(1), -torch.inf)
    best, items = scores.topk(min(listed, scores.shape[1]), 1)
    ranks = torch.searchsorted(-best, -best, right=True)  # (Q, M)
    return torch.zeros_like(scores).scatter(1, items, ((listed + 1) / (ranks + 1)).log())


def tolerated(limits: Tensor, share: float) -> float:
    """The largest offset that costs at most ``share`` of the hits, less a margin; 0 if new items cannot cost more.

    Args:
        limits: see :func:`microlens.recommenders.new_items.new_ahead`.
        share: in [0, 1).
    """
    hits = limits[limits > -torch.inf].sort().values
    lost = int(share * len(hits))
    if not len(hits) or hits[lost].isinf():
        return 0.0
    return float(hits[lost]) - ROUNDING


def _validation(split: Split, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Validation targets ``rows`` in chunks: their rows (q,), users (q,), histories (q, L) and items seen (q, H)."""
    users = split.target_users("valid")
    for start in range(0, len(rows), USERS_AT_ONCE):
        here = rows[start : start + USERS_AT_ONCE]
        chunk = users[here.cpu().numpy()]
        read, seen = split.inputs("valid", chunk), split.history("valid", chunk)
        asked, history, own = (
            torch.from_numpy(values.astype(np.int64)).to(rows.device) for values in (chunk, read, seen)
        )
        yield here, asked, history, own
