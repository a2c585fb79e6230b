"""Measure training, ranking and reading on a GPU, and compare its numbers with those of a CPU.

    python -m speed.gpu [--minutes 8] [--only PART ...] [--json FILE] [--commit HASH]

It is started from the root of the repository, and needs no network, no weights and no data. The parts run in the order
in which they are listed; one that fails is recorded and the next one starts. The JSON is written anew after every case,
so that what was measured stays when the program is stopped. `--tiny` runs everything at tiny size, on a CPU too.
"""

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import microlens
from microlens import environment
from microlens.files.writing import write_text
from speed.gpu import ceilings, ids, parity, ranking, reading, videos
from speed.gpu.bench import TINY, Bench, Case, Sizes
from speed.measure import processor

PARTS: dict[str, Callable[[Bench], Iterator[Case]]] = {
    "ceilings": ceilings.cases,
    "parity": parity.cases,
    "ids": ids.cases,
    "top1": videos.top1_cases,
    "full": videos.full_cases,
    "transformers": videos.transformer_cases,
    "ranking": ranking.cases,
    "reading": reading.cases,
    "compiled": videos.compiled_cases,
}
LEAST_SECONDS = 5.0  # no case starts with less time left
PACKAGES = ("numpy", "polars", "transformers", "simplejpeg", "lmdb", "av", "triton")


def environment_of(device: torch.device, commit: str | None) -> dict[str, Any]:
    """The card, the machine and the versions."""
    facts: dict[str, Any] = {
        "device": environment.device_name(device),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "microlens": microlens.__version__,
        "commit": commit or environment.commit(),
        "torch": torch.__version__,
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
    }
    if device.type == "cuda":
        facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        facts["driver"] = driver()
        facts["device_gigabytes"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
    return facts


def version_of(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def driver() -> str | None:
    """The version of the NVIDIA driver."""
    path = Path("/proc/driver/nvidia/version")
    return path.read_text().splitlines()[0] if path.exists() else None


def run_case(bench: Bench, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run one case; return its results or its failure, and its time."""
    begin = time.monotonic()
    if bench.left < LEAST_SECONDS:
        return {"skipped": "no time left"}
    try:
        result: dict[str, Any] = {"figures": measure()}
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"[:2000]}
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    return {**result, "seconds": round(time.monotonic() - begin, 2)}


def run_part(bench: Bench, cases: Callable[[Bench], Iterator[Case]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the result of every case of a part."""
    try:
        for name, measure in cases(bench):
            yield name, run_case(bench, measure)
    except Exception as error:
        traceback.print_exc()
        yield "preparation", {"failed": f"{type(error).__name__}: {error}"[:2000]}


def text_of(result: dict[str, Any]) -> str:
    """A result in one cell of the table."""
    if "figures" not in result:
        return "; ".join(f"{name}: {result[name]}" for name in ("failed", "skipped") if name in result)
    shown = {name: value for name, value in result["figures"].items() if value is not None}
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items()
    )


def table_of(results: dict[str, dict[str, Any]]) -> Table:
    """All results so far."""
    table = Table("part", "case", "s", "figures")
    for part, cases in results.items():
        for name, result in cases.items():
            table.add_row(part, name, f"{result.get('seconds', 0):g}", text_of(result))
    return table


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m speed.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="time for everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, default=Path("speed/results/gpu.json"), help="file of the results")
    parser.add_argument("--commit", help="the commit measured, where there is no git to ask")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that the program works")
    options = parser.parse_args(arguments)
    if options.tiny and options.json == parser.get_default("json"):
        parser.error("--tiny would overwrite the full results; name another file with --json")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; returns 1 if a case failed."""
    began = time.monotonic()
    options = options_of(arguments)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    results: dict[str, dict[str, Any]] = {}
    document = {
        "name": "gpu",
        "environment": environment_of(device, options.commit),
        "arguments": {"minutes": options.minutes, "only": options.only, "tiny": options.tiny},
        "results": results,
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            device=device, sizes=TINY if options.tiny else Sizes(), folder=Path(folder),
            ends=began + 60 * options.minutes, cores=len(os.sched_getaffinity(0)),
        )  # fmt: skip
        for part in PARTS:
            if part not in options.only:
                continue
            results[part] = {}
            for name, result in run_part(bench, PARTS[part]):
                results[part][name] = result
                document["seconds"] = round(time.monotonic() - began, 1)
                write_text(options.json, json.dumps(document, indent=1) + "\n")
                print(f"[{time.monotonic() - began:6.1f} s] {part}: {name}: {text_of(result)}", flush=True)
    Console(width=200).print(table_of(results))
    return int(any("failed" in result for cases in results.values() for result in cases.values()))


if __name__ == "__main__":
    sys.exit(main())
