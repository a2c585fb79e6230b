"""Counting the multiply-adds of an encoder, and the bytes that a trunk cache keeps, from shapes alone."""

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
    """Of one item in a training step: through the frozen links, then through those above them, forward and backward.

    What is above the frozen links includes the projection. Counted are the products of convolutions, linear layers and
    attention, those with padding included; nothing else is: no norms, activations, softmaxes, pools, biases,
    interpolations or optimiser.
    """

    frozen: int
    forward: int
    backward: int


def speedup_limit(step: MultiplyAdds) -> float:
    """How many times as fast a step can become, by its multiply-adds, when the frozen links are read from a cache."""
    trained = step.forward + step.backward
    return (step.frozen + trained) / trained


def multiply_adds(tower: ContentEncoder, content: Tensor) -> tuple[MultiplyAdds, Hidden]:
    """Count a training step of one item, and give the state at the cut between what is frozen and what is trained.

    Args:
        tower: an encoder on the meta device, tuned as it is trained; is put into eval mode and gets gradients.
        content: (1, ...) what its trunk begins with.
    """
    trunk = tower.eval().trunk
    with flop_counter() as frozen:
        hidden = tower.run_frozen(content)
    with flop_counter() as forward:
        # Not a text tower's own method, which looks for padding: there are no values on the meta device.
        features = ContentEncoder.trained_part(tower, hidden)
        vectors = tower.projection(features if tower.head == "features" else trunk.classify(features))
    with flop_counter() as backward:
        vectors.sum().backward()
    passes = {"frozen": frozen, "forward": forward, "backward": backward}
    return MultiplyAdds(**{name: counter.get_total_flops() // 2 for name, counter in passes.items()}), hidden


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, two a multiply-add, but right for grouped convolutions.

    PyTorch counts their filters' gradient as many times as there are groups: some hundred times for depthwise ones.
    """
    gradient = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=gradient)


def _convolution_backward_flops(grad: Any, _x: Any, weight: Any, *arguments: Any, **_: Any) -> int:
    """Each of the gradients of input and weight takes the products of the forward pass; shapes in, flops out."""
    output_mask = arguments[7]
    return int(2 * grad[0] * prod(grad[2:]) * prod(weight) * sum(output_mask[:2]))


def kept_bytes(hidden: Hidden) -> int:
    """The bytes of one item's state in a trunk cache: float16, or as it is where it is no floating-point number."""
    return sum(state[0].numel() * (2 if state.is_floating_point() else state.element_size()) for state in hidden)


def on_meta(tower: ContentEncoder) -> ContentEncoder:
    """A copy on the meta device, made without copying any values."""
    shadows: dict[int, Any] = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in tower.buffers()}
    for parameter in tower.parameters():
        values = torch.empty_like(parameter, device="meta")
        shadows[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
    return copy.deepcopy(tower, shadows)
