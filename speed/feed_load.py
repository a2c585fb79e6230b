"""A feed in a process of its own, and people who use it at a fixed rate; see feed.py."""

import asyncio
import re
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from measure import keeping_bytecode


class Server:
    """``microlens feed`` in a process of its own.

    ``seconds`` is the time from its start to its first answer, with all modules compiled, as after an installation.
    """

    def __init__(self, run: Path, folder: Path, *options: str) -> None:
        (folder / "feed.toml").write_text("limits.requests_a_minute = 0\n")
        command = [sys.executable, "-m", "microlens", "feed", str(run), "--port", "0"]
        command += [
            "--events",
            f"sqlite:///{folder / 'events.sqlite'}",
            "--settings",
            str(folder / "feed.toml"),
            *options,
        ]
        environment = {**keeping_bytecode(folder / "bytecode"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        subprocess.run([sys.executable, "-c", "import microlens.feed.server.running"], env=environment, check=True)
        begin = time.perf_counter()
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://[^/]+", self.process.stdout.readline())
        assert found is not None, (folder / "log").read_text()
        self.address = found[0]
        asyncio.run(self._first_answer())
        self.seconds = time.perf_counter() - begin

    async def _first_answer(self) -> None:
        async with aiohttp.ClientSession(self.address, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            await Person(client).next()

    @property
    def megabytes(self) -> float:
        """The memory of the process that is not shared with files, in megabytes."""
        return float(psutil.Process(self.process.pid).memory_full_info().uss) / 1e6

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(30)


VISIT = 60  # videos


@dataclass
class Person:
    """Somebody with a browser: asks for the next video, and tells what became of the last one.

    After ``VISIT`` videos, somebody else takes the place.
    """

    client: aiohttp.ClientSession
    session: str = ""
    shown: dict[str, Any] = field(default_factory=dict)

    async def next(self) -> None:
        """Ask for the next video."""
        if self.shown.get("position", 0) + 1 >= VISIT:
            self.client.cookie_jar.clear()
            self.session, self.shown = "", {}
        if not self.session:
            self.session = (await self._post("/api/sessions", {}))["session"]
        answer = await self._post("/api/next", {"session": self.session, "count": 1})
        self.shown = answer["exposures"][0]

    async def tell(self) -> None:
        """Say that the video was watched; every second one is liked."""
        kinds = ["impression", "start", "end", *(["like"] if self.shown["position"] % 2 else [])]
        events = [
            {
                "id": uuid.uuid4().hex,
                "kind": kind,
                "request_id": self.shown["request_id"],
                "position": self.shown["position"],
                "at": time.time_ns() // 1_000_000,
                **({"watched_ms": 5000, "loops": 0, "duration_ms": 8000} if kind == "end" else {}),
            }
            for kind in kinds
        ]
        answer = await self._post("/api/events", {"session": self.session, "events": events})
        assert answer["stored"] == len(events), answer

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self.client.post(path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found


@dataclass
class Load:
    """What a load has measured: milliseconds from the moment at which each request was due to its answer."""

    next: list[float] = field(default_factory=list)
    tell: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def use(self, people: list[Person], rate: float, seconds: float) -> None:
        """Let people take turns at a fixed rate, whether or not earlier requests were answered."""
        begin = time.perf_counter()
        tasks = []
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            person = people[(number // 2) % len(people)]
            tasks.append(asyncio.create_task(self._ask(person, "next" if number % 2 == 0 else "tell", due)))
        await asyncio.gather(*tasks)

    async def _ask(self, person: Person, what: str, due: float) -> None:
        try:
            if what == "tell" and not person.shown:
                return
            await getattr(person, what)()
        except (AssertionError, aiohttp.ClientError, TimeoutError) as error:
            self.errors.append(repr(error)[:300])
            return
        getattr(self, what).append(1000 * (time.perf_counter() - due))

    def figures(self) -> dict[str, Any]:
        """Median, 99 % and greatest of the answers."""
        return {
            "next video": _milliseconds(self.next),
            "events": _milliseconds(self.tell),
            "errors": len(self.errors),
            "first errors": self.errors[:3],
        }


def _milliseconds(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {"count": len(times), "median": round(p50, 2), "p99": round(p99, 2), "most": round(max(times), 2)}
