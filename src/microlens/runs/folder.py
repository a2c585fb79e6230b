"""Run folders: whose they are, and what is cleared when a run starts again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.files.run_manifest import CONFIG, ENVIRONMENT, LISTED, MANIFEST
from microlens.files.writing import MARK, claim_folder, clear_folder, lock_folder

WRITTEN = (*LISTED, MANIFEST, "tensorboard/events.out.tfevents.*")
"""All that a run ever writes into its folder, as patterns; what is cleared when it starts again."""


def claim_run_folder(folder: Path, *others: str) -> None:
    """Mark a folder as that of a run, made if it is not there.

    Args:
        folder: the run folder, perhaps that of a run of an earlier version, which has no mark.
        others: what is going to be written there besides the run's own files, as patterns.

    Raises:
        InputError: the folder holds a file of a run's names that is not from a run.
    """
    marked_or_run = (folder / MARK).is_file() or _holds_a_run(folder)
    claim_folder(folder, () if marked_or_run else (*WRITTEN, *others))


@contextmanager
def held_run_folder(folder: Path) -> Iterator[None]:
    """Claim a run folder and hold it for this process.

    Raises:
        InputError: see :func:`claim_run_folder`; or another process holds it.
    """
    claim_run_folder(folder)
    with lock_folder(folder):
        yield


def clear_run_folder(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    clear_folder(folder, WRITTEN)


def _holds_a_run(folder: Path) -> bool:
    if not (folder / CONFIG).is_file() or not (folder / ENVIRONMENT).is_file():
        return False
    try:
        RunConfig.load(folder / CONFIG)
    except InputError:
        return False
    return True
