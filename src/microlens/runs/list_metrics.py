"""Beyond-accuracy metrics of a run, computed once and stored in its folder."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import FiniteFloat

from microlens.data.feature_matrix import load_features
from microlens.data.interactions import Int64
from microlens.data.split import Part
from microlens.errors import InputError
from microlens.evaluation.beyond_accuracy import CUTOFF, beyond_accuracy
from microlens.evaluation.ranking import encode_catalogue, known_before
from microlens.evaluation.report import Report
from microlens.evaluation.top_items import top_items
from microlens.files.json_files import read_json
from microlens.files.run_manifest import BEYOND, check, replace_text
from microlens.files.writing import lock_folder
from microlens.runs.assembly import Experiment, open_experiment


def recommended_lists(
    run: Experiment, part: Part = "test", cutoff: int = CUTOFF, on_progress: Callable[[int, int], None] | None = None
) -> Int64:
    """Return the top-K items of every user, without the items of the user's history.

    Args:
        run: trained run, see :func:`microlens.runs.assembly.open_experiment`.
        part: histories end before the targets of this part.
        cutoff: K.
        on_progress: called with (done, total) users.

    Returns:
        (U, K) item numbers, best first; 0 if a user has fewer than K candidates.

    Raises:
        InputError: a vector or a score is NaN or infinite.
    """
    model, split = run.model.eval(), run.split
    catalogue = encode_catalogue(model, run.content, split.num_items, run.device)
    users = np.arange(split.num_users)
    return top_items(model, catalogue, users, known_before(split, part, users), cutoff, on_progress)[0]


def summarise(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Return the beyond-accuracy metrics of a run folder, computed once and stored in ``beyond.json``.

    Returns:
        "metrics" by name; "features", the file in the dataset's ``features`` from which diversity is computed (the
        first in alphabetical order that covers every item; None if there is none); and the hashes of configuration and
        data.

    Raises:
        InputError: the run is not finished, its files were modified, or its data is missing.
    """
    report = Report.read(folder).provenance
    identity = {name: report[name] for name in ("config_hash", "data_hash")}
    check(folder, BEYOND)
    with suppress(InputError):  # a file that cannot be read is computed again
        kept = read_beyond(folder)
        if kept is not None and {name: kept[name] for name in identity} == identity:
            return kept
    run = open_experiment(folder)
    lists = recommended_lists(run, on_progress=on_progress)
    features, vectors = _content_vectors(run)
    found = {"metrics": beyond_accuracy(lists, run.split, vectors), "features": features, **identity}
    with lock_folder(folder):
        replace_text(folder, BEYOND, json.dumps(found, indent=1) + "\n")
    return found


def read_beyond(folder: Path) -> dict[str, Any] | None:
    """Read the result of :func:`summarise` in a run folder; None if it was not run.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "beyond.json"
    return asdict(read_json(path, _Kept, "remove it to compute it again")) if path.exists() else None


@dataclass(frozen=True)
class _Kept:
    metrics: dict[str, FiniteFloat]
    features: str | None
    config_hash: str
    data_hash: str


def _content_vectors(run: Experiment) -> tuple[str | None, npt.NDArray[np.float32] | None]:
    folder = run.dataset.folder / "features"
    for path in sorted(path for path in folder.glob("*.npy") if not path.name.endswith(".ids.npy")):
        with suppress(InputError):  # it lacks items, or is not a feature matrix
            matrix = load_features(path, run.item_ids()[1:])
            return path.name, np.concatenate([np.zeros_like(matrix[:1]), matrix])
    return None, None
