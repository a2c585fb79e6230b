"""Commands that also run on Windows and macOS use nothing that only Linux or POSIX has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.download import tiny_set
from tests.download.file_server import serving
from tests.download.test_release import content

# Removed before anything of ours is imported. Libraries that find no fcntl take what they use on Windows.
BLOCKED = """
import os, select, sys
import torch, polars, httpx, psutil, multiprocessing.connection
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for module, name in ((os, "sched_getaffinity"), (os, "sysconf"), (os, "fork"), (os, "getuid"), (select, "poll")):
    delattr(module, name)
"""
ROOMS = ("errors", "files", "environment", "media", "engines", "release", "download", "data", "page", "cli")
IMPORTS = """
import importlib, pkgutil, microlens
for room in {rooms!r}:
    module = importlib.import_module(f"microlens.{{room}}")
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"microlens.{{room}}."):
        importlib.import_module(found.name)
"""


def run(program: str, *arguments: str, settings: Path | None = None) -> str:
    environment = {**os.environ, **({"MICROLENS_CONFIG": str(settings)} if settings else {})}
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_nothing_on_the_way_of_the_commands_imports_what_only_posix_has():
    planted = "try:\n import fcntl\nexcept ImportError:\n print('missed', 'fcntl' in sys.modules)"
    assert run(BLOCKED + IMPORTS.format(rooms=ROOMS) + planted).split() == ["missed", "True"]


@pytest.mark.slow
def test_download_and_adopt_run_without_what_only_posix_has(tmp_path):
    (tmp_path / "by hand").mkdir()
    for name, body in tiny_set.released().items():
        (tmp_path / "by hand" / name.replace("/", " ")).write_bytes(body)
    program = f"{BLOCKED}\nfrom tests.download.tiny_set import main\nmain()"
    with serving(tiny_set.served()) as server:
        options = ["--mirror", server.address]
        run(program, "20000", "data", "download", "tiny", str(tmp_path / "out"), *options, settings=tmp_path)
    assert content(tmp_path / "out") == tiny_set.released()
    run(program, "20000", "data", "adopt", str(tmp_path / "by hand"), str(tmp_path / "adopted"), settings=tmp_path)
    assert content(tmp_path / "adopted").keys() >= {"Tiny_pairs.csv", "Tiny_titles.csv"}
