"""The library ``implicit``, which is imported when a model of it is fitted or built and not before."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from types import ModuleType

import torch

from microlens.errors import InputError

NEEDED_VERSION = (0, 7, 2)


def implicit_module(name: str, model: str) -> ModuleType:
    """The module ``implicit.NAME``, for ``model``.

    Raises:
        InputError: the library is not installed, or too old.
    """
    hint = "install it with: pip install 'microlens[baselines]'"
    try:
        module = import_module(f"implicit.{name}")
    except ModuleNotFoundError:
        raise InputError(f"{model} needs the implicit library; {hint}") from None
    version = metadata.version("implicit")
    if tuple(map(int, version.split(".")[:3])) < NEEDED_VERSION:
        needed = ".".join(map(str, NEEDED_VERSION))
        raise InputError(f"{model} needs implicit {needed} or later, not {version}; {hint}")
    return module


@contextmanager
def library_threads() -> Iterator[int]:
    """How many threads the library may use, while the linear algebra under it is held to one, as it asks for."""
    limits = import_module("threadpoolctl").threadpool_limits
    with limits(1, user_api="blas"):
        yield torch.get_num_threads()


def library_seed() -> int:
    """PyTorch's seed, in the range of the library's."""
    return torch.initial_seed() % 2**32
