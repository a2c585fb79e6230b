"""DSSM as used by the MicroLens authors: two towers without hidden layers, which is matrix factorization."""

from torch import Tensor
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.base import Recommender


class DSSM(Recommender):
    """Matrix factorization: the dot product of a learned user vector and the item tower's vector.

    Named after Huang et al. 2013 ("Learning deep structured semantic models"); the original code's towers have no
    hidden layers. The paper's DSSM_ID+V is :class:`microlens.recommenders.vbpr.VBPR`.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of user and item vectors.
        num_users: U.
        reject_own: exclude a user's other training items from the negatives. The original code, which ranks a target
            among the batch's other targets, does not exclude them. No effect on losses that draw negatives for each
            target (bpr, bce, gbce), which never draw these items.
    """

    examples = "pairs"
    known_users_only = True

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, num_users: int, reject_own: bool = True) -> None:
        super().__init__(item_encoder)
        self.rejects_own = reject_own
        self.user_table = LookupTable(init.xavier_normal_(Tensor(num_users, dim)))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The user embeddings, independent of the history: (B, D)."""
        return self.user_table.rows(users)
