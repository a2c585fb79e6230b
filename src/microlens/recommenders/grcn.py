"""GRCN (Wei et al. 2020, arXiv 2111.02036): ids convolved over a graph whose edges are weighed by confidence."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional, init

from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.graph import Adjacency, GraphRecommender, weighted_sums
from microlens.recommenders.modalities import Modality, id_vectors, modalities_of

COLUMNS = 64  # of vectors, gathered edge by edge at a time


class GRCN(GraphRecommender):
    """Edges of the train part's graph weighed by how well they fit the user's taste, then ids convolved over them.

    Refining: in modality m, each item is y = LeakyReLU of its projected features and each user a learned prototype u,
    all of unit length. The prototype moves towards what it resembles among the user's items (neighbour routing), T
    times:

        p(i) = exp(u . y(i)) / sum over the user's items j of exp(u . y(j))
        u    = (u + sum over the user's items i of p(i) y(i)), scaled to unit length

    The edge by which node b sends to node a is worth s(a <- b) = exp(a . b) / sum over a's neighbours c of exp(a . c),
    and its weight is ReLU(max over m of g(m, b) s(m, a <- b)), with a learned base value g a node and modality. What
    falls below 0 is cut off.

    Convolution: h(l) of a is the sum over neighbours b of weight(a <- b) h(l-1) of b, where h(0) are the ids.
    Prediction: h(0) + ... + h(L), with u or y of each modality beside it, (1 + modalities) D numbers in all.

    Where this text and the paper may part: base values start at 1, so that no edge is cut off before training; they
    belong to the sender; y and u stand beside the ids as they come out of routing. Without features the ids, scaled to
    unit length, are the one modality that edges are weighed by, and nothing stands beside h.

    Args:
        item_encoder: tower of the items' ids, of size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        train_pairs: user numbers (T,) and item numbers (T,) of the train part.
        item_ids: (N+1,) the id of each item number.
        features: a ``.npy`` matrix, see :func:`microlens.data.feature_matrix.load_features`, or one a modality.
        layers: L, at least 1.
        routings: how often prototypes move.
        dropout: share of the numbers in messages to neighbours that is zeroed in training.
    """

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
        dropout: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or routings < 0:
            raise ValueError(f"layers = {layers} and routings = {routings}: at least 1 and 0 are needed")
        self.layers, self.routings, self.dropout = layers, routings, nn.Dropout(dropout)
        self.edges = Edges(train_pairs, num_users, num_items)
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))
        self.modalities = nn.ModuleList(modalities_of(features, item_ids, dim, num_users))
        self.base_values = nn.Parameter(torch.ones(max(1, len(self.modalities)), num_users + num_items))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The rows of ``nodes`` (n,), which may repeat: (n, (1 + modalities) D)."""
        ids = id_vectors(self.user_table, self.item_encoder, self.num_items)
        starts = [_start(modality) for modality in self.modalities]
        routed = [
            self._route(users, items) for users, items in starts or [(ids[: self.num_users], ids[self.num_users :])]
        ]
        weights = self._weights(routed)
        layer = total = ids
        for _ in range(self.layers):
            layer = weighted_sums(self.dropout(layer), self.edges.senders, weights, self.edges.offsets[:-1])
            total = total + layer
        beside = [torch.cat(both) for both in routed[: len(starts)]]
        return functional.embedding(nodes, torch.cat([total, *beside], 1))

    def _route(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Prototypes after routing, (U, D), and items, (N, D), from those before; all of unit length."""
        users, items = functional.normalize(users), functional.normalize(items)
        for _ in range(self.routings):
            shares = self.edges.shares_of_users(edge_products(users, items, self.edges))
            users = functional.normalize(users + self.edges.sums_for_users(items, shares))
        return users, items

    def _weights(self, routed: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The weights of all edges, sorted by receiver: (2 T,)."""
        shares = torch.stack([self.edges.shares(edge_products(users, items, self.edges)) for users, items in routed])
        return (shares * self.base_values.index_select(1, self.edges.senders)).amax(0).relu()


def _start(modality: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(modality, Modality)
    return modality.user_table, functional.leaky_relu(modality.items())


class Edges(nn.Module):
    """Who had what in the train part, each edge twice: T of users, sorted by user, then T of items, sorted by item.

    Args:
        pairs: user numbers and item numbers; what occurs twice counts once.
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
            ("by_item", of_users.argsort(stable=True)),  # which of the users' edges each of the items' is
        ):
            self.register_buffer(name, values, persistent=False)

    @property
    def users(self) -> Tensor:
        """The user of each edge of users: (T,)."""
        return self.receivers[: len(self.by_item)]

    @property
    def items(self) -> Tensor:
        """The item of each edge of users, the first being 0: (T,)."""
        return self.senders[: len(self.by_item)] - self.num_users

    def sums_for_users(self, items: Tensor, weights: Tensor) -> Tensor:
        """What users get of items (N, D) over edges of users of ``weights`` (T,): (U, D)."""
        return weighted_sums(items, self.items, weights, self.offsets[: self.num_users])

    def sums_for_items(self, users: Tensor, weights: Tensor) -> Tensor:
        """What items get of users (U, D) over edges of users of ``weights`` (T,): (N, D)."""
        begins = self.offsets[self.num_users : -1] - len(self.by_item)
        return weighted_sums(users, self.users[self.by_item], weights[self.by_item], begins)

    def shares_of_users(self, products: Tensor) -> Tensor:
        """Each user's softmax over ``products`` (T,), which lie between -1 and 1, of its edges: (T,)."""
        return _shares(products, self.users, self.num_users)

    def shares(self, products: Tensor) -> Tensor:
        """Each node's softmax over ``products`` (T,), which lie between -1 and 1, of its edges: (2 T,)."""
        return _shares(torch.cat([products, products[self.by_item]]), self.receivers, len(self.offsets) - 1)


def _shares(products: Tensor, owners: Tensor, count: int) -> Tensor:
    powers = products.exp()
    return powers / powers.new_zeros(count).index_add(0, owners, powers).index_select(0, owners)


class _EdgeProducts(torch.autograd.Function):
    """A plain gather would keep a vector for each edge and add gradients up edge by edge; these are sums of rows."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(users, items)
        ctx.edges = edges
        products = users.new_zeros(len(edges.by_item))
        for begin in range(0, users.shape[1], COLUMNS):
            user, item = (vectors[:, begin : begin + COLUMNS] for vectors in (users, items))
            products += (user.index_select(0, edges.users) * item.index_select(0, edges.items)).sum(1)
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        users, items = ctx.saved_tensors
        return ctx.edges.sums_for_users(items, gradient), ctx.edges.sums_for_items(users, gradient), None


def edge_products(users: Tensor, items: Tensor, edges: Edges) -> Tensor:
    """The dot product of user (U, D) and item (N, D) of each edge of users: (T,)."""
    products: Tensor = _EdgeProducts.apply(users, items, edges)  # type: ignore[no-untyped-call]
    return products
