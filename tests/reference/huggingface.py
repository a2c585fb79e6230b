"""What the tests of encoders over the transformers library share."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from microlens.encoders.trunk import Trunk

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}


def disturb(model: nn.Module) -> None:
    """Make every parameter matter: fresh norms and biases are ones and zeros."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def layout(model: nn.Module) -> str:
    """A digest of the names and shapes of a state dict, in order."""
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items())
    return hashlib.sha256(lines.encode()).hexdigest()


def check_cuts(trunk: Trunk, content: Tensor, other: Tensor) -> None:
    """Cutting the chain anywhere changes nothing, even if other content goes through the trunk meanwhile."""
    expected = trunk.features(content)
    for cut in range(len(trunk.stages()) + 1):
        hidden = trunk.begin(content)
        for stage in trunk.stages()[:cut]:
            hidden = stage.run(hidden)
        assert all(len(state) == len(content) for state in hidden)
        kept = tuple(state.clone() for state in hidden)
        trunk.features(other)
        for stage in trunk.stages()[cut:]:
            kept = stage.run(kept)
        torch.testing.assert_close(trunk.pool(kept), expected, rtol=0, atol=1e-6)


def check_gradients(trunk: Trunk, content: Tensor, silent: tuple[str, ...] = ()) -> None:
    """The gradient reaches every parameter but those named, which are not trained."""
    features = trunk.features(content)
    (features * torch.randn_like(features)).sum().backward()
    dead = [name for name, parameter in trunk.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert dead == list(silent)


def check_training_step(ours: nn.Module, reference: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
    """One backward pass gives the parameters, which are in the same order, the same gradients."""
    for model in (ours, reference):
        loss(model).backward()
    gradients = [parameter.grad for parameter in ours.parameters() if parameter.grad is not None]
    expected = [parameter.grad for parameter in reference.parameters() if parameter.grad is not None]
    assert len(gradients) == len(expected) > 0
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert (gradient - wanted).norm() <= 1e-6 * wanted.norm() + 1e-12


def official_file(folder: Path, reference: nn.Module, extra: dict[str, Tensor] | None = None) -> Path:
    """The weight file that the library writes for ``reference``, under the official names, with ``extra`` in it."""
    reference.save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file(load_file(path) | (extra or {}), path)
    return path
