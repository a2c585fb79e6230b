"""Checks of media files: in parallel, resumed, not stopped by a file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from microlens.verification import media_files
from microlens.verification.foreign_files import what_it_is
from microlens.verification.media_files import LOG, MediaTask, check_file, check_files
from tests.conftest import REPOSITORY
from tests.verification.worker_tasks import DEADLY, deadly_check
from tests.videos import encode


def write_cover(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
    pixels = np.ascontiguousarray(np.kron(coarse, np.ones((20, 20, 1), np.uint8)))
    path.write_bytes(simplejpeg.encode_jpeg(pixels, 90))
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> list[MediaTask]:
    folder = tmp_path / "covers"
    folder.mkdir()
    paths = [write_cover(folder / f"{number}.jpg", number) for number in range(5)]
    return [MediaTask(kind="covers", name=f"covers/{path.name}", path=path) for path in paths]


def test_files_are_checked_in_the_order_of_the_tasks(tasks: list[MediaTask], tmp_path: Path) -> None:
    seen = []
    checked = check_files(tasks, tmp_path, 2, lambda done, total: seen.append((done, total)))
    assert [file.name for file in checked] == [task.name for task in tasks]
    assert all(not file.faults and file.hashes and len(file.sha256) == 64 for file in checked)
    assert seen == [(number, 5) for number in range(1, 6)]


def test_checked_files_are_not_decoded_again(
    tasks: list[MediaTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = check_files(tasks, tmp_path, 1)
    decoded = []
    monkeypatch.setattr(
        media_files, "work", lambda function, left, workers: ((t, decoded.append(t) or function(t)) for t in left)
    )
    assert check_files(tasks, tmp_path, 1) == before
    assert decoded == []
    write_cover(tasks[2].path, 99)
    with (tmp_path / LOG).open("a") as log:
        log.write('{"kind": "covers", "na')  # the process was killed here
    after = check_files(tasks, tmp_path, 1)
    assert decoded == [tasks[2]]
    assert after[2].sha256 != before[2].sha256
    assert [json.loads(line)["name"] for line in (tmp_path / LOG).read_text().splitlines()].count("covers/2.jpg") == 2
    assert check_files(tasks, tmp_path, 1) == after
    assert decoded == [tasks[2]]


def test_hashes_are_computed_when_the_library_is_there(
    tasks: list[MediaTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_files, "work", lambda function, left, workers: ((task, function(task)) for task in left))
    with monkeypatch.context() as without:
        without.setattr("microlens.verification.perceptual_hashes.find_spec", lambda name: None)
        assert all(file.hashes is None for file in check_files(tasks, tmp_path, 1))
        assert all(file.hashes is None for file in check_files(tasks, tmp_path, 1))
    assert all(file.hashes for file in check_files(tasks, tmp_path, 1))


def test_a_file_that_kills_its_process_is_a_fault(
    tasks: list[MediaTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = shutil.copy(tasks[0].path, tasks[0].path.with_name(DEADLY))
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    monkeypatch.setattr(media_files, "check_file", deadly_check)
    *others, lost = check_files([*tasks, MediaTask(kind="covers", name=DEADLY, path=Path(deadly))], tmp_path, 2)
    assert lost.faults == ["decoding it kills the process (SIGKILL)"]
    assert lost.bytes
    assert all(not file.faults for file in others)


def test_files_that_cannot_be_opened_are_faults(tmp_path: Path) -> None:
    gone = check_file(MediaTask(kind="clips", name="1.mp4", path=tmp_path / "1.mp4"))
    assert gone.faults == ["it cannot be read (No such file or directory)"]
    assert (gone.bytes, gone.sha256) == (0, "")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n  <HTML lang=en>", "a web page"),
        (b"<!-- saved --><html>", "a web page"),
        (b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey', "an error message of a server"),
        (b'{"error": "forbidden"}', "an error message of a server"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"PK\x03\x04rest", "a zip archive"),
        (bytes(3_000_000), "nothing but zeros"),
        (bytes(5000) + b"x", None),
        (b"", None),
        (b"\xff\xd8\xff", None),
    ],
)
def test_other_content_is_named(content: bytes, kind: str | None, tmp_path: Path) -> None:
    path = tmp_path / "1.mp4"
    path.write_bytes(content)
    assert what_it_is(path) == kind
    if kind:
        assert check_file(MediaTask(kind="clips", name="1.mp4", path=path)).faults == [f"not a media file: {kind}"]


def test_covers_of_16k_pixels_a_side_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.new("1", (16384, 16384)).save(path)
    (fault,) = check_file(MediaTask(kind="covers", name="1.png", path=path)).faults
    assert fault == "its pictures have 16384 x 16384 pixels; accepted are up to 67,108,864"


_PROGRAM = """
import sys, time
from pathlib import Path
from microlens.verification.media_files import MediaTask, check_files
folder = Path(sys.argv[1])
paths = sorted((folder / "videos").iterdir())
check_files([MediaTask(kind="clips", name=path.name, path=path) for path in paths], folder, 1)
"""


def test_a_killed_check_decodes_only_the_rest(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    film = encode(tmp_path / "film.mp4", count=90)
    for number in range(12):
        shutil.copy(film, tmp_path / "videos" / f"{number}.mp4")
    log = tmp_path / LOG
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    for enough in (3, 7):
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(tmp_path)], env=environment)
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < enough):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert enough <= log.read_bytes().count(b"\n") < 12  # before it was done
    subprocess.run([sys.executable, "-c", _PROGRAM, str(tmp_path)], env=environment, check=True)
    names = [json.loads(line)["name"] for line in log.read_text().splitlines()]
    assert sorted(names) == sorted(f"{number}.mp4" for number in range(12))
