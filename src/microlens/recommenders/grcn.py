"""GRCN (Wei et al. 2020, arXiv 2111.02036): id vectors convolved over a graph with refined edge weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.adjacency import Adjacency, edge_products, weighted_sums
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.modalities import Modality, id_vectors, mean_square, modalities_of


class GRCN(GraphRecommender):
    """Graph convolution of id vectors over edges weighted by how well they fit the user's taste (Wei et al. 2020).

    Refinement: in modality m, each item has y = LeakyReLU of its projected features and each user a learned prototype
    u, all of unit length. The prototype moves towards similar items of the user (neighbour routing), T times:

        p(i) = exp(u . y(i)) / sum over the user's items j of exp(u . y(j))
        u    = (u + sum over the user's items i of p(i) y(i)), scaled to unit length

    The edge from node b to node a has the affinity s(a <- b) = exp(a . b) / sum over a's neighbours c of exp(a . c) and
    the weight ReLU(max over m of g(m, b) s(m, a <- b)), where g is a learned base value for each node and modality.
    The ReLU prunes edges below 0.

    Convolution: h(l) of a is the sum over neighbours b of weight(a <- b) h(l-1) of b, where h(0) are the id vectors
    scaled to unit length. With x(a) the u or y of a node after routing, its content in a modality is x(a) plus the sum
    over neighbours b of s(a <- b) x(b). Prediction: h(0) + ... + h(L) concatenated with the content of each modality,
    of size (1 + modalities) D.

    Unit length, content and penalty are those of the authors' implementation. Base values belong to the sender, as
    there, but start at 1: the authors draw them around 0, and a node that starts below 0 sends nothing for good,
    because a pruned edge has no gradient. Without features, the scaled id vectors are the only modality for edge
    weights, and nothing is concatenated to h.

    Args:
        item_encoder: tower of the items' id vectors, with output size ``dim``.
        dim: D, the size of vectors.
        num_users: U.
        num_items: N.
        train_pairs: user numbers (T,) and item numbers (T,) of the training set.
        item_ids: (N+1,) the id of each item number.
        features: ``.npy`` file, see :func:`microlens.data.feature_matrix.load_features`, or one per modality.
        layers: L, the number of convolutions, at least 1.
        routings: T, the number of routing iterations.
        regularization: weight of the penalty, at least 0: the mean square of the batch's id vectors, users and items,
            and of its users' prototypes before routing.
        dropout: dropout rate of the messages to neighbours.
    """

    revision = 2  # ids of unit length and routed vectors in the content part since 0.2.0

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        num_users: int,
        num_items: int,
        train_pairs: tuple[Tensor, Tensor],
        item_ids: ItemIds,
        features: str | list[str] | None = None,
        layers: int = 2,
        routings: int = 3,
        regularization: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or routings < 0 or regularization < 0:
            raise ValueError(
                f"layers = {layers}, routings = {routings}, regularization = {regularization:g}: at least 1, 0 and 0 "
                "are needed"
            )
        self.regularization = regularization
        self.layers, self.routings, self.dropout = layers, routings, Dropout(dropout)
        self.edges = Edges(train_pairs, num_users, num_items)
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))
        self.modalities = nn.ModuleList(modalities_of(features, item_ids, dim, num_users))
        self.base_values = nn.Parameter(torch.ones(max(1, len(self.modalities)), num_users + num_items))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The vectors of ``nodes`` (n,), with repeats allowed: (n, (1 + modalities) D)."""
        ids = functional.normalize(id_vectors(self.user_table, self.item_encoder, self.num_items))  # (U + N, D)
        starts = [_initial_vectors(modality) for modality in self.modalities]
        routed = [
            self._route(users, items) for users, items in starts or [(ids[: self.num_users], ids[self.num_users :])]
        ]
        shares = [self.edges.shares(self.edges.products(users, items)) for users, items in routed]  # (2T,) each
        weights = self._weights(torch.stack(shares))  # (2T,)
        layer = total = ids
        for _ in range(self.layers):
            layer = self.edges.sums(self.dropout(layer), weights)
            total = total + layer  # (U + N, D)
        contents = [
            self._content(torch.cat(vectors), share) for _, vectors, share in zip(starts, routed, shares, strict=False)
        ]  # (U + N, D) each
        return functional.embedding(nodes, torch.cat([total, *contents], 1))

    def penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """``regularization`` times the mean squares of the batch's ids and of its users' prototypes."""
        tables = self.user_table, *(modality.get_parameter("user_table") for modality in self.modalities)
        of_users = [functional.embedding(users, table) for table in tables]
        parts = [*of_users, self.item_encoder(ItemBatch(items=items))]
        return self.regularization * torch.stack([mean_square(vectors) for vectors in parts]).sum()

    def _route(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Run the routing on prototypes (U, D) and item vectors (N, D): both after routing, of unit length."""
        users, items = functional.normalize(users), functional.normalize(items)
        for _ in range(self.routings):
            shares = self.edges.shares_of_users(self.edges.products(users, items))  # (T,)
            users = functional.normalize(users + self.edges.sums_for_users(items, shares))
        return users, items

    def _content(self, vectors: Tensor, shares: Tensor) -> Tensor:
        """The routed vectors (U + N, D) plus those of their neighbours weighted by ``shares`` (2T,): (U + N, D)."""
        return vectors + self.edges.sums(vectors, shares)

    def _weights(self, shares: Tensor) -> Tensor:
        """The refined weights of all edges, sorted by receiver, from their ``shares`` (modalities, 2T): (2T,)."""
        return (shares * self.base_values.index_select(1, self.edges.senders)).amax(0).relu()


def _initial_vectors(modality: nn.Module) -> tuple[Tensor, Tensor]:
    """The prototypes (U, D) and item vectors (N, D) before routing."""
    assert isinstance(modality, Modality)
    return modality.user_table, functional.leaky_relu(modality())


class Edges(nn.Module):
    """The training edges in both directions: T edges into users, sorted by user, then T into items, sorted by item.

    Args:
        pairs: user numbers and item numbers; duplicates count once.
        num_users: U.
        num_items: N.
    """

    offsets: Tensor
    senders: Tensor
    receivers: Tensor
    by_item: Tensor

    def __init__(self, pairs: tuple[Tensor, Tensor], num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users = num_users
        adjacency = Adjacency(pairs, num_users, num_items)
        receivers = torch.arange(num_users + num_items).repeat_interleave(adjacency.offsets.diff())
        of_users = adjacency.neighbours[: len(receivers) // 2]
        for name, values in (
            ("offsets", adjacency.offsets),
            ("senders", adjacency.neighbours),
            ("receivers", receivers),
            ("by_item", of_users.argsort(stable=True)),  # (T,) the index of each item edge among the user edges
        ):
            self.register_buffer(name, values, persistent=False)

    @property
    def users(self) -> Tensor:
        """The user of each user edge: (T,)."""
        return self.receivers[: len(self.by_item)]

    @property
    def items(self) -> Tensor:
        """The item of each user edge, counted from 0: (T,)."""
        return self.senders[: len(self.by_item)] - self.num_users

    def sums(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """Sum the vectors (U + N, D) of the neighbours of each node, weighted by ``weights`` (2T,): (U + N, D)."""
        return weighted_sums(vectors, self.senders, weights, self.offsets[:-1])

    def sums_for_users(self, items: Tensor, weights: Tensor) -> Tensor:
        """Sum item vectors (N, D) per user, weighted by the ``weights`` (T,) of user edges: (U, D)."""
        return weighted_sums(items, self.items, weights, self.offsets[: self.num_users])

    def products(self, users: Tensor, items: Tensor) -> Tensor:
        """The dot product of user (U, D) and item (N, D) vectors along each user edge: (T,)."""
        return edge_products(users, items, self.items, self.offsets[: self.num_users])

    def shares_of_users(self, products: Tensor) -> Tensor:
        """Softmax of ``products`` (T,) over the edges of each user: (T,). Products are in [-1, 1]."""
        return _shares(products, self.users, self.num_users)

    def shares(self, products: Tensor) -> Tensor:
        """Softmax of ``products`` (T,) over the edges of each node: (2T,). Products are in [-1, 1]."""
        return _shares(torch.cat([products, products[self.by_item]]), self.receivers, len(self.offsets) - 1)


def _shares(products: Tensor, owners: Tensor, count: int) -> Tensor:
    powers = products.exp()  # no overflow: products are in [-1, 1]
    return powers / powers.new_zeros(count).index_add(0, owners, powers).index_select(0, owners)
