"""The blocks of T5 (Raffel et al. 2020, arXiv 1910.10683), with a decoder that takes one step on many prefixes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.recommenders.dropout import Dropout

NORM_EPS = 1e-6
BUCKETS = 32
FURTHEST = 128  # distances from here on share a bucket

KeysAndValues = tuple[Tensor, Tensor]
"""Of H heads of size s, (Q, H, n, s) each."""


class Attention(nn.Module):
    """The projections of multi-head attention, without biases; logits are not divided by the root of the head's size.

    Args:
        dim: D.
        heads: H.
        head_size: s.
        dropout: dropout rate of the weights.
    """

    def __init__(self, dim: int, heads: int, head_size: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        inner = heads * head_size
        self.query, self.key, self.value = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.output = nn.Linear(inner, dim, bias=False)
        init.normal_(self.query.weight, std=(dim * head_size) ** -0.5)
        init.normal_(self.key.weight, std=dim**-0.5)
        init.normal_(self.value.weight, std=dim**-0.5)
        init.normal_(self.output.weight, std=inner**-0.5)

    def queries(self, states: Tensor) -> Tensor:
        """(Q, n, D) to (Q, H, n, s)."""
        return self._by_head(self.query(states))

    def keys_and_values(self, states: Tensor) -> KeysAndValues:
        """(Q, n, D) to (Q, H, n, s) each."""
        return self._by_head(self.key(states)), self._by_head(self.value(states))

    def attend(self, queries: Tensor, read: KeysAndValues, bias: Tensor) -> Tensor:
        """Attend from (Q, H, t, s) to n states, with a bias that broadcasts to (Q, H, t, n): (Q, t, D)."""
        keys, values = read
        weights = self.dropout((queries @ keys.transpose(2, 3) + bias).softmax(3))
        return self.joined(weights @ values)

    def attend_each(self, queries: Tensor, read: list[KeysAndValues], bias: Tensor) -> Tensor:
        """Attend from each of t queries (Q, H, t, s) to states of its own: (Q, t, D).

        Args:
            queries: (Q, H, t, s).
            read: keys and values (Q, H, t, s) of the first state of each query, of the second, and so on, n in all.
            bias: (H, 1, n).
        """
        logits = torch.stack([(queries * keys).sum(3) for keys, _ in read], 3)  # (Q, H, t, n)
        weights = self.dropout((logits + bias).softmax(3))
        parts = [weights[..., place, None] * values for place, (_, values) in enumerate(read)]
        return self.joined(torch.stack(parts).sum(0))

    def joined(self, by_head: Tensor) -> Tensor:
        """(Q, H, n, s) to (Q, n, D)."""
        joined: Tensor = self.output(by_head.transpose(1, 2).flatten(2))
        return joined

    def _by_head(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers without biases and a ReLU between them, for normed states."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.expand = nn.Linear(dim, hidden, bias=False)
        self.contract = nn.Linear(hidden, dim, bias=False)
        self.dropout = Dropout(dropout)
        init.normal_(self.expand.weight, std=dim**-0.5)
        init.normal_(self.contract.weight, std=hidden**-0.5)

    def forward(self, states: Tensor) -> Tensor:
        """(Q, n, D) to (Q, n, D), the residual connection included."""
        hidden = self.dropout(functional.relu(self.expand(self.norm(states))))
        fed: Tensor = states + self.dropout(self.contract(hidden))
        return fed


class EncoderBlock(nn.Module):
    """Self-attention in both directions and a feed-forward network, pre-norm."""

    def __init__(self, dim: int, heads: int, head_size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.attention = Attention(dim, heads, head_size, dropout)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(Q, T, D) to (Q, T, D), with a bias (Q, H, T, T) that hides padding."""
        normed = self.norm(states)
        attended = self.attention.attend(self.attention.queries(normed), self.attention.keys_and_values(normed), bias)
        fed: Tensor = self.feed_forward(states + self.dropout(attended))
        return fed


class DecoderBlock(nn.Module):
    """Self-attention to what came before, attention to the encoder's output, a feed-forward network; pre-norm."""

    def __init__(self, dim: int, heads: int, head_size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.cross_norm = nn.RMSNorm(dim, eps=NORM_EPS), nn.RMSNorm(dim, eps=NORM_EPS)
        self.attention = Attention(dim, heads, head_size, dropout)
        self.cross_attention = Attention(dim, heads, head_size, dropout)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self, states: Tensor, before: list[KeysAndValues], bias: Tensor, read: KeysAndValues, mask: Tensor
    ) -> tuple[Tensor, KeysAndValues]:
        """Take the step at one position for t prefixes of the same length.

        Args:
            states: (Q, t, D) at the last position of each prefix.
            before: keys and values (Q, H, t, s) at each of the positions before, the first position first.
            bias: (H, 1, n) for the n positions, this one last.
            read: keys and values of the encoder's output, (Q, H, T, s) each.
            mask: (Q, 1, 1, T), which hides padding.

        Returns:
            The states (Q, t, D), and the keys and values (Q, H, t, s) that later positions read.
        """
        normed = self.norm(states)
        own = self.attention.keys_and_values(normed)
        attended = self.attention.attend_each(self.attention.queries(normed), [*before, own], bias)
        states = states + self.dropout(attended)
        crossed = self.cross_attention.attend(self.cross_attention.queries(self.cross_norm(states)), read, mask)
        fed: Tensor = self.feed_forward(states + self.dropout(crossed))
        return fed, own


def distance_buckets(length: int, device: torch.device) -> Tensor:
    """The bucket of each pair of a query and a key among ``length`` tokens, read in both directions: (T, T).

    Half of the 32 buckets are for keys after the query. In each half, distances below 8 have a bucket of their own;
    from there to 128 buckets are logarithmic.
    """
    places = torch.arange(length, device=device)
    offset = places - places[:, None]  # key minus query
    half = BUCKETS // 2
    exact = half // 2
    distance = offset.abs()
    logarithmic = (distance.clamp(min=1) / exact).log() / math.log(FURTHEST / exact) * (half - exact)
    far = (exact + logarithmic.long()).clamp(max=half - 1)
    return half * (offset > 0) + torch.where(distance < exact, distance, far)
