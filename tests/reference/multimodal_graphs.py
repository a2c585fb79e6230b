"""MMGCN and GRCN from their equations, one node and one neighbour at a time.

Nodes are numbered users first; ``pairs`` hold a user and an item's node. Vectors are lists of (D,), one a node.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Pairs = Sequence[tuple[int, int]]
Matrices = tuple[Tensor, Tensor, Tensor]  # W1, W2, W3


def leaky(vector: Tensor) -> Tensor:
    return torch.where(vector > 0, vector, 0.01 * vector)


def neighbours_of(node: int, pairs: Pairs) -> list[int]:
    """Those that share an edge with ``node``, each once."""
    return sorted({b if node == a else a for a, b in pairs if node in (a, b)})


def mmgcn_loop(
    starts: list[list[Tensor]], ids: list[Tensor], pairs: Pairs, layers: list[list[Matrices]]
) -> list[Tensor]:
    """The sum over modalities of the last layers, from each modality's vectors and matrices by layer."""
    finals = [torch.zeros_like(vector) for vector in ids]
    for start, matrices_of_layer in zip(starts, layers, strict=True):
        vectors = start
        for W1, W2, W3 in matrices_of_layer:
            after = []
            for node, vector in enumerate(vectors):
                near = neighbours_of(node, pairs)
                total = torch.zeros_like(vector)
                for other in near:
                    total = total + W1 @ vectors[other] / len(near)
                after.append(leaky(W3 @ leaky(total) + leaky(W2 @ vector) + ids[node]))
            vectors = after
        finals = [final + vector for final, vector in zip(finals, vectors, strict=True)]
    return finals


def softmax_of(node: int, near: list[int], vectors: list[Tensor]) -> dict[int, Tensor]:
    """How ``node`` shares itself out among ``near``, by their dot products."""
    powers = {other: (vectors[node] @ vectors[other]).exp() for other in near}
    return {other: power / sum(powers.values()) for other, power in powers.items()}


def routed_loop(vectors: list[Tensor], num_users: int, pairs: Pairs, routings: int) -> list[Tensor]:
    """Prototypes after routing, and items; all of unit length."""
    vectors = [vector / vector.norm() for vector in vectors]
    for _ in range(routings):
        moved = list(vectors)
        for user in range(num_users):
            total = vectors[user]
            for item, share in softmax_of(user, neighbours_of(user, pairs), vectors).items():
                total = total + share * vectors[item]
            moved[user] = total / total.norm()
        vectors = moved
    return vectors


def grcn_loop(
    modalities: list[list[Tensor]],
    ids: list[Tensor],
    num_users: int,
    pairs: Pairs,
    base_values: Tensor,
    *,
    layers: int,
    routings: int,
    beside: bool,
) -> list[Tensor]:
    """Ids after convolution, and what comes out of routing beside them; base_values (modalities, U + N)."""
    routed = [routed_loop(vectors, num_users, pairs, routings) for vectors in modalities]
    layer = totals = ids
    for _ in range(layers):
        after = []
        for node in range(len(ids)):
            near = neighbours_of(node, pairs)
            shares = [softmax_of(node, near, vectors) for vectors in routed]
            received = torch.zeros_like(ids[node])
            for sender in near:
                worths = [base_values[m, sender] * share[sender] for m, share in enumerate(shares)]
                received = received + torch.stack(worths).max().clamp(min=0) * layer[sender]
            after.append(received)
        layer = after
        totals = [total + vector for total, vector in zip(totals, layer, strict=True)]
    if not beside:
        return totals
    return [torch.cat([total, *(vectors[node] for vectors in routed)]) for node, total in enumerate(totals)]
