"""DSSM as the MicroLens authors ran it (two towers without hidden layers, so matrix factorization)."""

from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender


class DSSM(Recommender):
    """A learned vector a user, times the item tower's vector.

    The name is that of Huang et al. 2013 ("Learning deep structured semantic models"); the original code's towers have
    no hidden layers. Over ids and frozen features added up it is the paper's DSSM_ID+V, after VBPR (He and McAuley
    2016, arXiv 1510.01784).

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        num_users: U.
        reject_own: whether a user's other train items are left out of a target's negatives; the original code, which
            ranks a target among the batch's other targets, leaves none out.
    """

    examples = "pairs"
    known_users_only = True

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, num_users: int, reject_own: bool = True) -> None:
        super().__init__(item_encoder)
        self.rejects_own = reject_own
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The users' vectors, whatever they read: (B, D)."""
        return functional.embedding(users, self.user_table)
