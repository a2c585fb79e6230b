"""The files of a run folder and its manifest, which holds the size and SHA-256 of each.

Every file is written through :func:`replaced`, which enters it in the manifest before it takes its place. If the
process is killed, the manifest names two states of the one file that was being replaced, and either is valid. Logs
(``log.txt``, TensorBoard's files) are not in the manifest; no numbers are read from them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from microlens.errors import InputError
from microlens.files.writing import atomic_write, digest_of, sha256, write_text

MANIFEST = "run-manifest.json"
FORMAT_VERSION = 1
CONFIG, ENVIRONMENT, EPOCHS = "config.toml", "environment.json", "metrics.jsonl"
BEST, LAST = "checkpoints/best.safetensors", "checkpoints/last.safetensors"
REPORT, RANKS, BEYOND = "report.json", "ranks.npy", "beyond.json"
LISTED = (CONFIG, ENVIRONMENT, EPOCHS, BEST, LAST, RANKS, REPORT, BEYOND)
"""The names of all files of a run that its manifest lists."""

LARGE = 2**20  # bytes; digests of files of at least this size are cached in the process

Entry = dict[str, Any]
State = Literal["ok", "changed", "missing", "not listed"]


@dataclass(frozen=True)
class _Manifest:
    """``files``: size and SHA-256 by name; ``replacing``: previous entry of the file being replaced, None if new."""

    files: dict[str, Entry] = field(default_factory=dict)
    replacing: dict[str, Entry | None] = field(default_factory=dict)

    @property
    def checksum(self) -> str:
        return digest_of(asdict(self))

    def accepts(self, name: str, there: Entry | None) -> bool:
        """True if a file with this entry (None if missing) is valid; a file that is not listed must not exist."""
        return there == self.files.get(name) or (name in self.replacing and there == self.replacing[name])


@contextmanager
def replaced(folder: Path, name: str) -> Iterator[Path]:
    """Yield a temporary path for a file of a run; at the end of the block it is renamed and listed in the manifest.

    Args:
        folder: the run folder; only one process may write to it at a time.
        name: one of :data:`LISTED`.

    Raises:
        InputError: the manifest is damaged.
    """
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    files = _current_files(folder)
    with atomic_write(path) as temporary:
        yield temporary
        before, files[name] = files.get(name), _measured(temporary)
        _write(folder, _Manifest(files, {name: before}))
    _write(folder, _Manifest(files))


def replace_text(folder: Path, name: str, text: str) -> None:
    """Write the text of a file of a run; see :func:`replaced`."""
    with replaced(folder, name) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check(folder: Path, *names: str) -> None:
    """Check that files of a run are those that were written, before they are read.

    Args:
        folder: the run folder, which may have been moved or copied as a whole.
        names: names of the files; each must be as listed, or neither listed nor present.

    Raises:
        InputError: a file was changed, is missing, or is not listed, or the manifest is missing or damaged.
    """
    manifest = _read(folder)
    for name in names:
        while (state := _state(folder, name, manifest or _Manifest())) != "ok":
            later = _read(folder)
            if later == manifest:  # otherwise a training process wrote in the meantime
                raise InputError(_problem(folder, name, state) if manifest else _no_manifest(folder))
            manifest = later


def digest(path: Path) -> str:
    """The SHA-256 of a file; that of a large one which :func:`check` has just read is remembered."""
    return str(_cached_entry(path)["sha256"])


def check_checkpoint(path: Path) -> None:
    """Check that a checkpoint in a run folder is the one that was written; a copy elsewhere has no manifest.

    Raises:
        InputError: see :func:`check`.
    """
    path = path.absolute()
    if path.parent.name == Path(BEST).parent.name:
        check(path.parent.parent, f"{path.parent.name}/{path.name}")


def states(folder: Path) -> dict[str, State]:
    """The state of every file in a run folder, by name, including logs and other files, but not hidden ones.

    Raises:
        InputError: the manifest is missing or damaged.
    """
    manifest = _read(folder)
    if manifest is None:
        raise InputError(_no_manifest(folder))
    inner = [path.parent for path in folder.rglob(MANIFEST) if path.parent != folder]
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and not any(path.is_relative_to(run) for run in inner)
    }
    return {name: _state(folder, name, manifest) for name in sorted((there | manifest.files.keys()) - {MANIFEST})}


def problems(folder: Path, found: Mapping[str, State]) -> list[str]:
    """A sentence for every file that differs from the manifest, given the result of :func:`states`."""
    wrong = {name: state for name, state in found.items() if state != "ok"}
    return [_problem(folder, name, state) for name, state in wrong.items() if state != "not listed" or name in LISTED]


def adopt(folder: Path) -> None:
    """Write the manifest of a run folder of an earlier version, which has none, from its current files.

    Raises:
        InputError: the folder has a manifest.
    """
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder} has a {MANIFEST} already; look at it with: microlens runs check {folder}")
    _write(folder, _Manifest({name: _measured(folder / name) for name in LISTED if (folder / name).is_file()}))


def find_runs(folder: Path) -> list[Path]:
    """The run folders at and below ``folder``, including those without a manifest.

    Raises:
        InputError: there are none.
    """
    with_manifest = {path.parent for path in folder.rglob(MANIFEST)}
    of_earlier_versions = {
        path.parent
        for path in folder.rglob(CONFIG)
        if any((path.parent / name).exists() for name in (REPORT, RANKS, Path(BEST).parent))
    }
    if not with_manifest | of_earlier_versions:
        raise InputError(f"{folder} holds no run; name a run folder, or one with runs below it.")
    return sorted(with_manifest | of_earlier_versions)


def _state(folder: Path, name: str, manifest: _Manifest) -> State:
    path = folder / name
    there = _cached_entry(path) if path.is_file() else None
    if manifest.accepts(name, there):
        return "ok"
    if there is None:
        return "missing"
    return "changed" if name in manifest.files else "not listed"


def _current_files(folder: Path) -> dict[str, Entry]:
    """The manifest's files; if a process was killed while replacing one, with the entry of the file on disk."""
    manifest = _read(folder) or _Manifest()
    files = dict(manifest.files)
    for name, before in manifest.replacing.items():
        there = _measured(folder / name) if (folder / name).is_file() else None
        if there == before:
            del files[name]
            files |= {name: before} if before else {}
    return files


