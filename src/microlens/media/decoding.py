"""Decoding of single media files of a release into the values that a dataset stores."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from microlens.errors import InputError
from microlens.files.addresses import StoredFile, local_copy
from microlens.files.writing import sha256
from microlens.media.array_packing import pack_array
from microlens.media.clip_settings import ClipSettings, Crop
from microlens.media.packing import pack_images
from microlens.media.sound import SoundSettings, read_log_mel

NO_SOUND = "no sound track"


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
    """A file of an item and the kinds of content to extract from it.

    If the file is ``remote``, ``path`` only names it.
    """

    item_id: int
    path: Path
    kinds: tuple[str, ...]
    remote: StoredFile | None = None

    def local_file(self) -> AbstractContextManager[Path]:
        """The path of the file, or of a temporary copy of a remote one."""
        return nullcontext(self.path) if self.remote is None else local_copy(self.remote)


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


Result = list[tuple[Outcome, bytes | None]]


def decode(task: Task, settings: Settings) -> Result:
    """Extract all kinds of content of ``task`` from its file.

    Raises:
        OSError: a remote file cannot be fetched, or a system resource is exhausted.
    """
    with task.local_file() as path:
        return _decode_file(task, path, settings)


def lost(task: Task, fault: str) -> Result:
    """The result of a task whose file yields no content; raises as :func:`decode`."""
    with task.local_file() as path:
        return _lost(task, path, fault)


def _decode_file(task: Task, path: Path, settings: Settings) -> Result:
    from microlens.media.reading import MediaFault, faults_of, read_clip, read_cover  # slow to import

    try:
        with faults_of(path):
            file = _file(path)
    except MediaFault as fault:
        return _lost(task, path, str(fault))
    values: dict[str, bytes | None] = {}
    faults: dict[str, str] = {}
    survived: dict[str, tuple[str, ...]] = {}
    info: dict[str, Any] = {}
    for kind in task.kinds:
        try:
            if kind == "clips":
                clip = read_clip(path, settings.clips)
                values[kind], survived[kind], info = pack_images(clip.frames), clip.faults, asdict(clip.info)
            elif kind == "covers":
                cover = read_cover(path, settings.cover_size, settings.cover_crop)
                values[kind], survived[kind] = pack_images(cover.pixels[None]), cover.faults
            else:
                values[kind] = pack_array(read_log_mel(path, settings.sound))
        except MediaFault as fault:
            faults[kind] = str(fault)
    return _results(task, file, faults, values, info, survived)


def _file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _lost(task: Task, path: Path, fault: str) -> Result:
    try:
        file = _file(path)
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
