"""Parallel decoding of a release's media into the stores of a dataset; an interrupted job is resumed."""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from microlens.errors import InputError
from microlens.files.writing import sha256
from microlens.media.array_packing import pack_array
from microlens.media.packing import pack_images
from microlens.media.processes import Killed, work
from microlens.media.reading import ClipSettings, Crop, MediaFault, VideoInfo, faults_of, read_clip, read_cover
from microlens.media.sound import SoundSettings, read_log_mel
from microlens.media.store import StoreWriter

NO_SOUND = "no sound track"
_ITEMS_PER_COMMIT = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the media of a release are decoded."""

    clips: ClipSettings = field(default_factory=ClipSettings)
    cover_size: int = 224
    cover_crop: Crop = "squash"
    sound: SoundSettings = field(default_factory=SoundSettings)

    def __post_init__(self) -> None:
        if not 8 <= self.cover_size <= 4096:
            raise InputError(f"cover_size is {self.cover_size}; accepted are 8 to 4096 pixels")


@dataclass(frozen=True)
class Task:
    """A file of an item and the kinds of content to extract from it."""

    item_id: int
    path: Path
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result for one kind of content of one item; if it was stored, ``faults`` lists what was worked around.

    An unreadable file has 0 ``bytes`` and an empty ``sha256``.
    """

    kind: str
    item_id: int
    stored: bool
    faults: list[str]
    info: dict[str, Any]
    path: str
    bytes: int
    sha256: str


def decode_all(
    tasks: Sequence[Task],
    settings: Settings,
    folder: Path,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Decode all tasks that are not yet in ``folder`` into ``KIND.lmdb``, in ``workers`` processes.

    A file that cannot be decoded, or whose decoding kills the process, becomes an outcome with a fault and does not
    stop the job. Committed work survives a kill: the content is committed first, then its line in ``outcomes.jsonl``.
    Items decoded before an error are committed, too.

    Returns:
        The outcomes, ordered by kind and item.

    Raises:
        InputError: worker processes do not start, or die independently of the task.
        OSError: the disk is full, or another system resource is exhausted.
    """
    log = folder / "outcomes.jsonl"
    done = _read_outcomes(log)
    left = [task for task in tasks if any((kind, task.item_id) not in done for kind in task.kinds)]
    kinds = sorted({kind for task in tasks for kind in task.kinds})
    finished = len(tasks) - len(left)
    with ExitStack() as stack:
        writers = {kind: stack.enter_context(StoreWriter(folder / f"{kind}.lmdb")) for kind in kinds}
        lines = stack.enter_context(log.open("a"))
        results = stack.enter_context(closing(_work(left, settings, workers)))
        for batch in _batched(results, _ITEMS_PER_COMMIT):
            for result in batch:
                for outcome, value in result:
                    if value is not None:
                        writers[outcome.kind].put(outcome.item_id, value)
                    done[outcome.kind, outcome.item_id] = outcome
            for writer in writers.values():
                writer.commit()
            lines.writelines(json.dumps(asdict(outcome)) + "\n" for result in batch for outcome, _ in result)
            lines.flush()
            finished += len(batch)
            if on_progress:
                on_progress(finished, len(tasks))
    return [done[key] for key in sorted(done)]


Result = list[tuple[Outcome, bytes | None]]


def _work(tasks: Sequence[Task], settings: Settings, workers: int) -> Generator[Result]:
    """Yield the result of each task as it completes; a task that killed its worker twice yields a fault."""
    for task, answer in work(partial(decode, settings=settings), tasks, workers):
        if isinstance(answer, Killed):
            yield _lost(task, f"decoding it {answer.how}")
        else:
            yield answer


def decode(task: Task, settings: Settings) -> Result:
    """Extract all kinds of content of ``task`` from its file."""
    try:
        with faults_of(task.path):
            file = _file(task.path)
    except MediaFault as fault:
        return _lost(task, str(fault))
    values: dict[str, bytes | None] = {}
    faults: dict[str, str] = {}
    survived: dict[str, tuple[str, ...]] = {}
    info: dict[str, Any] = {}
    for kind in task.kinds:
        try:
            if kind == "clips":
                clip = read_clip(task.path, settings.clips)
                values[kind], survived[kind], info = pack_images(clip.frames), clip.faults, asdict(clip.info)
            elif kind == "covers":
                cover = read_cover(task.path, settings.cover_size, settings.cover_crop)
                values[kind], survived[kind] = pack_images(cover.pixels[None]), cover.faults
            else:
                values[kind] = pack_array(read_log_mel(task.path, settings.sound))
        except MediaFault as fault:
            faults[kind] = str(fault)
    return _results(task, file, faults, values, info, survived)


def _file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _lost(task: Task, fault: str) -> Result:
    """The result of a task whose file yields no content."""
    try:
        file = _file(task.path)
    except OSError:
        file = {"bytes": 0, "sha256": ""}
    return _results(task, file, dict.fromkeys(task.kinds, fault), {}, {}, {})


def _results(
    task: Task,
    file: dict[str, Any],
    faults: dict[str, str],
    values: dict[str, bytes | None],
    info: dict[str, Any],
    survived: dict[str, tuple[str, ...]],
) -> Result:
    results: Result = []
    for kind in task.kinds:
        fault = faults.get(kind)
        already_reported = (
            len(task.kinds) > 1 and kind == "sound" and (fault == NO_SOUND or fault == faults.get("clips"))
        )
        outcome = Outcome(
            kind=kind,
            item_id=task.item_id,
            stored=kind in values,
            faults=[fault] if fault and not already_reported else list(survived.get(kind, ())),
            info=info if kind == "clips" else {},
            path=f"{task.path.parent.name}/{task.path.name}",
            **file,
        )
        results.append((outcome, values.get(kind)))
    return results


def _read_outcomes(log: Path) -> dict[tuple[str, int], Outcome]:
    done: dict[tuple[str, int], Outcome] = {}
    if not log.exists():
        return done
    from microlens.files.json_files import parse_json  # slow to load, so not imported in decoding workers

    whole = []
    for line in log.read_bytes().split(b"\n")[:-1]:  # the last line may be incomplete after a kill
        with suppress(InputError):  # unreadable lines are decoded again
            outcome = parse_json(line, Outcome, log, "it is decoded again")
            if outcome.info:
                parse_json(json.dumps(outcome.info), VideoInfo, log, "it is decoded again")
            done[outcome.kind, outcome.item_id] = outcome
            whole.append(line + b"\n")
    log.write_bytes(b"".join(whole))
    return done


def _batched(values: Iterator[Result], size: int) -> Iterator[list[Result]]:
    batch: list[Result] = []
    try:
        for value in values:
            batch.append(value)
            if len(batch) == size:
                yield batch
                batch = []
    except (InputError, OSError):
        yield batch  # keep completed results
        raise
    if batch:
        yield batch
