"""Checkpoints: one safetensors file each, its facts as JSON in the header; never a pickle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.files import whole
from microlens.recommenders.base import Recommender
from microlens.recommenders.fitted import Fitted


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write ``tensors`` and ``facts`` to ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(path) as temporary:
        # Through bytes, because then a full disk is an OSError that says so.
        temporary.write_bytes(to_bytes(contiguous, metadata={"facts": json.dumps(facts)}))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save` wrote.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _facts(file)  # noqa: SIM118


def load_facts(path: Path) -> dict[str, Any]:
    """The facts of what :func:`save` wrote, without reading its tensors; raises as :func:`load`."""
    with _opened(path) as file:
        return _facts(file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; train the run first.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, ValueError):
        raise InputError(f"{path} is damaged or not a checkpoint of microlens.") from None


def _facts(file: Any) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((file.metadata() or {})["facts"])
    return facts


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put ``prefix.`` before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix.*``, without the prefix."""
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }


def load_model(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put the tensors named ``model.*`` into ``model``.

    Raises:
        InputError: they are those of another model.
    """
    state = under("model", tensors)
    if isinstance(model, Fitted):
        model.adopt(state)
    expected = model.state_dict()
    differing = sorted(
        name
        for name in state.keys() | expected.keys()
        if name not in state or name not in expected or state[name].shape != expected[name].shape
    )
    if differing:
        raise InputError(
            f"{path} is the checkpoint of another model: {len(differing)} of its {len(state)} tensors do not fit "
            f"(first: '{differing[0]}')."
        )
    model.load_state_dict(state)


def start_from(model: Recommender, path: Path) -> None:
    """Begin with the weights of another run, perhaps on other data; vectors of ids stay as they are.

    Raises:
        InputError: there is no such checkpoint, the model knows users by number, or what both have in common differs.
    """
    if not path.is_file():
        raise InputError(f"train.start_from is {path}, which does not exist; train that run first.")
    if model.known_users_only or isinstance(model, Fitted):
        raise InputError("train.start_from goes with models that read histories; this one knows its users by number.")
    tensors, _ = load(path)
    ids = {name for name, part in model.named_modules() if isinstance(part, IdEncoder)}
    expected = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{tower}.") for tower in ids)
    }
    state = {name: tensor for name, tensor in under("model", tensors).items() if name in expected}
    differing = sorted(
        name for name, tensor in expected.items() if name not in state or state[name].shape != tensor.shape
    )
    if differing:
        raise InputError(
            f"train.start_from is {path}, a checkpoint of another model: {len(differing)} of {len(expected)} tensors "
            f"do not fit (first: '{differing[0]}')."
        )
    model.load_state_dict(state, strict=False)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of ``optimizer`` as named tensors, ``INDEX.NAME``."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, values in state.items() for name, tensor in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
