"""Weights of ONNX models."""

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microlens.errors import InputError


def read_onnx_archive(path: Path) -> dict[str, Tensor]:
    """Read the stored tensors of the ONNX model in a zip archive, which may keep their content in files beside it.

    Raises:
        InputError: the library onnx is not installed, or the archive holds no model or more than one.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise InputError(f"{path} is read with the library onnx; install it with: pip install onnx") from None
    with zipfile.ZipFile(path) as archive:
        models = [name for name in archive.namelist() if name.endswith(".onnx")]
        if len(models) != 1:
            raise InputError(f"{path} holds {len(models)} ONNX models; accepted is one.")
        graph = onnx.load_model_from_string(archive.read(models[0])).graph
        folder = PurePosixPath(models[0]).parent
        files: dict[str, bytes] = {}
        return {tensor.name: torch.from_numpy(_array(tensor, archive, folder, files)) for tensor in graph.initializer}


def _array(tensor: Any, archive: zipfile.ZipFile, folder: PurePosixPath, files: dict[str, bytes]) -> Any:
    """The content of a stored tensor; files of the archive are read once, into ``files``."""
    from onnx import helper, numpy_helper

    where: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    if not where:
        return numpy_helper.to_array(tensor).copy()
    name = str(folder / where["location"])
    if name not in files:
        files[name] = archive.read(name)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count, start = int(np.prod(tensor.dims)), int(where.get("offset", 0))
    return np.frombuffer(files[name], dtype, count, start).reshape(tensor.dims).copy()
