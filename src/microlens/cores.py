"""The processor cores that a process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path


def available_cores() -> int:
    """Number of cores that this process may use: at most those of its affinity and of its control group's quota.

    ``os.cpu_count()`` counts all cores of the machine, so that a container with two of 64 would start 64 workers.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup"))
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """Cores' worth of time that the control group may use (version 2, then 1); None if it is not limited."""
    with suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        microseconds, period = (
            (root / "cpu" / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period")
        )
        return None if int(microseconds) < 0 else int(microseconds) / int(period)
    return None
