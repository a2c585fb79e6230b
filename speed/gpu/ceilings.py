"""The rates of matrix products and copies in PyTorch on this card, to which other results are related."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from speed.gpu.bench import Bench, Case, Figures


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in products and convolutions of float32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def cases(bench: Bench) -> Iterator[Case]:
    """Products in three precisions, copies on the device and to it."""
    for name, dtype, allowed in (
        ("bf16_teraflops", torch.bfloat16, False),
        ("fp32_teraflops", torch.float32, False),
        ("tf32_teraflops", torch.float32, True),
    ):
        yield name, lambda name=name, dtype=dtype, allowed=allowed: product(bench, name, dtype, allowed)
    yield "copy_gigabytes", lambda: copies(bench)


def product(bench: Bench, name: str, dtype: torch.dtype, allowed: bool) -> Figures:
    """The rate of a product of square matrices."""
    size = bench.sizes.matrix
    one, other = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
    out = torch.empty_like(one)
    with tf32(allowed):
        seconds = bench.seconds_of(lambda: torch.mm(one, other, out=out), limit=1.0)
    bench.ceilings[name] = 2 * size**3 / seconds / 1e12
    return {"size": size, "teraflops_per_second": round(bench.ceilings[name], 2)}


def copies(bench: Bench) -> Figures:
    """Bytes read and written a second by a copy on the device, and bytes a second from the host."""
    count = bench.sizes.copied_bytes
    host = torch.ones(count, dtype=torch.uint8)
    here = host.to(bench.device)
    out = torch.empty_like(here)
    rates = {"device_copy": 2 * count / bench.seconds_of(lambda: out.copy_(here), limit=1.0) / 1e9}
    if bench.device.type == "cuda":
        pinned = host.pin_memory()
        rates["from_pinned_host"] = count / bench.seconds_of(lambda: out.copy_(pinned), limit=1.0, most=5) / 1e9
        rates["from_pageable_host"] = count / bench.seconds_of(lambda: out.copy_(host), limit=1.0, most=5) / 1e9
    bench.ceilings |= rates
    return {f"{name}_gigabytes_per_second": round(rate, 2) for name, rate in rates.items()}
