"""The same preparation by processes of this machine and by Ray, printed as JSON.

    python speed/engines.py [--smoke] [--copies 400] [--repeats 2] [VIDEO ...]

A release holds --copies links to the videos (made ones, if none are named), so that decoding takes about a minute. It
is prepared in turn by the local engine and by Ray: on a cluster that runs already, and with Ray started for the job.
CPU seconds are those of this process and of all that come from it, Ray's own included; on a busy machine they compare
the engines better than the clock does.
The datasets must have the same bytes. Ray's processes get the priority of the local ones, because other work on the
machine would delay those alone that have a lower one.
"""

import argparse
import gc
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import psutil
import ray
from decode import encode_example
from measure import Line, print_result

from microlens.data.prepare import prepare
from microlens.engines.ray_cluster import RayEngine

RAY_OVER_LOCAL = 1.25
ITEMS_A_USER = 5
SECONDS_BETWEEN_LOOKS = 0.3
LOCAL, RUNNING, STARTED = "local", "ray, running", "ray, started for the job"


def link_release(folder: Path, videos: list[Path], copies: int) -> Path:
    """A release of ``copies`` items whose videos are links to the same files."""
    (folder / "videos").mkdir(parents=True)
    for item in range(1, copies + 1):
        source = videos[item % len(videos)]
        (folder / "videos" / f"{item}{source.suffix}").symlink_to(source.resolve())
    users = range(1, copies // ITEMS_A_USER + 1)
    rows = (range(ITEMS_A_USER * (user - 1) + 1, ITEMS_A_USER * user + 1) for user in users)
    lines = [f"{user}\t{' '.join(map(str, row))}\n" for user, row in zip(users, rows, strict=True)]
    (folder / "linked_pairs.tsv").write_text("".join(lines))
    return folder


def digest(dataset: Path) -> str:
    """A digest of all files of a dataset."""
    content = hashlib.sha256()
    for path in sorted(dataset.rglob("*")):
        if path.is_file():
            content.update(path.name.encode() + path.read_bytes())
    return content.hexdigest()


class CpuMeter(Thread):
    """Adds up the CPU seconds of this process and of all that come from it, while it runs as a context manager."""

    def __enter__(self) -> "CpuMeter":
        self._ended, self._last = Event(), {}
        self._look()
        self._before = sum(self._last.values())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        self.seconds = sum(self._last.values()) - self._before

    def run(self) -> None:
        """Look at the processes again and again, because those that have ended are not seen any more."""
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            self._look()
        self._look()

    def _look(self) -> None:
        this = psutil.Process()
        for process in (this, *this.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._last[process] = times.user + times.system


def on_running_cluster(work: Callable[[], None]) -> None:
    """Start Ray, and measure ``work`` on it when its worker processes have started."""
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        list(RayEngine().map_items(abs, range(100)))
        work()
    finally:
        ray.shutdown()


def main() -> None:
    """Measure the engines in turn."""
    os.environ.update(RAY_worker_niceness="0")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--copies", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="few items, to see that the program works")
    options = parser.parse_args()
    copies, repeats = (10, 1) if options.smoke else (options.copies, options.repeats)
    wall: dict[str, list[float]] = {LOCAL: [], RUNNING: [], STARTED: []}
    cpu: dict[str, list[float]] = {LOCAL: [], RUNNING: [], STARTED: []}
    loads: list[float] = []
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = options.videos
        if not videos:
            videos = [folder / "made.mp4"]
            encode_example(videos[0], 30, 20 if options.smoke else 365)
        release = link_release(folder / "release", videos, copies)

        def once(way: str, engine: RayEngine | None) -> None:
            gc.collect()
            begin = time.perf_counter()
            with CpuMeter() as meter:
                prepare(release, folder / "dataset", engine=engine)
            wall[way].append(round(time.perf_counter() - begin, 2))
            cpu[way].append(round(meter.seconds, 2))
            digests.add(digest(folder / "dataset"))
            shutil.rmtree(folder / "dataset")

        for _ in range(repeats):
            loads.append(round(os.getloadavg()[0], 2))
            once(LOCAL, None)
            on_running_cluster(lambda: once(RUNNING, RayEngine()))
            once(STARTED, RayEngine())
    if len(digests) > 1:
        raise RuntimeError("the engines wrote different bytes")
    medians = {
        what: {way: statistics.median(each) for way, each in seconds.items()}
        for what, seconds in (("wall", wall), ("CPU", cpu))
    }
    lines = [
        Line(
            what=f"{what} time of Ray over local, {way.removeprefix('ray, ')}", measured=median[way] / median[LOCAL],
            unit="times", bound="at most", reach=RAY_OVER_LOCAL,
        )
        for what, median in medians.items()
        for way in (RUNNING, STARTED)
    ]  # fmt: skip
    options.videos = [path.name for path in options.videos]
    results = {
        "items": copies,
        "wall_seconds": medians["wall"],
        "cpu_seconds": medians["CPU"],
        "wall_seconds_each": wall,
        "cpu_seconds_each": cpu,
        "load_averages": loads,
    }
    print_result("engines", options, [os.cpu_count() or 1], results, lines)


if __name__ == "__main__":
    main()
