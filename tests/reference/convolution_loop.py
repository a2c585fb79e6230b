"""NextItNet's residual blocks of dilated causal convolutions, one user, one position and one tap at a time."""

import torch
from torch import Tensor

Convolution = tuple[Tensor, Tensor, Tensor, Tensor]  # taps (3, D, D), oldest first; bias; LayerNorm's scale and shift


def convolution_loop(vectors: Tensor, convolutions: list[Convolution], eps: float) -> Tensor:
    """The state after each of the ``vectors`` of one user, (n, D) to (n, D); two convolutions make a residual block."""
    dilations = [1, 2, 4, 8] * (len(convolutions) // 4)
    states = vectors
    for number, ((taps, bias, scale, shift), dilation) in enumerate(zip(convolutions, dilations, strict=True)):
        if number % 2 == 0:
            block_input = states
        rows = []
        for position in range(len(states)):
            total = bias.clone()
            for tap in range(3):
                source = position - (2 - tap) * dilation
                if source >= 0:
                    total = total + taps[tap] @ states[source]
            mean, variance = total.mean(), ((total - total.mean()) ** 2).mean()
            row = ((total - mean) / (variance + eps).sqrt() * scale + shift).clamp(min=0)
            rows.append(row + block_input[position] if number % 2 else row)
        states = torch.stack(rows)
    return states