def _read(folder: Path) -> _Manifest | None:
    path = folder / MANIFEST
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        manifest = _Manifest(table["files"], table["replacing"])
        if table["format_version"] == FORMAT_VERSION and table["checksum"] == manifest.checksum:
            return manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path} is damaged or was changed after microlens wrote it; {way_out(folder)}")


def _write(folder: Path, manifest: _Manifest) -> None:
    table = {"format_version": FORMAT_VERSION, **asdict(manifest), "checksum": manifest.checksum}
    write_text(folder / MANIFEST, json.dumps(table, indent=1) + "\n")


def _measured(path: Path) -> Entry:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _cached_entry(path: Path) -> Entry:
    found = path.stat()
    if found.st_size < LARGE:
        return _measured(path)
    return _cached_measurement(path, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=256)
def _cached_measurement(path: Path, *_: int) -> Entry:
    return _measured(path)


def _problem(folder: Path, name: str, state: State) -> str:
    said = {
        "changed": f"is not the file that microlens wrote: {MANIFEST} beside it has another SHA-256",
        "missing": f"is gone, but {MANIFEST} lists it",
        "not listed": f"was not written by microlens: {MANIFEST} does not list it",
    }[state]
    return f"{folder / name} {said}; {way_out(folder)}"


def _no_manifest(folder: Path) -> str:
    return (
        f"{folder} has no {MANIFEST} to check its files against; if they are good, for example of an earlier version, "
        f"create it with: microlens runs adopt {folder}; otherwise {way_out(folder)}"
    )


def way_out(folder: Path) -> str:
    """What a user can do about a file that was changed."""
    return f"restore it from a copy, or train the run again, with fresh=True or after removing {folder}."
