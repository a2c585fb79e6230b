"""The paper's loss, slot by slot, every repeat and every padding kept."""

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
