"""What a number depends on besides its configuration: versions, machine, memory."""

import ctypes
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

import microlens
from microlens.errors import InputError, lacks_memory

_PACKAGES = ("microlens", "torch", "numpy", "polars", "av", "lmdb", "simplejpeg", "safetensors", "scipy", "pydantic")
_OPTIONAL = ("transformers", "implicit")
# Parameters of glibc's mallopt, from malloc.h, and values that keep every freed block.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_TRIM, _NO_MMAP = 2**31 - 1, 0


def packages() -> dict[str, str]:
    """The versions of what the numbers depend on; what is not installed is left out."""
    installed = [name for name in _OPTIONAL if find_spec(name)]
    return {name: metadata.version(name) for name in (*_PACKAGES, *installed)}


def describe(device: torch.device) -> dict[str, Any]:
    """The contents of ``environment.json``."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "packages": packages(),
    }


def commit() -> str:
    """The commit of the source tree this package runs from, "+" behind it when files differ; else its version."""
    folder = Path(microlens.__file__).resolve().parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return f"v{microlens.__version__}"
    return head + ("+" if changed else "")


def device_name(device: torch.device) -> str:
    """A name a reader can compare."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory used so far: of the GPU on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for the next step of the same shapes; returns whether it can.

    A training step on a processor frees and asks for the same hundreds of megabytes again and again. glibc returns
    large blocks to the system at once, and the system clears every page of them anew: more than half of a step of DSSM
    with d = 512 went there. Not for encoders of content, whose blocks of many shapes would lie in memory side by side.
    Only glibc has this; elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, _NO_MMAP) and mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


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
