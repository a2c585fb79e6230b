"""Distributed training of one model in several processes, started by torchrun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from microlens.data.batches import Process
from microlens.errors import InputError, shown

_MOST_PROCESSES = 2**16


@contextmanager
def process_group(device: torch.device) -> Iterator[Process]:
    """Join the process group of torchrun (gloo on CPUs, nccl on GPUs); a single process does nothing.

    Within a group that was joined before, it is that group.

    Raises:
        InputError: a variable that torchrun sets is missing or has another value, or the processes cannot connect.
    """
    world_size = _number("WORLD_SIZE", range(1, _MOST_PROCESSES + 1)) if "WORLD_SIZE" in os.environ else 1
    if world_size == 1:
        yield Process()
        return
    if distributed.is_initialized():
        yield Process(distributed.get_rank(), world_size)
        return
    _number("RANK", range(world_size))
    _number("MASTER_PORT", range(1, 2**16))
    if not os.environ.get("MASTER_ADDR"):
        raise _not_of_torchrun("MASTER_ADDR", "the address of the first process")
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except distributed.DistError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise InputError(
            f"the {world_size} processes of torchrun cannot meet at {address} (MASTER_ADDR and MASTER_PORT): "
            f"{str(error).splitlines()[0].rstrip('.')}; name an address that all of them reach, and a free port."
        ) from None
    try:
        yield Process(distributed.get_rank(), world_size)
    finally:
        distributed.destroy_process_group()


def _number(name: str, accepted: range) -> int:
    """The number in an environment variable of torchrun."""
    value = os.environ.get(name, "")
    if not value.isdecimal() or len(value) > len(str(accepted[-1])) or int(value) not in accepted:
        raise _not_of_torchrun(name, f"a whole number from {accepted[0]} to {accepted[-1]:,}")
    return int(value)


def _not_of_torchrun(name: str, accepted: str) -> InputError:
    found = f"is {shown(os.environ[name])}" if name in os.environ else "is not set"
    return InputError(
        f"the environment variable {name} {found}; it must be {accepted}: start the processes with torchrun, which "
        "sets it, or unset WORLD_SIZE to train in one process."
    )


def local_device(wanted: str) -> torch.device:
    """The device of this process; "auto" selects a GPU if there is one.

    Raises:
        InputError: a GPU is requested and there is none, or fewer than processes.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = "has no driver or GPU that it can use" if torch.version.cuda else "is built without CUDA"
        raise InputError(f'train.device is "cuda", but the installed PyTorch {why}; accepted here: "auto", "cpu".')
    number, devices = os.environ.get("LOCAL_RANK", "0"), torch.cuda.device_count()
    if not number.isdecimal() or int(number) >= devices:
        raise InputError(
            f"LOCAL_RANK is {number}, and this machine has {devices} GPUs; start as many processes with torchrun, or "
            'set train.device = "cpu".'
        )
    return torch.device("cuda", int(number))


def wait_for_all(process: Process) -> None:
    """Wait until all processes reach this point."""
    if process.world_size > 1:
        distributed.barrier()


def any_process(flag: bool, process: Process, device: torch.device) -> bool:
    """True if any process sets the flag. Timers differ, so all processes must agree before saving."""
    if process.world_size == 1:
        return flag
    votes = torch.tensor(int(flag), device=device)
    distributed.all_reduce(votes)
    return bool(votes)


def gather_shares(share: Tensor, count: int, process: Process) -> Tensor:
    """Concatenate the processes' shares of ``count`` rows: (m, D) each to (count, D); differentiable.

    The gradient of a row is the sum over processes, returned to the process that computed the row.
    """
    if process.world_size == 1:
        return share
    gathered: Tensor = _GatherShares.apply(share, count, process)  # type: ignore[no-untyped-call]
    return gathered


class _GatherShares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share: Tensor, count: int, process: Process) -> Tensor:
        ctx.process, ctx.count = process, count
        size = -(-count // process.world_size)
        padded = share.new_zeros(size, *share.shape[1:])
        padded[: len(share)] = share
        parts = [torch.empty_like(padded) for _ in range(process.world_size)]
        distributed.all_gather(parts, padded)
        return torch.cat(parts)[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        distributed.all_reduce(gradient)
        return gradient[ctx.process.share_of(ctx.count)], None, None


def gather_interleaved(values: Tensor, count: int, process: Process) -> Tensor:
    """Gather values in which process r holds every ``world_size``-th of ``count`` values, starting at r: (count,)."""
    if process.world_size == 1:
        return values
    size = -(-count // process.world_size)
    padded = values.new_zeros(size)
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in range(process.world_size)]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten()[:count]
