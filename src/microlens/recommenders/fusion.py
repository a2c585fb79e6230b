"""A fusion of trained recommenders that ranks new items fairly among known ones."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.data.new_items import NewItem
from microlens.data.split import Split
from microlens.recommenders.base import Recommender
from microlens.recommenders.conditional_logit import fit_conditional_logit
from microlens.recommenders.fitted import Fitted, check_user_numbers, numbers_read
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
    part lose at most the share ``warm_loss`` of their hits among the first ten to new items; 0 if they cannot lose any.
    If every validation target is new, as when whole items are held out, no such loss can be measured, and b maximises
    the likelihood as well.

    Items outside the catalogue are new, too. Each is ranked among the items of the catalogue alone, so that it changes
    no other score. A recommender that cannot encode one gives it what it gives on average to the catalogue's new items:
    the mean of their vectors, or, if it counts, no interactions.

    Letters, besides the usual: K recommenders, M listed items, A alternatives or items outside the catalogue.

    Args:
        parts: the trained recommenders, see :func:`microlens.runs.assembly.build_experiment`.
        train_counts: (N+1,) training interactions of each item number.
        warm_loss: share of the known targets' hits that new items may cost, in [0, 1).
        listed: M, the number of items in the list of a recommender without gradients, at least 2: the score of the last
            one is 0, as that of all others.
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
        if not 0 <= warm_loss < 1 or listed < 2 or min(targets, alternatives) < 1:
            raise ValueError(
                f"warm_loss = {warm_loss:g}, listed = {listed}, targets = {targets}, alternatives = {alternatives}: "
                "warm_loss must be at least 0 and below 1, listed at least 2, the others at least 1"
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

    @property
    def parts(self) -> list[Part]:
        """The recommenders and their item vectors, (N+1+A, D)."""
        models = [cast("Recommender", model) for model in self.models]
        return [Part(model, self.get_buffer(f"catalogue_{number}")) for number, model in enumerate(models)]

    @property
    def reads_of_new(self) -> frozenset[str]:
        """What the recommenders that can rank items outside the catalogue read of them."""
        return frozenset().union(*(part.model.reads_of_new or () for part in self.parts))

    def encode_new(self, items: ItemBatch) -> Tensor:
        """The vectors of all recommenders side by side: (A, E)."""
        return torch.cat([self._encoded(part, items) for part in self.parts], 1)

    def _encoded(self, part: Part, items: ItemBatch) -> Tensor:
        if part.model.reads_of_new is not None:
            return part.model.encode_new(items).float()
        new = part.catalogue[: len(self.is_new)][self.is_new]
        comparable = len(new) and part.model.item_encoder.comparable
        return (new.mean(0) if comparable else torch.zeros_like(part.catalogue[0])).expand(len(items), -1)

    def with_new(self, items: Sequence[NewItem], encoded: Tensor) -> tuple["Fusion", Tensor]:
        """The fusion with new items in all recommenders, and their numbers (A, 1)."""
        parts = self.parts
        shared = [*self.models, *self.buffers(recurse=False)]
        grown = deepcopy(self, {id(one): one for one in shared})
        encoded_by_part = torch.split(encoded, [part.catalogue.shape[1] for part in parts], 1)
        models = []
        for number, (part, own) in enumerate(zip(parts, encoded_by_part, strict=True)):
            model, vectors = part.model.with_new(items, own)
            models.append(model)
            setattr(grown, f"catalogue_{number}", torch.cat([part.catalogue, vectors.to(part.catalogue)]))
        grown.models = nn.ModuleList(models)
        first = len(parts[0].catalogue)
        return grown, torch.arange(first, first + len(items), device=encoded.device)[:, None].to(encoded)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The user number and the history, the numbers that are its vectors (B, L, 1), as the state: (B, 1 + L)."""
        return torch.cat([users[:, None].float(), numbers_read(history, vectors)], 1)

    def scores(self, states: Tensor) -> Tensor:
        """The fused scores of all items for states (Q, 1 + L): (Q, N+1+A)."""
        features, outside = self._features(states[:, 0].long(), states[:, 1:].long())
        scores = torch.einsum("kqn,k->qn", features, self.weights)
        new = self.is_new.nonzero()[:, 0]
        scores = scores.index_add(1, new, self._extra(features[:, :, new]))
        if not outside.shape[2]:
            return scores
        return torch.cat([scores, torch.einsum("kqn,k->qn", outside, self.weights) + self._extra(outside)], 1)

    def _extra(self, features: Tensor) -> Tensor:
        """What is added to the scores of new items with features (K, Q, n): (Q, n)."""
        return torch.einsum("kqn,k->qn", features, self.new_weights) + self.offset

    def features(self, users: Tensor, history: Tensor) -> Tensor:
        """What each recommender says of all items, f above, for users (Q,) with histories (Q, L): (K, Q, N+1)."""
        return self._features(users, history)[0]

    def _features(self, users: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`features`, and those of items outside the catalogue: (K, Q, N+1) and (K, Q, A)."""
        found = [self._features_of(part, users, history) for part in self.parts]
        features, outside = zip(*found, strict=True)
        return torch.stack(features), torch.stack(outside)

    def _features_of(self, part: Part, users: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        model, catalogue = part
        known = len(self.is_new)
        states = model.last_states(users, history, catalogue[history])
        if model.item_encoder.comparable and len(catalogue) > known:
            # A product of matrices of another shape is rounded differently.
            scores, outside = model.score(states, catalogue[:known]), model.score(states, catalogue[known:])
        else:
            scores, outside = torch.split(model.score(states, catalogue), [known, len(catalogue) - known], 1)
        if any(parameter.requires_grad for parameter in model.parameters()):
            return scores, outside
        best = best_listed(scores, history, self.listed)
        return log_ranks(scores, best, self.listed), log_ranks_outside(outside, best, self.listed)

    @torch.no_grad()
    def fit(self, split: Split) -> None:
        """Fit w, v and b on the validation part of ``split``.

        Raises:
            InputError: a part needs user numbers, and there are more users than float32 tells apart.
        """
        if self.known_users_only:
            check_user_numbers(split, "fusion")
        targets = torch.from_numpy(split.targets("valid").astype(np.int64)).to(self.weights.device)
        on_new = self.is_new[targets]
        drawn = torch.randperm(len(targets), device=targets.device)[: self.targets]
        rows = on_new.index_fill(0, drawn, True).nonzero()[:, 0]
        choices = [
            self._alternatives(self.features(users, history), seen, targets[here])
            for here, users, history, seen in _validation(split, rows)
        ]
        with torch.enable_grad():
            weights, new_weights, offset = fit_conditional_logit(*map(torch.cat, zip(*choices, strict=True)))
        self.weights.copy_(weights)
        self.new_weights.copy_(new_weights)
        known = on_new.logical_not().nonzero()[:, 0]
        if not len(known):
            self.offset.fill_(offset)
            return
        self.offset.zero_()
        limits = [
            new_ahead(self._candidates(users, history, seen), targets[here], self.is_new, LIST)
            for here, users, history, seen in _validation(split, known)
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
        scores = self.scores(self.last_states(users, history, history[..., None].float()))
        return scores.scatter(1, seen, -torch.inf).index_fill(1, seen.new_zeros(1), -torch.inf)


class Best(NamedTuple):
    """The M highest scores of each user, in descending order, and their items: (Q, M) each."""

    scores: Tensor
    items: Tensor


def best_listed(scores: Tensor, history: Tensor, listed: int) -> Best:
    """The ``listed`` best of the catalogue's items, by scores (Q, N+1), outside histories (Q, L)."""
    seen = history.where(history < scores.shape[1], 0)  # items outside the catalogue are not ranked
    scores = scores.scatter(1, seen, -torch.inf).index_fill(1, history.new_zeros(1), -torch.inf)
    return Best(*scores.topk(min(listed, scores.shape[1]), 1))


def log_ranks(scores: Tensor, best: Best, listed: int) -> Tensor:
    """ln((M + 1) / (r + 1)) of each item's rank r outside the history: (Q, N+1), 0 beyond rank M.

    Tied items share the last of their ranks, so that items about which a recommender says nothing get 0, or all the
    same if there are fewer than M items.
    """
    ranks = torch.searchsorted(-best.scores, -best.scores, right=True)  # (Q, M)
    return torch.zeros_like(scores).scatter(1, best.items, ((listed + 1) / (ranks + 1)).log())


def log_ranks_outside(scores: Tensor, best: Best, listed: int) -> Tensor:
    """:func:`log_ranks` of items outside the catalogue by their scores (Q, A), each placed among it alone: (Q, A)."""
    ranks = 1 + torch.searchsorted(-best.scores, -scores.contiguous(), right=True)
    return ((listed + 1) / (ranks.clamp(max=listed) + 1)).log()


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
