"""The environment that results depend on besides the configuration: versions, machine and memory."""

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

import microlens
from microlens.errors import InputError, lacks_memory

_PACKAGES = ("torch", "numpy", "polars", "av", "lmdb", "simplejpeg", "safetensors", "scipy", "pydantic")
_OPTIONAL = ("transformers", "implicit")
# Parameters of glibc's mallopt, from malloc.h, and values that make it keep every freed block.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_TRIM, _NO_MMAP = 2**31 - 1, 0


def packages() -> dict[str, str]:
    """The versions of the packages that results depend on; optional ones only if installed."""
    installed = [name for name in _OPTIONAL if find_spec(name)]
    others = {name: metadata.version(name) for name in (*_PACKAGES, *installed)}
    return {"microlens": microlens.__version__, **others}


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
    """The commit of the source tree that this package runs from, with "+" if files differ; otherwise its version."""
    folder = Path(microlens.__file__).resolve().parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return f"v{microlens.__version__}"
    return head + ("+" if changed else "")


def device_name(device: torch.device) -> str:
    """A readable name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory so far, of the GPU or, on a CPU, of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Windows has no such module

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def keep_freed_memory() -> bool:
    """Make this process keep freed memory for later steps of the same shapes; return True if that is possible.

    A training step or a ranking on a CPU frees and allocates the same megabytes again and again. glibc returns large
    blocks to the system at once, and the system clears each page again: this took more than half of a step of DSSM with
    D = 512. Not for content encoders, whose blocks of many shapes would accumulate. Only glibc supports this; elsewhere
    nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, _NO_MMAP) and mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


_REMEDY = "choose a smaller model.dim, or fewer blocks or layers."
_ADAM_FACTOR = 3  # a gradient and two moments per parameter
_OBJECT_BYTES = 4096  # approximate size of a parameter and its module as Python objects


def available_memory() -> int:
    """Bytes available to this process: what the system can provide, limited by its control group."""
    limits = [int(psutil.virtual_memory().available)]
    for group in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # missing, or "max"
            limits.append(int((Path("/sys/fs/cgroup") / group).read_text(encoding="ascii")))
    return min(limits)


@contextmanager
def parameters_that_fit() -> Iterator[None]:
    """Limit the parameters of modules created in the block to the available memory.

    A parameter is counted when it is registered, when its memory is reserved but not yet used.

    Raises:
        InputError: more memory is needed.
    """
    available, needed = available_memory(), 0

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal needed
        if parameter is not None and parameter.device.type == "cpu":
            needed += parameter.numel() * parameter.element_size() + _OBJECT_BYTES
        if needed > available:
            raise MemoryError

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise InputError(
            f"the model's parameters need more than the {available / 1e9:,.1f} GB of memory available here; {_REMEDY}"
        ) from None
    finally:
        hook.remove()


def refuse_too_large_to_train(model: nn.Module, device: torch.device) -> None:
    """Check that the gradients and AdamW's moments of a model on ``device`` fit in memory.

    Raises:
        InputError: they need more memory than is available.
    """
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    needed = _ADAM_FACTOR * sum(parameter.numel() * parameter.element_size() for parameter in trained)
    available = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    if needed > available:
        raise InputError(
            f"training the model takes {needed / 1e9:,.1f} GB of additional memory, and {available / 1e9:,.1f} GB are "
            f"available here; {_REMEDY}"
        )
