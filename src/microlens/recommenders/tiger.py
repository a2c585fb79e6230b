"""TIGER (Rajput et al. 2023, arXiv 2305.05065): the codes of the next item, predicted one after the other."""

from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.interactions import ItemIds
from microlens.data.item_codes import load_codes
from microlens.recommenders.attention import HIDDEN
from microlens.recommenders.base import Recommender
from microlens.recommenders.code_trie import CodeTrie, TrieLevel
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.fitted import ItemNumbers
from microlens.recommenders.t5 import BUCKETS, NORM_EPS, DecoderBlock, EncoderBlock, KeysAndValues, distance_buckets

ROWS_AT_ONCE = 256  # histories of about the same length, encoded without the padding of longer ones
# Maximum elements of the widest layer of one step, and of the keys and values of one block of users.
IN_STEP = {"cpu": 2**22, "cuda": 2**28}
IN_CACHE = {"cpu": 2**26, "cuda": 2**31}


class Read(NamedTuple):
    """What the decoder reads: for each block, keys and values (Q, H, T, s); and the mask (Q, 1, 1, T) of padding."""

    by_block: list[KeysAndValues]
    mask: Tensor


class TIGER(Recommender):
    r"""A T5 that reads the codes of the history's items and predicts those of the next (Rajput et al. 2023).

    An item has C codes, which content gives it (``microlens features codes``). The encoder reads a token for the user
    and C for each item. The score of an item is its log-probability,

    .. math:: \sum_{l=1}^{C} \log p(c_l \mid c_1, \dots, c_{l-1}, \text{user}, \text{history})

    which the decoder computes for the whole catalogue, exactly: it walks the trie of the catalogue's codes from level
    to level and takes one step for each prefix, so that a prefix is computed once for all items that have it. The paper
    searches with a beam, and finds no other items than it keeps. ``train.loss = "likelihood"`` is the paper's loss.

    Letters: C codes of an item, T tokens, H heads of size s, a prefixes.

    Args:
        dim: D, the size of tokens.
        item_ids: (N+1,) the id of each item number.
        codes: path of a ``.npy`` matrix of codes, see :func:`microlens.data.item_codes.load_codes`.
        layers: number of blocks of the encoder, and of the decoder.
        heads: H.
        head_size: s.
        feed_forward: width of the feed-forward networks.
        dropout: dropout rate of tokens, attention weights, hidden layers and outputs.
        user_tokens: number of tokens for users, who share them by user number; 0 for one that all users share, so that
            a history can be ranked without its user.
        softmax: over all "codes" of a level, as in the paper, or over those that the "trie" has after a prefix. The
            probabilities of all items then sum to 1, and prefixes of a single item cost nothing.

    Raises:
        ValueError: an argument is out of range.
        InputError: ``codes`` is no file of codes.
    """

    log_probabilities = True
    item_tokens: Tensor  # (N+1, C), 0 for padding

    def __init__(
        self,
        *,
        dim: int,
        item_ids: ItemIds,
        codes: str,
        layers: int = 4,
        heads: int = 6,
        head_size: int = 64,
        feed_forward: int = 1024,
        dropout: float = 0.1,
        user_tokens: int = 2000,
        softmax: Literal["codes", "trie"] = "codes",
    ) -> None:
        super().__init__(ItemNumbers())
        if min(layers, heads, head_size, feed_forward) < 1 or user_tokens < 0:
            raise ValueError(
                f"layers = {layers}, heads = {heads}, head_size = {head_size}, feed_forward = {feed_forward}, "
                f"user_tokens = {user_tokens}: the last must be at least 0, the others at least 1"
            )
        matrix = load_codes(codes, item_ids[1:])
        self.sizes = [int(column.max()) + 1 for column in matrix.T]  # K of each level
        self.trie = CodeTrie(matrix, self.sizes, restricted=softmax == "trie")
        self.known_users_only = user_tokens > 0
        self.user_tokens = max(1, user_tokens)
        self.starts = list(accumulate(self.sizes, initial=1))  # the first token of each level, and of users
        tokens = torch.from_numpy(matrix) + torch.tensor(self.starts[:-1])
        self.register_buffer("item_tokens", functional.pad(tokens, (0, 0, 1, 0)), persistent=False)
        self.tokens = nn.Parameter(init.normal_(torch.empty(self.starts[-1] + self.user_tokens, dim)))  # 0: the start
        shape = dim, heads, head_size, feed_forward, dropout
        self.encoder = nn.ModuleList([EncoderBlock(*shape) for _ in range(layers)])
        self.decoder = nn.ModuleList([DecoderBlock(*shape) for _ in range(layers)])
        # By bucket and, in the decoder, whose distances are short, by distance.
        self.encoder_bias = nn.Parameter(init.normal_(torch.empty(heads, BUCKETS), std=dim**-0.5))
        self.decoder_bias = nn.Parameter(init.normal_(torch.empty(heads, len(self.sizes)), std=dim**-0.5))
        self.encoder_norm, self.decoder_norm = nn.RMSNorm(dim, eps=NORM_EPS), nn.RMSNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        self.width = max(feed_forward, *self.sizes, (1 + len(self.sizes)) * heads * head_size)
        self.cached = 2 * layers * heads * head_size * sum(len(level.codes) for level in self._levels()[:-1])

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The states after each item: (B, L, 1 + L)."""
        L = history.shape[1]
        until = functional.pad(history, (L - 1, 0)).unfold(1, L, 1)  # (B, L, L)
        return torch.cat([self._user_token(users)[:, None, None].expand(-1, L, 1), until], 2).float()

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The user's token and the history as the state: (B, 1 + L)."""
        return torch.cat([self._user_token(users)[:, None], history], 1).float()

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """The log-probabilities of the items with numbers ``items`` (C, 1) for states (Q, 1 + L): (Q, C)."""
        at_once = max(1, IN_CACHE[_kind(users)] // max(1, self.cached))
        scores = torch.cat([self._score_catalogue(part) for part in torch.split(users, at_once)])
        return scores.index_select(1, items[:, 0].long())

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """The log-probabilities of each state's own items, with numbers ``items`` (Q, K, 1): (Q, K)."""
        numbers = items[..., 0].long()
        order = (users[:, 1:] > 0).sum(1).argsort()
        parts = [self._score_own(users[rows], numbers[rows]) for rows in torch.split(order, ROWS_AT_ONCE)]
        return torch.cat(parts)[order.argsort()]

    def _score_catalogue(self, states: Tensor) -> Tensor:
        """The log-probabilities of all items, 0 for padding: (Q, N+1)."""
        read = self._read(states)
        scores = states.new_zeros(len(states), 1)  # of the empty prefix
        cache: list[list[KeysAndValues]] = []  # of each length, by block, (Q, H, a, s)
        for length, level in enumerate(self._levels()):
            steps, kept = [], []
            for start, end in self._tiles(states, level):
                before = [
                    [(keys[:, :, rows], values[:, :, rows]) for keys, values in blocks]
                    for blocks, rows in zip(cache, level.ancestors[start:end].T, strict=True)
                ]
                tokens = level.codes[start:end] + self.starts[length - 1] if length else level.codes[start:end]
                output, own = self._step(tokens.expand(len(states), -1), before, read)
                under = slice(*torch.searchsorted(level.below_rows, level.below_rows.new_tensor([start, end])).tolist())
                logs = self._log_softmax(output, length, level.allowed[start:end])  # (Q, t, K)
                steps.append(logs[:, level.below_rows[under] - start, level.below_codes[under]])
                kept.append(own)
            scores = scores[:, level.parents]
            if steps:
                scores = scores.index_add(1, level.below, torch.cat(steps, 1))
                cache.append([_joined(tiles) for tiles in zip(*kept, strict=True)])
        return functional.pad(scores[:, self.trie.leaves], (1, 0))

    def _score_own(self, states: Tensor, items: Tensor) -> Tensor:
        """The log-probabilities of each state's own items (Q, K): (Q, K)."""
        read = self._read(states)
        tokens = self.item_tokens[items]  # (Q, K, C)
        last = torch.zeros_like(items)  # the token before
        before: list[list[KeysAndValues]] = []
        scores = states.new_zeros(items.shape)
        for length, level in enumerate(self._levels()):
            output, own = self._step(last, before, read)
            rows = level.row_of_item[items]  # (Q, K)
            last = tokens[..., length]
            allowed = level.allowed[rows.clamp(min=0)] if len(level.allowed) else level.allowed
            logs = self._log_softmax(output, length, allowed)  # (Q, K, codes)
            code = (last - self.starts[length]).clamp(min=0)
            scores = scores + torch.where(rows >= 0, logs.gather(2, code[..., None])[..., 0], 0.0)
            before.append(own)
        return scores

    def _read(self, states: Tensor) -> Read:
        """Encode the users and histories of states (Q, 1 + L)."""
        numbers = states.long()
        user, history = numbers[:, :1], numbers[:, 1:]
        lengths = (history > 0).sum(1, keepdim=True)  # (Q, 1)
        places = torch.arange(int(lengths.max()) if len(lengths) else 0, device=states.device)
        items = history.gather(1, (places + history.shape[1] - lengths).clamp(max=history.shape[1] - 1))  # oldest first
        real = places < lengths  # (Q, n)
        C = len(self.sizes)
        tokens = torch.cat([user + self.starts[-1], self.item_tokens[items].flatten(1)], 1)  # (Q, T)
        visible = functional.pad(real.repeat_interleave(C, 1), (1, 0), value=True)
        mask = torch.where(visible, 0.0, HIDDEN)[:, None, None]  # (Q, 1, 1, T)
        hidden = self.dropout(functional.embedding(tokens, self.tokens))
        bias = self.encoder_bias[:, distance_buckets(tokens.shape[1], states.device)] + mask  # (Q, H, T, T)
        for block in self.encoder:
            hidden = block(hidden, bias)
        encoded = self.dropout(self.encoder_norm(hidden))
        return Read([block.cross_attention.keys_and_values(encoded) for block in self._decoder_blocks()], mask)

    def _step(
        self, tokens: Tensor, before: list[list[KeysAndValues]], read: Read
    ) -> tuple[Tensor, list[KeysAndValues]]:
        """The output (Q, t, D) after the last tokens (Q, t) of t prefixes; and by block, what later steps read.

        ``before`` has, for each position before and each block, keys and values (Q, H, t, s).
        """
        hidden = self.dropout(functional.embedding(tokens, self.tokens))
        length = len(before)
        bias = self.decoder_bias[:, : length + 1].flip(1)[:, None]  # (H, 1, length + 1)
        kept = []
        for number, block in enumerate(self._decoder_blocks()):
            past = [blocks[number] for blocks in before]
            hidden, own = block(hidden, past, bias, read.by_block[number], read.mask)
            kept.append(own)
        return self.dropout(self.decoder_norm(hidden)), kept

    def _log_softmax(self, output: Tensor, length: int, allowed: Tensor) -> Tensor:
        """The log-probabilities of the codes after prefixes of this length, (Q, t, K), from outputs (Q, t, D)."""
        table = self.tokens[self.starts[length] : self.starts[length + 1]]
        logits = (output * table.shape[1] ** -0.5 @ table.T).float()
        if len(allowed):
            logits = logits.masked_fill(~allowed, -torch.inf)
        logs: Tensor = logits.log_softmax(2)
        return logs

    def _tiles(self, states: Tensor, level: TrieLevel) -> list[tuple[int, int]]:
        """The bounds of parts of the asked prefixes of a level that one step takes."""
        size = max(1, IN_STEP[_kind(states)] // (len(states) * self.width))
        asked = len(level.codes)
        return [(start, min(start + size, asked)) for start in range(0, asked, size)]

    def _user_token(self, users: Tensor) -> Tensor:
        return users % self.user_tokens

    def _levels(self) -> list[TrieLevel]:
        return [level for level in self.trie.levels if isinstance(level, TrieLevel)]

    def _decoder_blocks(self) -> list[DecoderBlock]:
        return [block for block in self.decoder if isinstance(block, DecoderBlock)]


def _kind(tensor: Tensor) -> str:
    return "cpu" if tensor.device.type == "cpu" else "cuda"


def _joined(tiles: tuple[KeysAndValues, ...]) -> KeysAndValues:
    keys, values = zip(*tiles, strict=True)
    return torch.cat(keys, 2), torch.cat(values, 2)
