"""A download that is killed again and again gives the same bytes, and fetches nothing twice but what was in flight."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.download import tiny_set
from tests.download.file_server import FileServer, serving
from tests.download.test_release import content
from tests.processes import PythonProcess

JOBS, KILLS, VIDEO_SIZE = 2, 10, 20_000
SECONDS = 60.0


def start(server: FileServer, out: Path, settings: Path) -> PythonProcess:
    arguments = ["data", "download", "tiny", str(out), "--mirror", server.address, "--jobs", str(JOBS)]
    command = ["-m", "tests.download.tiny_set", VIDEO_SIZE, *arguments]
    environment = {**os.environ, "MICROLENS_CONFIG": str(settings)}
    return PythonProcess(command, folder=REPOSITORY, environment=environment)


def kill_after(server: FileServer, process: PythonProcess, requests: int) -> None:
    """Kill a process when the server has got so many more requests."""
    target, began = len(server.requests) + requests, time.monotonic()
    while process.poll() is None and len(server.requests) < target and time.monotonic() - began < SECONDS:
        time.sleep(0.002)
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("archives", [True, False])
def test_ten_kills_and_the_same_command_give_the_same_bytes(tmp_path, settings, archives):
    draw = random.Random(archives)
    with serving(tiny_set.served(singles=not archives, archives=archives)) as server:
        server.delay = 0.03
        for _ in range(KILLS):
            kill_after(server, start(server, tmp_path / "out", settings), draw.randrange(1, 8))
        killed = content(tmp_path / "out")
        assert killed.items() <= tiny_set.released().items()  # nothing half-written
        process = start(server, tmp_path / "out", settings)
        said = process.communicate(timeout=SECONDS)
        assert process.poll() == 0, said
        assert content(tmp_path / "out") == tiny_set.released()
        whole = sum(len(file) for file in server.files.values())
        in_flight = JOBS * len(tiny_set.video(max(tiny_set.ITEMS))) + archives * tiny_set.PART_SIZE  # the directory
        assert server.sent() <= whole + KILLS * in_flight
        before = len(server.requests)
        assert start(server, tmp_path / "out", settings).wait(timeout=SECONDS) == 0
        assert len(server.requests) == before
