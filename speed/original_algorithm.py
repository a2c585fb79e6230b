"""The algorithm of the original MicroLens research code, as something to measure against at equal mathematics.

The research code has no licence, so none of it is here: this is our own plain rendering of how it computes SASRec on
item ids, written from a description of its behaviour. It keeps what decides its cost. Training encodes every slot of a
batch, padding and repeats included, runs the transformer over padding with separate query, key and value products,
ranks each of the B*L positions among all B*(L+1) slots, finds a user's own items by comparing (B, L+2, B*(L+1)) pairs,
and computes two pairwise-distance figures for its log on every step. Evaluation goes user by user, sorts the whole
catalogue, and looks the target up with a one-hot vector. Given the same weights, its loss and its ranks are ours.

Letters: B users, L positions read, S = L + 1 slots a user, D vector size, N items.
"""

import math
from collections.abc import Sequence
from itertools import starmap

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.recommenders.attention import CausalAttention, TransformerBlock
from microlens.recommenders.sasrec import SASRec

NORM_EPS = 1e-6
REJECTED = -1e4
HIDDEN = -1e9
USERS_AT_ONCE = 64
CLIP_NORM = 5.0


class Attention(nn.Module):
    """Multi-head attention over (B, L, D), padding included."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D); ``mask`` (B, 1, L, L) is added to the logits."""
        B, L, D = inputs.shape
        query, key, value = (
            product(inputs).view(B, L, self.heads, D // self.heads).transpose(1, 2)
            for product in (self.query, self.key, self.value)
        )
        logits = query @ key.transpose(-2, -1) / math.sqrt(D // self.heads) + mask
        attended = self.dropout(logits.softmax(-1)) @ value
        outputs: Tensor = self.dropout(self.output(attended.transpose(1, 2).contiguous().view(B, L, D)))
        return outputs


class Block(nn.Module):
    """Post-norm attention and feed-forward network."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.expand, self.contract = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        attended = self.attention_norm(inputs + self.attention(inputs, mask))
        fed = self.dropout(self.contract(functional.relu(self.expand(attended))))
        outputs: Tensor = self.feed_forward_norm(attended + fed)
        return outputs


class OriginalAlgorithm(nn.Module):
    """SASRec on item ids over unpacked sequences, with the weights of one of ours.

    Args:
        ours: the model whose weights and sizes to take.
        train_counts: (N+1,) occurrences of each item in the train part.
        items: what turns item numbers (M,) into vectors (M, D) in place of the id table.
    """

    popularity: Tensor

    def __init__(self, ours: SASRec, train_counts: Tensor, items: nn.Module | None = None) -> None:
        super().__init__()
        dim = ours.positions.shape[1]
        dropout = ours.dropout.p
        blocks: Sequence[TransformerBlock] = list(ours.blocks)  # type: ignore[arg-type]
        heads = blocks[0].attention.heads
        self.items = items or nn.Embedding(len(train_counts), dim, padding_idx=0)
        self.positions = nn.Embedding(*ours.positions.shape)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(dim, heads, dropout) for _ in blocks])
        share = train_counts.double() / train_counts.sum()
        share[0] = 1.0  # its logarithm is 0
        self.register_buffer("popularity", share.float())
        with torch.no_grad():
            self._take_weights(ours, blocks)

    def _take_weights(self, ours: SASRec, blocks: Sequence[TransformerBlock]) -> None:
        if isinstance(self.items, nn.Embedding):
            self.items.weight.copy_(ours.item_encoder.get_parameter("table"))
        self.positions.weight.copy_(ours.positions)
        self.norm.load_state_dict(ours.norm.state_dict())
        for mine, theirs in zip(self.blocks, blocks, strict=True):
            _take_attention(mine.attention, theirs.attention)
            for name in ("attention_norm", "expand", "contract", "feed_forward_norm"):
                mine.get_submodule(name).load_state_dict(theirs.get_submodule(name).state_dict())

    def encode_users(self, vectors: Tensor, real: Tensor) -> Tensor:
        """(B, L, D) and where real items stand (B, L), to states (B, L, D)."""
        L = vectors.shape[1]
        positions = torch.arange(L).unsqueeze(0).expand(len(vectors), -1)
        states = self.dropout(self.norm(vectors + self.positions(positions)))
        visible = torch.tril(real.bool()[:, None, None, :].expand(-1, -1, L, -1))
        mask = torch.where(visible, 0.0, HIDDEN)
        for block in self.blocks:
            states = block(states, mask)
        return states

    def forward(self, sequence: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch, and the alignment and uniformity that are logged.

        Args:
            sequence: (B, S) left-padded item numbers.
            real: (B, L) 1 where a real item is read.
        """
        B, S = sequence.shape
        vectors = self.items(sequence.flatten())  # (B*S, D), every slot
        by_user = vectors.view(B, S, -1)
        states = self.encode_users(by_user[:, :-1], real)
        columns = sequence.flatten()
        logits = states.reshape(B * (S - 1), -1) @ vectors.T - self.popularity[columns].log()
        own = torch.cat([sequence, torch.zeros(B, 1, dtype=sequence.dtype)], 1)
        rejected = (own[:, :, None] == columns[None, None, :]).any(1)  # (B, B*S) from (B, S + 1, B*S)
        rejected = rejected[:, None, :].repeat(1, S - 1, 1)  # (B, L, B*S)
        users, places = torch.meshgrid(torch.arange(B), torch.arange(S - 1), indexing="ij")
        target = users * S + places + 1  # (B, L) the target's column
        rejected.scatter_(2, target[..., None], value=False)
        logits = logits.masked_fill(rejected.view(B * (S - 1), B * S), REJECTED)
        rows = torch.where(real.flatten() != 0)[0]
        loss = functional.cross_entropy(logits[rows], target.flatten()[rows])
        with torch.no_grad():
            align, uniform = distance_figures(states[:, -1], by_user[:, -1])
        return loss, align, uniform


def _take_attention(mine: Attention, theirs: CausalAttention) -> None:
    parts = theirs.query_key_value.weight.chunk(3)
    for product, weight in zip((mine.query, mine.key, mine.value), parts, strict=True):
        product.weight.copy_(weight)
    mine.output.weight.copy_(theirs.output.weight)


def distance_figures(states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Alignment of states and targets (B, D), and the mean uniformity of both (Wang and Isola 2020), for the log."""
    states, targets = functional.normalize(states, dim=-1), functional.normalize(targets, dim=-1)
    align = (states - targets).norm(dim=1).square().mean()
    uniform = sum(torch.pdist(points).square().mul(-2).exp().mean().log() for points in (states, targets)) / 2
    return align, uniform


def collate(sequences: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
    """Left-pad each user's train items to ``length`` = S: (B, S) item numbers and (B, L) where items are read."""
    padded = [[0] * (length - len(items)) + items for items in sequences]
    real = [[0] * (length - len(items)) + [1] * (len(items) - 1) for items in sequences]
    return torch.LongTensor(padded), torch.FloatTensor(real)


class OriginalTraining:
    """Steps of the original training loop: plain AdamW over dense gradients, and a check for NaN."""

    def __init__(self, model: OriginalAlgorithm, lr: float, weight_decay: float) -> None:
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)

    def step(self, sequence: Tensor, real: Tensor) -> float:
        """One update; returns the loss."""
        self.optimizer.zero_grad()
        loss, align, uniform = self.model(sequence, real)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        if torch.isnan(loss):
            raise FloatingPointError("the loss is NaN")
        for figure in (align, uniform):
            figure.item()
        return loss.item()


@torch.no_grad()
def original_ranks(model: OriginalAlgorithm, inputs: Tensor, history: Tensor, targets: Tensor) -> npt.NDArray[np.int64]:
    """The rank of each user's target, (B,) from 1, one user and one full sort at a time.

    Args:
        model: the trained model.
        inputs: (B, L) the items read, left-padded.
        history: (B, H) what the user had, 0 where there is nothing.
        targets: (B,) the item to be ranked.
    """
    model.eval()
    catalogue = model.items.weight  # (N+1, D)
    N = len(catalogue) - 1
    order_weights = torch.arange(1, N + 1, dtype=torch.float64)
    ranks: list[Tensor] = []
    for start in range(0, len(inputs), USERS_AT_ONCE):
        read = inputs[start : start + USERS_AT_ONCE]
        states = model.encode_users(catalogue[read], read != 0)[:, -1]
        scores = states @ catalogue.T
        per_user = zip(scores, history[start:], targets[start:], strict=False)
        ranks += starmap(lambda row, seen, target: _rank(row, seen, target, order_weights), per_user)
    return torch.stack(ranks).numpy().astype(np.int64)


def _rank(scores: Tensor, seen: Tensor, target: Tensor, order_weights: Tensor) -> Tensor:
    scores = scores.clone()
    scores[seen] = -torch.inf
    candidates = scores[1:]  # without padding
    order = torch.argsort(candidates, descending=True)
    one_hot = torch.zeros(len(candidates), dtype=torch.float64)
    one_hot[target - 1] = 1.0
    return (one_hot[order] * order_weights).sum()
