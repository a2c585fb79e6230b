"""Locating the dataset of a run from any working directory, also after run and dataset were moved together."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from microlens.data.dataset import Dataset
from microlens.errors import InputError

RECORD = "environment.json"


def location_of(dataset: Path, run: Path) -> dict[str, str]:
    """Paths of a dataset for a run's ``environment.json``: the absolute path, and that relative to the run folder."""
    absolute = os.path.abspath(dataset)  # noqa: PTH100 - unlike resolve(), keeps links, which may move too
    return {"path": absolute, "from_run": os.path.relpath(absolute, os.path.abspath(run))}  # noqa: PTH100


def find_dataset(run: Path, written: Path, checksum: str, given: Path | None = None) -> Dataset:
    """Open the dataset that a run was trained on.

    Three paths are tried: the one in the configuration, relative to the working directory; the absolute path at
    training time; and the path relative to the run folder at training time.

    Args:
        run: run folder.
        written: dataset path in the configuration.
        checksum: checksum of the data that the run was trained on.
        given: path to try instead of these three.

    Raises:
        InputError: the dataset is at none of these paths; the message lists them.
    """
    positions = [given] if given is not None else [written, *recorded(run)]
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


def recorded(run: Path) -> Iterator[Path]:
    """The dataset's paths that :func:`location_of` gave at training time: the absolute one first; none if not known."""
    try:
        noted = json.loads((run / RECORD).read_text(encoding="utf-8"))["dataset"]
        absolute, from_run = str(noted["path"]), str(noted["from_run"])
    except (OSError, ValueError, LookupError, TypeError):  # written by an earlier version, or damaged
        return
    yield Path(absolute)
    yield run / from_run
