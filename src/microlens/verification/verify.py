"""Verification of a whole release."""

import os
from contextlib import nullcontext
from pathlib import Path

from microlens.download.registry import find_set
from microlens.files.progress_bar import OnProgress, counting_bar
from microlens.files.writing import claim_folder, lock_folder
from microlens.release.folder import MEDIA
from microlens.release.ids import Id
from microlens.verification.contents import Contents, read_contents, read_interactions
from microlens.verification.duplicates import find_duplicates
from microlens.verification.findings import Case, Finding, grouped, note
from microlens.verification.identity import identify
from microlens.verification.media_files import LOG, CheckedFile, MediaTask, check_files
from microlens.verification.perceptual_hashes import can_hash
from microlens.verification.report import Verification
from microlens.verification.tables import check_completeness, check_durations, check_values

_KINDS = (
    "truncated",
    "damaged sound",
    "damaged",
    "not a media file",
    "no video stream",
    "no sound track",
    "the file is empty",
)
_BEGINNINGS = {
    "its pictures have": "too many pixels",
    "a picture of the kind": "a kind of picture that is not read",
    "incomplete or damaged": "damaged",
    "there is no decoder": "no decoder",
    "decoding it": "files that kill their decoder",
    "it cannot be": "unreadable",
    "the rest of the file": "truncated",
    "several files put together": "several files put together",
}


def verify(
    release: str | Path,
    *,
    set_name: str | None = None,
    against: str | Path | None = None,
    state: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = False,
    on_progress: OnProgress | None = None,
) -> Verification:
    """Check a release: which set it is, whether every file decodes, and what is wrong with its tables.

    Every file of videos, covers and sound is read and decoded to its end. What was checked is remembered: a second
    call, also after the first was killed, decodes only files that are new or have changed.

    Args:
        release: a folder in the official layout, see docs/data.md; or a file of interactions, or a folder with one
            atomic file, of which only the interactions are checked.
        set_name: the published set that it is to be, such as "100k"; by default the one with its counts.
        against: the original, a release or a file of interactions, to find which ids were permuted.
        state: folder where the checked files are remembered; ``NAME.verify`` beside the release by default.
        jobs: number of decoding processes; one per core by default.
        progress: show a progress bar.
        on_progress: called with (done, total) files, instead of the bar.

    Raises:
        InputError: the interactions are missing or cannot be read, ``set_name`` is no set, ``against`` cannot be read,
            another process writes to ``state``, or decoding processes do not start.
    """
    release = Path(release)
    wanted = find_set(set_name) if set_name is not None else None
    contents = read_contents(release)
    official = read_interactions(Path(against))[1] if against is not None else None
    identity = identify(contents.pairs, contents.folder, contents.pairs_file, wanted, official)
    state = Path(state) if state is not None else _beside(release)
    with counting_bar("media files") if progress and not on_progress else nullcontext(on_progress) as show:
        media = _check_media(contents, state, jobs or os.cpu_count() or 1, show)
    return Verification(
        release=release,
        identity=identity,
        checked={MEDIA[kind][0]: len(files) for kind, files in media.items()},
        findings=[
            *identity.findings(expected=wanted is not None or official is not None),
            *_media_faults(media),
            *check_durations(media.get("clips", [])),
            *check_completeness(contents),
            *check_values(contents),
            *(found for kind, files in media.items() for found in find_duplicates(kind, files)),
            *contents.findings,
            *_without_hashes(media),
        ],
    )


Checked = dict[str, list[tuple[Id, CheckedFile]]]


def _beside(release: Path) -> Path:
    absolute = release.resolve()
    return absolute.with_name(f"{absolute.name}.verify")


def _check_media(contents: Contents, state: Path, jobs: int, on_progress: OnProgress | None) -> Checked:
    entries = [
        (item, MediaTask(kind=kind, name=files.names[item], path=path))
        for kind, files in contents.media.items()
        for item, path in files.by_item.items()
    ]
    if not entries:
        return {}
    claim_folder(state, (LOG,))
    with lock_folder(state):
        results = check_files([task for _, task in entries], state, jobs, on_progress)
    checked: Checked = {}
    for (item, task), result in zip(entries, results, strict=True):
        checked.setdefault(task.kind, []).append((item, result))
    return checked


def _media_faults(media: Checked) -> list[Finding]:
    return [
        finding
        for kind, files in media.items()
        for finding in grouped(
            MEDIA[kind][0],
            (
                (_kind(fault), Case(item=item, file=file.name, why=fault))
                for item, file in files
                for fault in file.faults
            ),
        )
    ]


def _kind(fault: str) -> str:
    """The kind of fault of a message."""
    named = next((kind for kind in _KINDS if fault.startswith(kind)), None)
    return named or next((kind for begin, kind in _BEGINNINGS.items() if fault.startswith(begin)), "damaged")


def _without_hashes(media: Checked) -> list[Finding]:
    if can_hash() or not media:
        return []
    why = "media that look alike were not searched for; install imagehash with: pip install 'microlens[verify]'"
    return note("duplicates", "not searched for", [Case(why=why)])
