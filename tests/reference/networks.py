"""Weights for comparing two networks in."""

from torch import nn


def randomise_norms(model: nn.Module) -> None:
    """Make every norm's scale, shift and running statistics matter: fresh ones are zeros and ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
