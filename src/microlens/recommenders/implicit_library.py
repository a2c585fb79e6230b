"""Lazy import of the ``implicit`` library, its threads and its seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from types import ModuleType

import torch

from microlens.errors import InputError

NEEDED_VERSION = (0, 7, 2)


def implicit_module(name: str, model: str) -> ModuleType:
    """Import ``implicit.NAME`` on behalf of ``model``.

    Raises:
        InputError: the library is not installed or too old.
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
    """Yield the number of threads for ``implicit`` and limit BLAS to one thread, as the library recommends."""
    limits = import_module("threadpoolctl").threadpool_limits
    with limits(1, user_api="blas"):
        yield torch.get_num_threads()


@contextmanager
def finite_factors(model: str, options: str) -> Iterator[None]:
    """Report factors that became NaN while a model is fitted.

    Raises:
        InputError: they did; names ``model`` and its ``options`` that may be too large.
    """
    try:
        yield
    except import_module("implicit.recommender_base").ModelFitError:
        raise InputError(f"the factors of {model} became NaN or infinite; choose a smaller {options}.") from None


def library_seed() -> int:
    """PyTorch's initial seed, reduced to the 32 bits that ``implicit`` accepts."""
    return torch.initial_seed() % 2**32
