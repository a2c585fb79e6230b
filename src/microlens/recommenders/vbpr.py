"""VBPR (He and McAuley 2016, arXiv 1510.01784): matrix factorization over ids and frozen features side by side."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.data.feature_matrix import load_features
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.base import Recommender


class VBPR(Recommender):
    """The dot product of a user's two halves with an item's id vector and its projected features.

    With f the frozen features of an item, the score of equation 4 of He and McAuley without its biases is

        score(u, i) = id(u) . id(i) + taste(u) . E f(i)

    where all four vectors have D/2 numbers, so that users and items have D. This is the MicroLens authors' DSSM_ID+V.
    The paper's regularization is ``train.weight_decay``; with ``train.loss = "bpr"`` the loss is the paper's, too.

    Args:
        features: path of a ``.npy`` matrix, see :func:`microlens.data.feature_matrix.load_features`.
        dim: D, even.
        num_users: U.
        num_items: N.
        item_ids: (N+1,) the id of each item number.
        reject_own: exclude a user's other training items from the negatives. The original code, which ranks a target
            among the batch's other targets, does not exclude them. No effect on losses that draw negatives for each
            target (bpr, bce, gbce), which never draw these items.
    """

    examples = "pairs"
    known_users_only = True

    def __init__(
        self,
        *,
        features: str,
        dim: int,
        num_users: int,
        num_items: int,
        item_ids: ItemIds,
        reject_own: bool = True,
    ) -> None:
        if dim % 2:
            raise ValueError(f"dim = {dim}: it must be even, because ids and features have half of it each")
        super().__init__(IdBesideFeatures(torch.from_numpy(load_features(features, item_ids[1:])), dim, num_items))
        self.rejects_own = reject_own
        self.user_ids = LookupTable(init.xavier_normal_(Tensor(num_users, dim // 2)))
        self.user_tastes = LookupTable(init.xavier_normal_(Tensor(num_users, dim // 2)))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The two halves of the users' vectors, independent of the history: (B, D)."""
        return torch.cat([half.rows(users) for half in (self.user_ids, self.user_tastes)], 1)


class IdBesideFeatures(ItemEncoder):
    """A learned id vector and the projection E f of frozen features, D/2 numbers each, side by side.

    Args:
        features: (N, F) the feature matrix.
        dim: D.
        num_items: N; row 0 of the id table is padding.
    """

    known_items_only = True
    features: Tensor

    def __init__(self, features: Tensor, dim: int, num_items: int) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.table = LookupTable(init.xavier_normal_(Tensor(num_items + 1, dim // 2)))
        self.projection = nn.Linear(features.shape[1], dim // 2, bias=False)
        init.xavier_normal_(self.projection.weight)

    def forward(self, items: ItemBatch) -> Tensor:
        """Look up ids and project features: (M, D)."""
        projected = self.projection(self.features[items.items - 1])
        return torch.cat([self.table.rows(items.items), projected], 1)
