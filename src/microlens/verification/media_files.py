"""Checking the media files of a release one by one, in parallel; an interrupted check is resumed."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from microlens.files.writing import sha256
from microlens.media.faults import MediaFault, faults_of
from microlens.media.processes import Killed, work
from microlens.media.reading import read_cover
from microlens.verification.decoding import PICTURE_SIZE, Decoded, decode_sound, decode_video
from microlens.verification.foreign_files import what_it_is
from microlens.verification.perceptual_hashes import can_hash, picture_hashes

LOG = "files-1.jsonl"
"""The checked files, one JSON object a line; the number changes with the meaning of the lines."""


@dataclass(frozen=True, kw_only=True)
class MediaTask:
    """A file to check: its ``kind`` (clips, covers or sound), its path and its name within the release."""

    kind: str
    name: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class CheckedFile:
    """What is known about a media file.

    ``faults`` is empty for an intact file; ``info`` describes it as :class:`microlens.verification.decoding.Decoded`
    does. ``hashes`` are perceptual hashes of its pictures, None if the library was not installed. A file that cannot be
    read has an empty ``sha256``.
    """

    kind: str
    name: str
    bytes: int
    mtime_ns: int
    sha256: str
    faults: list[str]
    info: dict[str, Any]
    hashes: list[str] | None


def check_file(task: MediaTask) -> CheckedFile:
    """Read a media file completely: its SHA-256, and every frame, pixel or sample of it."""
    size, mtime_ns, digest = 0, 0, ""
    try:
        with faults_of(task.path):
            size, mtime_ns = _state(task.path)
            digest = sha256(task.path)
        decoded = _DECODERS[task.kind](task.path)
        faults, hashes = decoded.faults, picture_hashes(decoded.pictures)
        info = decoded.info
    except MediaFault as fault:
        faults, info, hashes = [_explained(task.path, str(fault))], {}, []
    return CheckedFile(
        kind=task.kind,
        name=task.name,
        bytes=size,
        mtime_ns=mtime_ns,
        sha256=digest,
        faults=faults,
        info=info,
        hashes=hashes,
    )


def check_files(
    tasks: Sequence[MediaTask],
    folder: Path,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[CheckedFile]:
    """Check all files in ``workers`` processes, except those whose check is in the log in ``folder``.

    Each result is appended to the log as it arrives; a file is checked again if its size or its time of change differ,
    or if its hashes can be computed only now. A file that kills its process is one with a fault.

    Returns:
        The results in the order of ``tasks``.

    Raises:
        InputError: worker processes do not start, or die independently of the file.
        OSError: the disk is full, or another system resource is exhausted.
    """
    log = folder / LOG
    known = _read_log(log)
    done = {(task.kind, task.name): known[key] for task in tasks if (key := _key(task)) in known}
    left = [task for task in tasks if (task.kind, task.name) not in done]
    with ExitStack() as stack:
        lines = stack.enter_context(log.open("a", encoding="utf-8"))
        for task, answer in stack.enter_context(closing(work(check_file, left, workers))):
            checked = _lost(task, answer) if isinstance(answer, Killed) else answer
            done[task.kind, task.name] = checked
            lines.write(json.dumps(asdict(checked)) + "\n")
            lines.flush()
            if on_progress:
                on_progress(len(done), len(tasks))
    return [done[task.kind, task.name] for task in tasks]


def _decode_cover(path: Path) -> Decoded:
    cover = read_cover(path, PICTURE_SIZE, "squash")
    grey = cover.pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return Decoded(faults=list(cover.faults), pictures=grey.round().astype(np.uint8)[None], info={})


_DECODERS: dict[str, Callable[[Path], Decoded]] = {
    "clips": decode_video,
    "covers": _decode_cover,
    "sound": decode_sound,
}


def _explained(path: Path, fault: str) -> str:
    """The fault of a file that yields nothing, or what the file is instead of a media file."""
    with suppress(OSError):
        other = what_it_is(path)
        if other is not None:
            return f"not a media file: {other}"
    return fault


def _lost(task: MediaTask, killed: Killed) -> CheckedFile:
    size, mtime_ns = _state(task.path)
    return CheckedFile(
        kind=task.kind,
        name=task.name,
        bytes=size,
        mtime_ns=mtime_ns,
        sha256=sha256(task.path),
        faults=[f"decoding it {killed.how}"],
        info={},
        hashes=[],
    )


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


Key = tuple[str, str, int, int]


def _key(task: MediaTask) -> Key | None:
    try:
        return (task.kind, task.name, *_state(task.path))
    except OSError:
        return None


def _read_log(log: Path) -> dict[Key | None, CheckedFile]:
    """The checks in the log."""
    from microlens.files.json_files import resumed_log  # slow to load, so not imported in worker processes

    return {
        (checked.kind, checked.name, checked.bytes, checked.mtime_ns): checked
        for checked in resumed_log(log, CheckedFile)
        if checked.hashes is not None or not can_hash()
    }
