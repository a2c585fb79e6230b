"""Claiming, locking and clearing run folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.files.run_manifest import CONFIG, ENVIRONMENT, LISTED, MANIFEST
from microlens.files.writing import MARK, claim_folder, clear_folder, lock_folder

VECTORS = "vectors"
"""The sub-folder of stored item vectors; the manifest does not list them, because they can be computed again."""

TRACKED = "wandb.txt"
"""The id of a run at Weights & Biases; see :mod:`microlens.runs.tracking`."""

WRITTEN = (*LISTED, MANIFEST, TRACKED, "tensorboard/events.out.tfevents.*", f"{VECTORS}/catalogue.*")
"""Patterns of all files that a run writes into its folder; a fresh start removes them."""


def claim_run_folder(folder: Path, *others: str) -> None:
    """Mark a folder as a run folder; create it if it does not exist.

    Args:
        folder: run folder; runs of earlier versions have no mark.
        others: patterns of files that will be written there besides the files of the run.

    Raises:
        InputError: the folder is not a run folder and holds a file that a run would overwrite.
    """
    marked_or_run = (folder / MARK).is_file() or _holds_a_run(folder)
    claim_folder(folder, () if marked_or_run else (*WRITTEN, *others))


@contextmanager
def held_run_folder(folder: Path) -> Iterator[None]:
    """Claim a run folder and lock it for this process.

    Raises:
        InputError: see :func:`claim_run_folder`; or another process has locked it.
    """
    claim_run_folder(folder)
    with lock_folder(folder):
        yield


def clear_run_folder(folder: Path) -> None:
    """Remove the files that a run wrote, and no others."""
    clear_folder(folder, WRITTEN)


def _holds_a_run(folder: Path) -> bool:
    if not (folder / CONFIG).is_file() or not (folder / ENVIRONMENT).is_file():
        return False
    try:
        RunConfig.load(folder / CONFIG, of_run=True)
    except InputError:
        return False
    return True
