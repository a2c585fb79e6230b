"""What a number depends on besides its configuration: versions, machine, memory."""

import ctypes
import platform
import resource
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import microlens

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
