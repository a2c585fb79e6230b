"""A gated recurrent network from its equations, one user, one layer and one step at a time."""

import torch
from torch import Tensor


def gru_loop(vectors: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The last layer's hidden state after each of the ``vectors`` of one user: (n, D) to (n, D).

    layers: the weights at the input and at the state of each, (3D, D) both: reset gate, update gate, candidate. Cho et
    al. 2014 (arXiv 1406.1078), with the reset gate applied after the product and no biases.
    """
    for at_input, at_state in layers:
        reset_x, update_x, candidate_x = at_input.chunk(3)
        reset_h, update_h, candidate_h = at_state.chunk(3)
        state = torch.zeros(vectors.shape[1], dtype=vectors.dtype)
        states = []
        for vector in vectors:
            reset = 1 / (1 + (-(reset_x @ vector + reset_h @ state)).exp())
            update = 1 / (1 + (-(update_x @ vector + update_h @ state)).exp())
            candidate = torch.tanh(candidate_x @ vector + reset * (candidate_h @ state))
            state = (1 - update) * candidate + update * state
            states.append(state)
        vectors = torch.stack(states)
    return vectors
