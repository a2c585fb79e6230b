"""The prefix tree of the codes of a catalogue."""

import numpy as np
import torch
from torch import Tensor, nn

from microlens.data.interactions import Int64


class CodeTrie(nn.Module):
    """The prefixes of the codes (N, C) of N items, one level for each length 0 to C - 1.

    Prefixes of a length are numbered in ascending order; the one of length C of an item is its leaf.

    Args:
        codes: (N, C), different for each item.
        sizes: (C,) number of codes of each level.
        restricted: the next code after a prefix is one that an item has there. Prefixes of a single item then tell
            everything, and are not asked.
    """

    leaves: Tensor  # (N,) the leaf of each item

    def __init__(self, codes: Int64, sizes: list[int], *, restricted: bool) -> None:
        super().__init__()
        N, C = codes.shape
        prefix = [np.zeros(N, np.int64)]  # of each length, the number of each item's prefix
        for length in range(1, C + 1):
            pairs = np.stack([prefix[-1], codes[:, length - 1]], 1)
            prefix.append(np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1))
        self.register_buffer("leaves", torch.from_numpy(prefix[C]), persistent=False)
        levels: list[TrieLevel] = []
        for length in range(C):
            levels.append(TrieLevel(codes, prefix, length, sizes[length], restricted, levels))
        self.levels = nn.ModuleList(levels)


class TrieLevel(nn.Module):
    """The prefixes of one length l, for a asked ones of which the next code is predicted.

    Letters: n prefixes, a of them asked, m prefixes of the next length below asked ones, K codes.

    Attributes:
        ancestors: (a, l) the rows of a prefix's own prefixes, of length 0 to l - 1, among the asked ones.
        codes: (a,) last code of each; 0 for the empty prefix.
        allowed: (a, K) true for codes that can follow; (0, K) if all can.
        parents: (n',) the prefix of each of all n' prefixes of the next length.
        below: (m,) the prefixes of the next length below asked ones, ascending.
        below_rows: (m,) the row of their parent among the asked ones, ascending.
        below_codes: (m,) their last code.
        row_of_item: (N + 1,) the row of each item's prefix among the asked ones, -1 if it is not asked; of padding, -1.
    """

    ancestors: Tensor
    codes: Tensor
    allowed: Tensor
    parents: Tensor
    below: Tensor
    below_rows: Tensor
    below_codes: Tensor
    row_of_item: Tensor

    def __init__(
        self,
        codes: Int64,
        prefix: list[Int64],
        length: int,
        num_codes: int,
        restricted: bool,
        above: list["TrieLevel"],
    ) -> None:
        super().__init__()
        own, following = prefix[length], prefix[length + 1]
        items_below = np.bincount(own)  # (n,)
        asked = np.flatnonzero(items_below > 1) if restricted else np.arange(len(items_below))  # (a,)
        row = np.full(len(items_below), -1)
        row[asked] = np.arange(len(asked))
        an_item = np.unique(own, return_index=True)[1][asked]  # (a,) an item below each
        first_below = np.unique(following, return_index=True)[1]  # (n',) an item below each
        parents = own[first_below]
        below = np.flatnonzero(row[parents] >= 0)  # (m,)
        below_rows, below_codes = row[parents[below]], codes[first_below[below], length]
        allowed = np.zeros((len(asked) if restricted else 0, num_codes), np.bool_)
        if restricted:
            allowed[below_rows, below_codes] = True
        ancestors = np.stack([level.row_of_item.numpy()[an_item + 1] for level in above], 1) if above else None
        arrays = {
            "ancestors": np.zeros((len(asked), 0), np.int64) if ancestors is None else ancestors,
            "codes": codes[an_item, length - 1] if length else np.zeros(len(asked), np.int64),
            "allowed": allowed,
            "parents": parents,
            "below": below,
            "below_rows": below_rows,
            "below_codes": below_codes,
            "row_of_item": np.append(-1, row[own]),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
