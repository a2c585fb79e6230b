"""How fast the downloader fetches from this machine, beside curl and a loop, printed as JSON.

    python speed/download.py [--smoke] [--repeats 3]

One large file: as many bytes through ``microlens.download_release`` and through curl, from a
server in a process of its own. Many small files: the downloader with its 8 connections, and a loop that asks for one
after another over one connection, from a server that waits for 50 ms before each answer.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import httpx
from measure import Line, print_result, side_by_side

from microlens import download_release
from microlens.download import registry

LARGE, SMALL, SMALL_BYTES, DELAY = 1_000_000_000, 2000, 10_000, 0.05
LARGE_SHARE, SMALL_TIMES = 0.7, 5.0


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, each answer after a while."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    delay = 0.0

    def do_GET(self) -> None:
        """Wait and send a file."""
        time.sleep(self.delay)
        super().do_GET()

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        """Send a file in the kernel."""
        outputfile.flush()
        self.connection.sendfile(source)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Ends without a word when a client closes a connection."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: Path, delay: float, channel: Connection) -> None:
    """Serve a folder, and send the port."""
    handler = type("Delayed", (Handler,), {"delay": delay})
    server = Server(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    channel.send(server.server_port)
    server.serve_forever()


@contextmanager
def serving(folder: Path, delay: float) -> Iterator[str]:
    """The address of a server of ``folder`` in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(folder, delay, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/"
    finally:
        process.kill()
        process.join()


def ours(address: str, out: Path, items: list[int]) -> None:
    """Download all files into a new folder, which is removed."""
    os.environ["MICROLENS_CONFIG"] = str(out.parent / "settings")
    done = download_release("bench", out, mirror=address, items=items)
    assert not done.missing
    shutil.rmtree(out)


def curl(address: str, target: Path) -> None:
    """Fetch the large file with curl."""
    subprocess.run(["curl", "--silent", "--fail", "--output", str(target), f"{address}set/large.bin"], check=True)
    target.unlink()


def one_at_a_time(address: str, folder: Path, items: list[int]) -> None:
    """Fetch the small files one after another."""
    folder.mkdir()
    with httpx.Client() as client:
        for item in items:
            answer = client.get(f"{address}set/small/{item}.jpg")
            answer.raise_for_status()
            (folder / f"{item}.jpg").write_bytes(answer.content)
    shutil.rmtree(folder)


def registered(content: dict[str, Any]) -> Any:
    """The registry with a set that holds only ``content``."""
    registry.load_registry.cache_clear()
    table = {"base": "http://127.0.0.1/", "sets": {"bench": {"title": "Bench", "folder": "set", **content}}}
    return mock.patch.object(registry, "_content", return_value=table)


def main() -> None:
    """Measure one large file and many small ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small files, to see that the program works")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    large, items = (2_000_000, list(range(1, 41))) if options.smoke else (LARGE, list(range(1, SMALL + 1)))
    repeats = 1 if options.smoke else options.repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site" / "set" / "small").mkdir(parents=True)
        with (folder / "site" / "set" / "large.bin").open("wb") as file:
            for _ in range(large // 1_000_000):
                file.write(random.randbytes(1_000_000))
        for item in items:
            (folder / "site" / "set" / "small" / f"{item}.jpg").write_bytes(
                b"\xff\xd8" + random.randbytes(SMALL_BYTES) + b"\xff\xd9"
            )
        table = {"files": [{"path": "large.bin", "kind": "pairs"}]}
        with serving(folder / "site", 0.0) as address, registered(table):
            ways: dict[str, Callable[[], object]] = {
                "microlens, one large file": partial(ours, address, folder / "out", items),
                "curl, one large file": partial(curl, address, folder / "large.bin"),
            }
            costs = side_by_side(ways, repeats)
        table = {"media": [{"folder": "small", "kind": "covers", "suffix": ".jpg"}]}
        with serving(folder / "site", DELAY) as address, registered(table):
            ways = {
                "microlens, many small files": partial(ours, address, folder / "out", items),
                "one at a time, many small files": partial(one_at_a_time, address, folder / "loop", items),
            }
            costs |= side_by_side(ways, 1)
    seconds = {name: cost.wall_seconds for name, cost in costs.items()}
    share = seconds["curl, one large file"] / seconds["microlens, one large file"]
    times = seconds["one at a time, many small files"] / seconds["microlens, many small files"]
    megabytes = {name: round(large / 1e6 / seconds[name], 1) for name in seconds if "large" in name}
    lines = [
        Line(
            what=f"rate of one file of {large:,} bytes from this machine, as a share of curl's",
            measured=share, unit="", bound="at least", reach=LARGE_SHARE,
        ),
        Line(
            what=f"{len(items):,} files of {SMALL_BYTES:,} bytes at 50 ms of delay, faster than one at a time",
            measured=times, unit="times", bound="at least", reach=SMALL_TIMES,
        ),
    ]  # fmt: skip
    print_result("download", options, [], {"costs": costs, "megabytes_per_second": megabytes}, lines)


if __name__ == "__main__":
    main()
