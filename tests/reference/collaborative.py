"""Collaborative models the slow, obvious way: one user, one candidate and one node at a time."""

import math
from itertools import combinations

import torch
from torch import Tensor


def bi_interaction_loop(vectors: list[Tensor]) -> Tensor:
    """The sum over all pairs of vectors (D,) of their element-wise products: (D,)."""
    total = torch.zeros_like(vectors[0])
    for first, second in combinations(vectors, 2):
        total = total + first * second
    return total


def nfm_loop(
    history: list[Tensor], candidate: Tensor, state: dict[str, Tensor], mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """The score of one candidate after the items of a history; ``mean`` and ``variance`` (D,) normalise."""
    pooled = bi_interaction_loop([*history, candidate])
    normed = (pooled - mean) / (variance + eps).sqrt() * state["norm.weight"] + state["norm.bias"]
    hidden = (state["hidden.weight"] @ normed + state["hidden.bias"]).clamp(min=0)
    return (state["output.weight"] @ hidden + state["output.bias"])[0]


def deepfm_loop(history: list[Tensor], candidate: Tensor, state: dict[str, Tensor], places: int) -> Tensor:
    """The score of one candidate after the items of a history, which fill the last of ``places``."""
    empty = [torch.zeros_like(candidate)] * (places - len(history))
    side_by_side = torch.cat([*empty, *history, candidate])
    hidden = (state["hidden.weight"] @ side_by_side + state["hidden.bias"]).clamp(min=0)
    network = (state["output.weight"] @ hidden + state["output.bias"])[0]
    return bi_interaction_loop([*history, candidate]).sum() + network


def lightgcn_loop(pairs: list[tuple[int, int]], users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """The vectors after propagation of users (U, D) and items (N, D); ``pairs`` count both from 0."""
    edges = set(pairs)
    user_degree = [sum(user == other for other, _ in edges) for user in range(len(users))]
    item_degree = [sum(item == other for _, other in edges) for item in range(len(items))]
    of_layer = [(users, items)]
    for _ in range(layers):
        old_users, old_items = of_layer[-1]
        new_users, new_items = torch.zeros_like(users), torch.zeros_like(items)
        for user, item in edges:
            weight = 1 / math.sqrt(user_degree[user] * item_degree[item])
            new_users[user] += weight * old_items[item]
            new_items[item] += weight * old_users[user]
        of_layer.append((new_users, new_items))
    return (
        sum((layer[0] for layer in of_layer), torch.zeros_like(users)) / (layers + 1),
        sum((layer[1] for layer in of_layer), torch.zeros_like(items)) / (layers + 1),
    )


def youtube_loop(history: list[Tensor], state: dict[str, Tensor]) -> Tensor:
    """The state of a user who watched ``history``: (D,)."""
    mean = torch.stack(history).mean(0)
    hidden = (state["hidden.weight"] @ mean + state["hidden.bias"]).clamp(min=0)
    return state["output.weight"] @ hidden + state["output.bias"]
