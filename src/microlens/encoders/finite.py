"""Detection of NaN and infinity, which must neither be saved as weights nor win a ranking."""

from torch import Tensor, nn


def all_finite(tensor: Tensor) -> bool:
    """True if a floating-point tensor contains neither NaN nor infinity."""
    # The sum needs no second array of this size. If finite numbers overflow in it, each element is checked.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def broken_weight(module: nn.Module) -> str | None:
    """The name of the first parameter or saved buffer that contains NaN or infinity, or None."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not all_finite(tensor):
            return name
    return None
