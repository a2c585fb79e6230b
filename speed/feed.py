"""How fast a feed answers, printed as JSON.

    python speed/feed.py [--smoke] [--items 20000] [--rate 200] [--seconds 60] [--dim 64]

Makes interactions and two runs of SASRec on item ids with random weights, which cost what trained ones cost, and serves
one by ``microlens feed`` with a SQLite event store. A load generator on the same machine then lets people ask for the
next video and send what they did with it, half of the requests each, at a fixed rate: times count from the moment at
which a request was due, so that a slow answer is not hidden by the requests that waited for it. In between the model is
swapped. ``--soak MINUTES`` goes on at 50 requests a second and follows the memory of the server.

Scoring alone is measured as well, in the terms of ShortRec, which reports 8.4 ms for the user's vector, 23.6 ms for the
recall and 0.5 ms for ranking 1,000 candidates; ours ranks all items exactly, so that it has no recall.

It needs aiohttp, which ``microlens[scale]`` brings.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from feed_load import Load, Person, Server
from measure import Line, print_result

PEOPLE, SOAK_RATE, SWAPS = 100, 50, 3
SHORTREC = {"user vector": 8.4, "recall": 23.6, "1,000 candidates": 0.5}
SMOKE = {"items": 300, "rate": 50, "seconds": 3}


def make_runs(folder: Path, items: int, dim: int) -> list[Path]:
    """A dataset and two runs over it, of different weights."""
    from microlens.config.run_config import RunConfig
    from microlens.data.prepare import prepare
    from microlens.files.run_manifest import replace_text
    from microlens.release.synthetic_interactions import write_interactions_only
    from microlens.runs.assembly import build_experiment
    from microlens.runs.train import trainer_of

    write_interactions_only(folder / "release", users=max(100, items // 4), items=items, mean_length=20)
    prepare(folder / "release", folder / "dataset")
    runs = []
    for seed in (0, 1):
        runs.append(folder / f"run-{seed}")
        config = RunConfig.model_validate(
            {
                "dataset": folder / "dataset",
                "output": runs[-1],
                "seed": seed,
                "model": {"name": "sasrec", "dim": dim},
                "encoder": {"name": "id"},
                "train": {"device": "cpu"},
            }
        )
        config.output.mkdir()
        replace_text(config.output, "config.toml", config.toml())
        trainer_of(build_experiment(config))[0].save_best()
    return runs


async def measure_load(server: Server, other: Path, rate: float, seconds: float, soak: float) -> dict[str, Any]:
    """Times to answer under load, while models are swapped, and memory."""
    figures: dict[str, Any] = {"megabytes at start": round(server.megabytes, 1)}
    gc.collect()
    gc.freeze()  # a full collection would walk the objects of torch, for a fifth of a second in which nobody listens
    async with contextlib.AsyncExitStack() as stack:
        people = []
        for _ in range(PEOPLE):
            jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address of numbers
            people.append(
                Person(await stack.enter_async_context(aiohttp.ClientSession(server.address, cookie_jar=jar)))
            )
        for person in people:  # who come at once would all ask for a session
            await person.next()
        load = Load()
        await load.use(people, rate, seconds)
        figures["load"] = load.figures()
        figures["megabytes after load"] = round(server.megabytes, 1)
        during = Load()
        await asyncio.gather(during.use(people, rate, 5.0 * SWAPS), _swap(people[0].client, other))
        figures["while models are swapped"] = during.figures()
        if soak:
            figures["soak"] = await _soak(server, people, 60 * soak)
    return figures


async def _swap(client: aiohttp.ClientSession, run: Path) -> None:
    """Replace the model, go back to it, and so on."""
    for number in range(SWAPS):
        await asyncio.sleep(1.0)
        path, body = ("/api/admin/model", {"run": str(run)}) if number % 2 == 0 else ("/api/admin/model/back", {})
        async with client.post(path, json=body) as answer:
            assert answer.status == 200, await answer.text()
        await asyncio.sleep(1.0)


async def _soak(server: Server, people: list[Person], seconds: float) -> dict[str, Any]:
    load, memory = Load(), []
    for _ in range(max(1, round(seconds / 60))):
        await load.use(people, SOAK_RATE, min(60.0, seconds))
        memory.append(round(server.megabytes, 1))
    return {"minutes": seconds / 60, "megabytes each minute": memory, **load.figures()}


def measure_scoring(run: Path, seconds: float) -> dict[str, float]:
    """Milliseconds of one thread: the vector of a whole history, and scores of items after it."""
    import torch

    from microlens.evaluation.ranking import user_states
    from microlens.feed.served_model import ServedModel

    torch.set_num_threads(1)
    model = ServedModel.open(run)
    rng, length = np.random.default_rng(0), model.ranker.run.split.history_length
    known = np.flatnonzero(model.rows)
    histories = [known[rng.choice(len(known), length, replace=False)].tolist() for _ in range(50)]
    ranker = model.ranker
    reads = [torch.from_numpy(model.rows[history])[None] for history in histories]

    def user_vectors() -> Iterator[None]:
        for read in itertools.cycle(reads):
            user_states(ranker.run.model, ranker.catalogue, torch.zeros(1, dtype=torch.int64), read)
            yield

    def candidates() -> Iterator[None]:
        states = user_states(ranker.run.model, ranker.catalogue, torch.zeros(1, dtype=torch.int64), reads[0])
        some = ranker.catalogue[:1000]
        while True:
            ranker.run.model.score(states, some).topk(10)
            yield

    def scores() -> Iterator[None]:
        for history in itertools.cycle(histories):
            model.scores(history)
            yield

    with torch.inference_mode():
        return {
            "user vector": _median(user_vectors(), seconds),
            "1,000 candidates": _median(candidates(), seconds),
            "user vector and scores of all items": _median(scores(), seconds),
        }


def _median(work: Iterator[None], seconds: float) -> float:
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        next(work)
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times), 3)


def megabytes_of_model(run: Path) -> float:
    """The memory of a process that has loaded the run and nothing else."""
    program = (
        "import sys, psutil; from pathlib import Path; from microlens.feed.served_model import ServedModel; "
        "model = ServedModel.open(Path(sys.argv[1])); print(psutil.Process().memory_full_info().uss)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run)], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) / 1e6


def main() -> None:
    """Measure a feed and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data and a short load")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--soak", type=float, default=0, help="minutes at 50 requests a second")
    options = parser.parse_args()
    if options.smoke:
        vars(options).update(SMOKE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = make_runs(folder, options.items, options.dim)
        server = Server(first, folder)
        try:
            load = measure_load(server, second, options.rate, options.seconds, options.soak)
            figures = {"seconds to the first answer": round(server.seconds, 2), **asyncio.run(load)}
        finally:
            server.stop()
        figures["megabytes of the model alone"] = round(megabytes_of_model(first), 1)
        figures["scoring"] = measure_scoring(first, 1 if options.smoke else 5)
    figures["ShortRec"] = SHORTREC
    print_result("feed", options, [1], figures, lines_of(figures, options.items))


def lines_of(figures: dict[str, Any], items: int) -> list[Line]:
    """The figures that have a line to reach."""
    asked, swapped = figures["load"]["next video"], figures["while models are swapped"]["next video"]
    beyond = figures["megabytes after load"] - figures["megabytes of the model alone"]
    most = 30 if items <= 20_000 else 60
    found = [
        ("next video, 99 %", asked["p99"], "ms", most),
        ("next video, median", asked["median"], "ms", 5),
        ("next video while models are swapped, most", swapped["most"], "ms", 100),
        ("memory beyond the model", beyond, "MB", 300),
        ("start to first answer", figures["seconds to the first answer"], "s", 5),
        ("errors", figures["load"]["errors"] + figures["while models are swapped"]["errors"], "", 0),
    ]
    if "soak" in figures:
        memory = figures["soak"]["megabytes each minute"]
        found += [
            ("growth of memory in the soak", 100 * (max(memory) / memory[0] - 1), "%", 5),
            ("errors in the soak", figures["soak"]["errors"], "", 0),
        ]
    return [
        Line(what=what, measured=value, unit=unit, bound="at most", reach=reach) for what, value, unit, reach in found
    ]


if __name__ == "__main__":
    main()
