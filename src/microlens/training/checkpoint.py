"""Checkpoints: one safetensors file each, with metadata as JSON in the header; never a pickle."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from microlens.data.batches import Process
from microlens.encoders.id import IdEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.errors import InputError, system_code
from microlens.files.json_files import parse_json
from microlens.files.writing import atomic_write
from microlens.recommenders.base import Recommender
from microlens.training.row_adamw import ROW_STEPS

FRESH = "train the run again with fresh=True"
BEST_OF_RUN = "RUN/checkpoints/best.safetensors of a run RUN"
T = TypeVar("T")
_ADAMW_STATE = ("exp_avg", "exp_avg_sq", "step")  # the state that AdamW keeps for each parameter, beside row steps


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write ``tensors`` and ``facts`` to ``path`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={"facts": json.dumps(facts)})
        except SafetensorError as error:
            if not (code := system_code(str(error))):
                raise
            raise OSError(code, os.strerror(code), str(temporary)) from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by :func:`save`.

    Raises:
        InputError: the file is missing, damaged or not a microlens checkpoint.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _facts(file, path)  # noqa: SIM118


def load_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a file written by :func:`save` without its tensors; raises like :func:`load`."""
    with _opened(path) as file:
        return _facts(file, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; train the run first.")
    try:
        with safe_open(path, framework="pt") as file:
            if "facts" not in (file.metadata() or {}):
                raise InputError(f"{path} is not a checkpoint of microlens.")
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    except SafetensorError:
        raise InputError(f"{path} is damaged or not a checkpoint of microlens; {FRESH}.") from None


def _facts(file: Any, path: Path) -> dict[str, Any]:
    return parse_json(file.metadata()["facts"], dict[str, Any], path, FRESH)


def checked(facts: dict[str, Any], kind: type[T], path: Path) -> T:
    """Validate the facts of a checkpoint as an instance of the dataclass ``kind``.

    Raises:
        InputError: a field is missing or has a value of another type.
    """
    return parse_json(json.dumps(facts), kind, path, FRESH)


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Prepend ``prefix.`` to every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix.*``, with the prefix removed."""
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }


def load_model(model: Recommender, tensors: dict[str, Tensor], path: Path) -> None:
    """Put the tensors named ``model.*`` into ``model``.

    Raises:
        InputError: the tensors are those of another model.
    """
    state = under("model", tensors)
    model.adopt(state)
    expected = model.state_dict()
    differing = sorted(name for name in state.keys() | expected.keys() if not _same_layout(state, expected, name))
    if differing:
        raise InputError(
            f"{path} is the checkpoint of another model: {len(differing)} of its {len(state)} tensors do not fit "
            f"(first: '{differing[0]}')."
        )
    model.load_state_dict(state)


def _same_layout(state: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> bool:
    """True if both have a tensor of this name with the same shape and type."""
    if name not in state or name not in expected:
        return False
    return state[name].shape == expected[name].shape and state[name].dtype == expected[name].dtype


def start_from(model: Recommender, path: Path) -> None:
    """Initialize ``model`` with the weights of another run, possibly on other data; id embeddings are not loaded.

    Raises:
        InputError: there is no such checkpoint, the model identifies users by number, or the shared tensors differ.
    """
    if path.is_dir():
        raise InputError(f"train.start_from is {path}, a folder; it takes {BEST_OF_RUN}.")
    if not path.is_file():
        raise InputError(f"train.start_from is {path}, which does not exist; train that run first.")
    if model.known_users_only or model.fits_at_once:
        raise InputError("train.start_from needs a model that reads histories; this model has a vector per user.")
    try:
        tensors, _ = load(path)
    except InputError:
        raise InputError(
            f"train.start_from is {path}, which is damaged or no checkpoint of microlens; it takes {BEST_OF_RUN}."
        ) from None
    ids = {name for name, part in model.named_modules() if isinstance(part, IdEncoder)}
    expected = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{tower}.") for tower in ids)
    }
    state = {name: tensor for name, tensor in under("model", tensors).items() if name in expected}
    differing = sorted(name for name in expected if not _same_layout(state, expected, name))
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


def load_optimizer(optimizer: torch.optim.AdamW, tensors: dict[str, Tensor], path: Path) -> None:
    """Restore the state returned by :func:`optimizer_tensors`.

    Raises:
        InputError: the state is that of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        number = int(index) if index.isdecimal() and len(index) < 9 else len(parameters)
        if number >= len(parameters) or not _matches_parameter(name, tensor, parameters[number]):
            raise InputError(f"{path} is damaged ('optimizer.{key}' fits no parameter of this model); {FRESH}.")
        state.setdefault(number, {})[name] = tensor
    for number, kept in state.items():
        last = kept.get(ROW_STEPS)
        if last is not None and "step" in kept and not 0 <= int(last.min()) <= int(last.max()) <= int(kept["step"]):
            raise InputError(f"{path} is damaged ('optimizer.{number}.{ROW_STEPS}' is beyond its step); {FRESH}.")
        if not kept.keys() >= set(_ADAMW_STATE):
            raise InputError(f"{path} is damaged (only {', '.join(kept)} of 'optimizer.{number}' there); {FRESH}.")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _matches_parameter(name: str, tensor: Tensor, parameter: Tensor) -> bool:
    if name == "step":
        return tensor.shape == () and tensor.dtype == torch.float32
    if name == ROW_STEPS:
        expected = parameter.shape[:1], torch.int32
        return isinstance(parameter, LookupTable) and (tensor.shape, tensor.dtype) == expected
    return name in _ADAMW_STATE and (tensor.shape, tensor.dtype) == (parameter.shape, parameter.dtype)


def load_random_states(tensors: dict[str, Tensor], process: Process, device: torch.device, path: Path) -> None:
    """Restore the states of PyTorch's generators, named ``RANK.DEVICE``, for this process.

    Raises:
        InputError: a state is missing or damaged, or the number of processes differs.
    """
    world_size = len({name.partition(".")[0] for name in tensors})
    if not world_size:
        raise InputError(f"{path} holds no random state; {FRESH}.")
    if world_size != process.world_size:
        counted = "1 process" if world_size == 1 else f"{world_size} processes"
        raise InputError(
            f"{path} was written by {counted} and cannot be resumed with {process.world_size}: use the same number, "
            f"or {FRESH}."
        )
    for kind in ("cpu", "cuda") if device.type == "cuda" else ("cpu",):
        name = f"{process.rank}.{kind}"
        if name not in tensors:
            raise InputError(f"{path} holds no random state '{name}': it is damaged or of another device; {FRESH}.")
        try:
            if kind == "cpu":
                torch.set_rng_state(tensors[name])
            else:
                torch.cuda.set_rng_state(tensors[name], device)
        except (RuntimeError, TypeError):
            raise InputError(f"{path} is damaged ('random.{name}' is no state of a generator); {FRESH}.") from None
