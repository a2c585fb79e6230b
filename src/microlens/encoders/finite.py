"""Finding NaN and infinity, which must neither be kept as weights nor win a ranking."""

from torch import Tensor, nn


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor of floating-point numbers holds neither NaN nor infinity."""
    # A sum needs no second array of this size. Where finite numbers overflow in it, each is looked at.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def broken_weight(module: nn.Module) -> str | None:
    """The name of the first parameter or buffer, of those that a checkpoint holds, with NaN or infinity in it."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not all_finite(tensor):
            return name
    return None
