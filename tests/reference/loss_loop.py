"""The losses term by term: the paper's with every repeat and every padding kept, then those for one target each."""

import math

import torch
from torch import Tensor


def loss_loop(states: Tensor, vectors: Tensor, sequence: Tensor, log_q: Tensor) -> Tensor:
    """Mean loss of a batch.

    states (B, L, D): the user state at each position. vectors (B, S, D): the vector of each slot's item, S = L + 1.
    sequence (B, S): item numbers, 0 is padding. log_q (N+1,): log popularity by item number.
    """
    B, S = sequence.shape
    losses = []
    for user in range(B):
        own = set(sequence[user].tolist()) | {0}
        for position in range(S - 1):
            if sequence[user, position] == 0:
                continue
            state = states[user, position]
            target = sequence[user, position + 1]
            positive = state @ vectors[user, position + 1] - log_q[target]
            denominator = positive.exp()
            for other in range(B):
                for slot in range(S):
                    item = int(sequence[other, slot])
                    if item not in own:
                        denominator = denominator + (state @ vectors[other, slot] - log_q[item]).exp()
            losses.append(denominator.log() - positive)
    return torch.stack(losses).mean() if losses else torch.tensor(math.nan)


def sampled_softmax_loop(
    positive: Tensor, negatives: Tensor, log_q_positive: Tensor, log_q_negatives: Tensor, rejected: Tensor
) -> Tensor:
    """The sampled softmax, (Q,), from positive and its log_q (Q,), negatives and rejected (Q, K), their log_q (K,)."""
    losses = []
    for target in range(len(positive)):
        weight = positive[target].exp() / log_q_positive[target].exp()
        denominator = weight
        for drawn in range(negatives.shape[1]):
            if not rejected[target, drawn]:
                denominator = denominator + negatives[target, drawn].exp() / log_q_negatives[drawn].exp()
        losses.append(-(weight / denominator).log())
    return torch.stack(losses)


def bpr_loop(positive: Tensor, negatives: Tensor) -> Tensor:
    """BPR, (Q,): positive (Q,), negatives (Q, K)."""
    losses = []
    for target in range(len(positive)):
        terms = [-sigmoid(positive[target] - negative).log() for negative in negatives[target]]
        losses.append(torch.stack(terms).sum() / len(terms))
    return torch.stack(losses)


def bce_loop(positive: Tensor, negatives: Tensor, beta: float = 1.0) -> Tensor:
    """Binary cross-entropy, (Q,), the positive's probability to the power beta: positive (Q,), negatives (Q, K)."""
    losses = []
    for target in range(len(positive)):
        loss = -(sigmoid(positive[target]) ** beta).log()
        for negative in negatives[target]:
            loss = loss - (1 - sigmoid(negative)).log()
        losses.append(loss / (1 + len(negatives[target])))
    return torch.stack(losses)


def gbce_loop(positive: Tensor, negatives: Tensor, num_items: int, calibration: float) -> Tensor:
    """Generalised binary cross-entropy, (Q,), with beta as the paper writes it."""
    alpha = negatives.shape[1] / (num_items - 1)
    return bce_loop(positive, negatives, alpha * (calibration * (1 - 1 / alpha) + 1 / alpha))


def full_softmax_loop(states: Tensor, items: Tensor, positive: Tensor, rejected: Tensor) -> Tensor:
    """The softmax over all items, (Q,): states (Q, D), items (N, D), positive (Q,), rejected (Q, H), padded with N."""
    losses = []
    for state, target, own in zip(states, positive.tolist(), rejected.tolist(), strict=True):
        numerator = (state @ items[target]).exp()
        denominator = numerator
        for other in range(len(items)):
            if other != target and other not in own:
                denominator = denominator + (state @ items[other]).exp()
        losses.append(-(numerator / denominator).log())
    return torch.stack(losses)


def sigmoid(score: Tensor) -> Tensor:
    return 1 / (1 + (-score).exp())
