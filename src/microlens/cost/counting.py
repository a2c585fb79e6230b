"""Counting of multiply-adds of an encoder and of bytes in a trunk cache, from shapes only."""

import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from microlens.encoders.content import ContentEncoder
from microlens.encoders.trunk import Hidden


@dataclass(frozen=True, kw_only=True)
class MultiplyAdds:
    """Multiply-adds of one item in a training step: through the frozen stages, then forward and backward above them.

    The part above the frozen stages includes the projection. The products of convolutions, linear layers and attention
    are counted, including those with padding. Norms, activations, softmaxes, pooling, biases, interpolation and the
    optimizer are not.
    """

    frozen: int
    forward: int
    backward: int


def speedup_limit(step: MultiplyAdds) -> float:
    """The maximum speedup of a step, by multiply-adds, when the outputs of frozen stages are read from a cache."""
    trained = step.forward + step.backward
    return (step.frozen + trained) / trained


def multiply_adds(tower: ContentEncoder, content: Tensor) -> tuple[MultiplyAdds, Hidden]:
    """Count a training step of one item; also return the hidden state between the frozen and the trained part.

    Args:
        tower: an encoder on the meta device, tuned as for training; it is set to eval mode and gets gradients.
        content: (1, ...) input of its trunk.
    """
    trunk = tower.eval().trunk
    with flop_counter() as frozen:
        hidden = tower.run_frozen(content)
    with flop_counter() as forward:
        # Not the overridden method of text encoders, which depends on padding: the meta device has no values.
        features = ContentEncoder.trained_part(tower, hidden)
        vectors = tower.projection(features if tower.head == "features" else trunk.classify(features))
    with flop_counter() as backward:
        vectors.sum().backward()
    passes = {"frozen": frozen, "forward": forward, "backward": backward}
    return MultiplyAdds(**{name: counter.get_total_flops() // 2 for name, counter in passes.items()}), hidden


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, which counts two flops per multiply-add, corrected for grouped convolutions."""
    # PyTorch multiplies the count of their weight gradient by the number of groups.
    gradient = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=gradient)


def _convolution_backward_flops(grad: Any, _x: Any, weight: Any, *arguments: Any, **_: Any) -> int:
    """The gradients of input and weight each take as many products as the forward pass; from shapes to flops."""
    output_mask = arguments[7]
    return int(2 * grad[0] * prod(grad[2:]) * prod(weight) * sum(output_mask[:2]))


def kept_bytes(hidden: Hidden) -> int:
    """Bytes of one item's hidden state in a trunk cache: float16, or the original type if not floating-point."""
    return sum(state[0].numel() * (2 if state.is_floating_point() else state.element_size()) for state in hidden)


def on_meta(tower: ContentEncoder) -> ContentEncoder:
    """Copy an encoder to the meta device without copying values."""
    shadows: dict[int, Any] = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in tower.buffers()}
    for parameter in tower.parameters():
        values = torch.empty_like(parameter, device="meta")
        shadows[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
    return copy.deepcopy(tower, shadows)
