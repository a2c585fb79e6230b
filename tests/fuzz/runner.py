"""Running cases in a process that is watched: one that hangs, dies or takes too much memory is killed and noted."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.fuzz.target import Target
from tests.fuzz.worker import work

MEMORY = 2 * 1024**3
CASES_A_PROCESS = 250  # readers may keep files open for as long as a process lives
PRELOADED = [
    "microlens.runs.train",
    "microlens.runs.recommend",
    "microlens.page",
    "torch._dynamo",
    "tests.fuzz.targets",
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A case that did not end as it should: ``kind`` is exception, wrong, hang, killed or memory."""

    target: str
    case: int
    kind: str
    what: str
    where: str
    done: str
    trace: str = field(repr=False)
    saved: str = ""

    @property
    def root(self) -> tuple[str, str, str]:
        """What findings of the same root have in common."""
        return self.kind, self.what.split(":")[0], self.where


@dataclass
class Result:
    """What came of the cases of one target."""

    target: str
    seed: int
    cases: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Findings grouped by where they come from, each group with its count and its first case in full."""
        groups: dict[tuple[str, str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault(finding.root, []).append(finding)
        return {
            "target": self.target,
            "seed": self.seed,
            "cases": self.cases,
            "seconds": round(self.seconds, 1),
            "outcomes": dict(self.outcomes.most_common()),
            "findings": [
                {"count": len(group), "cases": [f.case for f in group[:20]], **asdict(group[0])}
                for group in groups.values()
            ],
        }


def fuzz(
    target: type[Target],
    seed: int,
    cases: Iterable[int],
    folder: Path,
    *,
    limit: float = 20.0,
    memory: int = MEMORY,
    seconds: float | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> Result:
    """Run ``cases`` of a target, by number; what a case does depends on the target, the seed and its number alone.

    Args:
        target: the class.
        seed: of all cases.
        cases: their numbers.
        folder: works in here; inputs of findings stay in ``findings/TARGET-SEED-CASE``.
        limit: seconds of work, or of doing nothing, after which a case is taken for hanging.
        memory: bytes that a case may take beyond what its process had; at twice as many the system refuses more.
        seconds: of processor time, after which no other case starts.
        on_finding: called with the first finding of each root.
    """
    seeds = folder / "seeds" / target.name
    if not seeds.exists():
        seeds.mkdir(parents=True)
        target().prepare(seeds)
    result = Result(target.name, seed)
    worker: _Worker | None = None
    try:
        for case in cases:
            if seconds is not None and result.seconds >= seconds:
                break
            if worker is None or worker.cases >= CASES_A_PROCESS:
                if worker is not None:
                    worker.end()
                worker = _Worker(target, seed, folder, memory)
            answer = worker.ask(case, limit)
            if not worker.alive:
                worker = None
            result.cases += 1
            result.seconds += answer.pop("seconds")
            result.outcomes[answer.pop("outcome")] += 1
            if answer:
                finding = Finding(target=target.name, case=case, **answer)
                if on_finding and finding.root not in {other.root for other in result.findings}:
                    on_finding(finding)
                result.findings.append(finding)
    finally:
        if worker is not None:
            worker.end()
    return result


class _Worker:
    """A process that runs cases one after the other."""

    def __init__(self, target: type[Target], seed: int, folder: Path, memory: int) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.folder, self.cases, self.alive = folder, 0, True
        self.name = f"{target.name}-{seed}"
        self.place = folder / f"{self.name}.place"
        self.connection, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(
            target=work, args=(target, seed, folder, memory, theirs, dict(os.environ)), daemon=True
        )
        self.process.start()
        theirs.close()
        assert self.connection.poll(120), f"a process for {target.name} does not start"
        self.connection.recv()

    def ask(self, case: int, limit: float) -> dict[str, Any]:
        """Run one case and say how it went."""
        self.cases += 1
        started = time.monotonic()
        self.connection.send(case)
        try:
            if self._answers_within(limit):
                answer: dict[str, Any] = self.connection.recv()
                return self._saved(answer, case)
            kind, what = "hang", f"no answer after {limit:g} s"
            os.kill(self.process.pid or 0, signal.SIGUSR1)  # it writes where it is
            time.sleep(0.5)
        except EOFError:
            self.process.join()
            kind, what = "killed", _how_it_died(self.process.exitcode or 0)
        self.end()
        place = self.place.read_text(errors="replace") if self.place.exists() else ""
        taken = {"seconds": time.monotonic() - started, "outcome": kind, "kind": kind, "what": what}
        return self._saved({**taken, "where": _where(place), "done": "", "trace": place}, case)

    def _answers_within(self, limit: float) -> bool:
        """Whether there is an answer before it has worked or done nothing for so long; others' work does not count."""
        first = last = self._seconds()
        moved = time.monotonic()
        while not self.connection.poll(0.2):
            now = self._seconds()
            if now > last:
                last, moved = now, time.monotonic()
            if now - first > limit or time.monotonic() - moved > limit:
                return False
        return True

    def _seconds(self) -> float:
        """Processor time of the process; 0 if it is gone."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return 0.0
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kill the process."""
        self.alive = False
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _saved(self, answer: dict[str, Any], case: int) -> dict[str, Any]:
        """Keep the input of a finding."""
        work = self.folder / "work" / f"{self.name}-{case}"
        if "kind" in answer:
            saved = self.folder / "findings" / work.name
            shutil.rmtree(saved, ignore_errors=True)
            shutil.copytree(work, saved, symlinks=True)
            answer["saved"] = str(saved)
        shutil.rmtree(work, ignore_errors=True)
        return answer


def _how_it_died(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended itself with status {status}"


def _where(place: str) -> str:
    """The innermost line of ours in what faulthandler wrote."""
    for line in place.splitlines():
        if "/microlens/" in line:
            path, _, rest = line.strip().removeprefix('File "').partition('", line ')
            number, _, name = rest.partition(" in ")
            return f"{path.rpartition('/microlens/')[2]}:{number} {name}"
    return place.strip().splitlines()[-1] if place.strip() else "unknown"
