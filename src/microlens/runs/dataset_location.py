"""Where the dataset of a run lies, as seen from any working folder and after run and dataset have moved together."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from microlens.data.dataset import Dataset
from microlens.errors import InputError

RECORD = "environment.json"


def location_of(dataset: Path, run: Path) -> dict[str, str]:
    """What a run's ``environment.json`` notes of its dataset: its absolute path, and the one from the run folder."""
    absolute = os.path.abspath(dataset)  # noqa: PTH100 - links stay, they may be moved along
    return {"path": absolute, "from_run": os.path.relpath(absolute, os.path.abspath(run))}  # noqa: PTH100


def find_dataset(run: Path, written: Path, checksum: str, given: Path | None = None) -> Dataset:
    """The dataset that a run was trained on.

    It is looked for where the configuration says, from the working folder; where it was when the run was trained; and
    where it was then as seen from the run folder.

    Args:
        run: the run folder.
        written: the dataset of the configuration.
        checksum: that of the data the run was trained on.
        given: the only place to look at.

    Raises:
        InputError: the dataset is at none of these places; names them.
    """
    positions = [given] if given is not None else [written, *_recorded(run)]
    found = []
    for index in dict.fromkeys(Path(os.path.abspath(index)) for index in positions):  # noqa: PTH100
        if not (index / "manifest.json").is_file():
            found.append(f"{index} (no dataset)")
            continue
        try:
            dataset = Dataset(index)
        except InputError as error:
            found.append(f"{index} ({error})")
            continue
        if dataset.checksum == checksum:
            return dataset
        found.append(f"{index} (other data)")
    raise InputError(
        f"{run} was trained on a dataset that was not found; looked at {', '.join(found)}; say where it is with "
        f"dataset=PATH."
    )


def _recorded(run: Path) -> Iterator[Path]:
    try:
        noted = json.loads((run / RECORD).read_text(encoding="utf-8"))["dataset"]
        absolute, from_run = str(noted["path"]), str(noted["from_run"])
    except (OSError, ValueError, LookupError, TypeError):  # of an earlier version, or damaged
        return
    yield Path(absolute)
    yield run / from_run
