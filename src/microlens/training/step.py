"""The training step: from a batch to its loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.config.sections import TrainSection
from microlens.data.batches import Batch, Process
from microlens.data.negatives import Negatives
from microlens.data.split import Split
from microlens.distributed import gather_shares
from microlens.errors import InputError
from microlens.recommenders.base import Recommender
from microlens.recommenders.graph import GraphRecommender
from microlens.training.full_softmax import full_softmax
from microlens.training.gradient_caching import encode_in_parts
from microlens.training.losses import REJECTED, bce, bpr, gbce, in_batch_softmax, log_popularity, sampled_softmax

Loss = Callable[[Batch, Tensor, Tensor], Tensor]


def negatives_of(settings: TrainSection, split: Split) -> Negatives | None:
    """The negatives that the loss of ``settings`` needs beside the batch; None for in-batch losses.

    Raises:
        InputError: ``num_negatives`` is missing, or given for a loss that samples none.
    """
    kind = {"full-softmax": "catalogue", "sampled-softmax": "shared", "bpr": "each", "bce": "each", "gbce": "each"}.get(
        settings.loss
    )
    if settings.samples_negatives != (settings.num_negatives is not None):
        needed = (
            "needs train.num_negatives"
            if settings.samples_negatives
            else "samples no items; leave train.num_negatives out"
        )
        raise InputError(f"train.loss is '{settings.loss}', which {needed}.")
    match kind:
        case "catalogue":
            return Negatives(split, "catalogue")
        case "shared":
            return Negatives(split, "shared", settings.num_negatives or 0)
        case "each":
            return Negatives(split, "each", settings.num_negatives or 0)
    return None


class TrainingStep(nn.Module):
    """Compute the loss of a batch, the mean over all targets.

    Args:
        model: the recommender.
        train_counts: (N+1,) training interactions of each item number.
        process: rank and world_size among the processes that share a batch.
        settings: how items are encoded, and the loss.
    """

    log_q: Tensor

    def __init__(
        self,
        model: Recommender,
        train_counts: Tensor,
        process: Process | None = None,
        settings: TrainSection | None = None,
    ) -> None:
        super().__init__()
        self.model, self.settings = model, settings or TrainSection()
        self.process = process or Process()
        self.num_items = len(train_counts) - 1
        self.register_buffer("log_q", log_popularity(train_counts))
        if self.settings.loss == "own" and not model.defines_loss:
            raise InputError("train.loss is 'own', but the model defines no loss; choose another one.")
        if self.settings.loss == "likelihood" and not model.log_probabilities:
            raise InputError(
                "train.loss is 'likelihood', but the model's scores are no log-probabilities; choose another one."
            )
        self.losses: dict[str, Loss] = {
            "in-batch-softmax": self._in_batch_softmax,
            "full-softmax": self._full_softmax,
            "sampled-softmax": self._sampled_softmax,
            "bpr": self._pairwise,
            "bce": self._pairwise,
            "gbce": self._pairwise,
            "likelihood": self._likelihood,
        }

    def forward(self, batch: Batch) -> Tensor:
        """The loss and the model's penalty.

        With several processes, the loss is the sum over this rank's targets times world_size / number of targets, and
        the penalty that of this rank's users and items.
        """
        # Gradients are averaged over processes; the factor world_size turns the average into a sum.
        loss = self._summed(batch) * (self.process.world_size / max(1, batch.num_targets))
        return loss + self.model.penalty(batch.users, batch.share.items.to(batch.users.device))

    def _summed(self, batch: Batch) -> Tensor:
        """The sum of the losses of this process's targets."""
        if self.settings.loss == "own":
            rows, _, slots = batch.target_slots()
            return self.model.own_loss(batch.users[rows], batch.distinct[slots])
        states, vectors = self._encode(batch)
        loss = self.losses[self.settings.loss](batch, states, vectors)
        for weight, side in self.model.side_vectors(batch.share.items.to(batch.users.device)):
            gathered = gather_shares(side, len(batch.distinct), self.process)
            loss = loss + weight * self.losses[self.settings.loss](batch, states, gathered)
        return loss

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The states that the Q targets are predicted from, (Q, S), and the vectors of the M items, (M, D)."""
        model, settings, count = self.model, self.settings, len(batch.distinct)
        if isinstance(model, GraphRecommender):
            states, share = model.propagate(batch.users, batch.share.items.to(batch.users.device))
            return states, gather_shares(share, count, self.process)
        share = encode_in_parts(
            model,
            batch.share,
            batch.users.device,
            micro_batch=settings.micro_batch,
            norm_batch=settings.norm_batch,
        )
        vectors = gather_shares(share, count, self.process)
        with_padding = functional.pad(vectors, (0, 0, 0, 1))  # (M+1, D), the last row for padding
        history = functional.embedding(batch.slots[:, :-1], with_padding)  # (B, L, D)
        if batch.last_only:
            return model.last_states(batch.users, batch.history, history), vectors
        rows, positions, _ = batch.target_slots()
        return model.encode_users(batch.users, batch.history, history)[rows, positions], vectors

    def _own(self, batch: Batch) -> Tensor:
        """True where an item is among the training items of a target's user: (Q, M)."""
        own = torch.zeros(len(batch.users), len(batch.distinct) + 1, dtype=torch.bool, device=batch.own.device)
        own.scatter_(1, batch.own, value=self.model.rejects_own)  # (B, M+1), the last column for padding
        return own[:, :-1][batch.target_slots()[0]]

    def _in_batch_softmax(self, batch: Batch, states: Tensor, vectors: Tensor) -> Tensor:
        return in_batch_softmax(
            self.model.score(states, vectors),
            positive=batch.target_slots()[2],
            log_q=self.log_q[batch.distinct],
            log_count=batch.counts.float().log(),
            rejected=self._own(batch),
        ).sum()

    def _full_softmax(self, batch: Batch, states: Tensor, vectors: Tensor) -> Tensor:
        rows, _, positive = batch.target_slots()
        if self.model.dot_product:
            own = batch.own if self.model.rejects_own else batch.own.new_empty(len(batch.own), 0)
            return full_softmax(states, vectors, positive, own[rows])
        rejected = self._own(batch).scatter_(1, positive[:, None], value=False)  # (Q, N)
        logits = self.model.score(states, vectors).float().masked_fill(rejected, REJECTED)  # (Q, N)
        return functional.cross_entropy(logits, positive, reduction="sum")

    def _sampled_softmax(self, batch: Batch, states: Tensor, vectors: Tensor) -> Tensor:
        assert batch.negatives is not None
        drawn, positive = batch.negatives, batch.target_slots()[2]  # (K,), (Q,)
        log_q = self.log_q[batch.distinct]  # (M,)
        rejected = self._own(batch)[:, drawn] | (drawn == positive[:, None])  # (Q, K)
        return sampled_softmax(
            self.model.score_each(states, vectors[positive][:, None])[:, 0],
            self.model.score(states, vectors[drawn]),
            log_q_positive=log_q[positive],
            log_q_negatives=log_q[drawn],
            rejected=rejected,
        ).sum()

    def _likelihood(self, batch: Batch, states: Tensor, vectors: Tensor) -> Tensor:
        return -self.model.score_each(states, vectors[batch.target_slots()[2]][:, None]).sum()

    def _pairwise(self, batch: Batch, states: Tensor, vectors: Tensor) -> Tensor:
        assert batch.negatives is not None
        items = torch.cat([batch.target_slots()[2][:, None], batch.negatives], 1)  # (Q, 1 + K)
        scores = self.model.score_each(states, functional.embedding(items, vectors))  # (Q, 1 + K)
        positive, negatives = scores[:, 0], scores[:, 1:]
        if self.settings.loss == "bpr":
            return bpr(positive, negatives).sum()
        if self.settings.loss == "bce":
            return bce(positive, negatives).sum()
        return gbce(positive, negatives, self.num_items, self.settings.gbce_calibration).sum()
