"""Loading official weights into our networks, strictly and without running code from the file."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from microlens.errors import InputError


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a ``.safetensors`` file, or a torch file such as PyTorchVideo's ``.pyth``, into ``network``.

    Raises:
        InputError: the file is missing or unreadable, or a name or shape does not fit.
    """
    state = _read(path)
    expected = network.state_dict()
    strangers, missing = sorted(state.keys() - expected.keys()), sorted(expected.keys() - state.keys())
    if strangers or missing:
        name, problem = (strangers[0], "has no place in") if strangers else (missing[0], "is missing for")
        raise InputError(
            f"{path}: '{name}' {problem} this network ({len(strangers)} unknown and {len(missing)} missing names)."
        )
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise InputError(
                f"{path}: '{name}' has shape {tuple(value.shape)}; this network has {tuple(expected[name].shape)}."
            )
    network.load_state_dict(state)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; weights are 'random' or the path of a state dict.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("model_state", content)  # PyTorchVideo nests the weights under this name
        if all(isinstance(value, Tensor) for value in state.values()):
            return dict(state)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, AttributeError):
        pass
    raise InputError(f"{path} is not a state dict that can be read without running code from it.")
