"""Refusing a model whose parameters do not fit into memory, before they take it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from microlens.errors import InputError, lacks_memory

_WAY_OUT = "choose a smaller model.dim, or fewer blocks or layers."
_OF_ADAM = 3  # a gradient and two moments of each parameter
_OF_OBJECTS = 4096  # what a parameter and its module take in Python, about


def available_memory() -> int:
    """Bytes that this process can take: what the system can give, and no more than its control group may have."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError, StopIteration):  # Linux alone has it
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    for group in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int((Path("/sys/fs/cgroup") / group).read_text(encoding="ascii")))
    return min(limits)


@contextmanager
def parameters_that_fit() -> Iterator[None]:
    """Let modules made in the block take no more memory than there is.

    A parameter is counted when its module takes it, where its numbers have an address but no memory yet.

    Raises:
        InputError: they need more.
    """
    available, needed = available_memory(), 0

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal needed
        if parameter is not None and parameter.device.type == "cpu":
            needed += parameter.numel() * parameter.element_size() + _OF_OBJECTS
        if needed > available:
            raise MemoryError

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise InputError(
            f"the model's parameters need more than the {available / 1e9:,.1f} GB of memory that are free here; "
            f"{_WAY_OUT}"
        ) from None
    finally:
        hook.remove()


def refuse_too_large_to_train(model: nn.Module, device: torch.device) -> None:
    """Refuse a model on ``device`` whose gradients and AdamW's moments do not fit beside it.

    Raises:
        InputError: they need more memory than is free.
    """
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    needed = _OF_ADAM * sum(parameter.numel() * parameter.element_size() for parameter in trained)
    available = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    if needed > available:
        raise InputError(
            f"to train the model takes {needed / 1e9:,.1f} GB more of memory, and {available / 1e9:,.1f} GB are free "
            f"here; {_WAY_OUT}"
        )
