"""What it costs known items to show more new ones: hits of both, by how far new items' scores are raised."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from microlens.counts import checked_count
from microlens.data.split import Part, check_part
from microlens.errors import InputError
from microlens.evaluation.ranking import encode_catalogue, known_before, score_users
from microlens.files.progress_bar import OnProgress
from microlens.recommenders.new_items import new_ahead, new_reaches
from microlens.runs.run import Run

Floats = npt.NDArray[np.float64]
LOSSES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def new_item_curve(
    run: Run | str | Path, part: Part = "valid", k: int = 10, on_progress: OnProgress | None = None
) -> pl.DataFrame:
    """The hit rates of known and new targets while one number is added to the scores of all new items.

    New items are those without training interactions. How far a model should raise them cannot be learned from their
    own interactions, because there are none: it is a decision, and this is what it costs. The catalogue is ranked as a
    whole, ties against the target.

    Args:
        run: a finished run, or its folder.
        part: "valid" or "test". Choose an offset on validation.
        k: length of the list.
        on_progress: called with (done, total) targets.

    Returns:
        One row per offset, in ascending order: offset; loss, the share of the known targets' hits lost to new items;
        known and new, HR@k of known and of new targets. Offsets are minus infinity, where new items come last; 0, the
        scores as they are; and the largest ones with a loss of at most 0.5, 1, 2, 5, 10, 20 and 50 %.

    Raises:
        InputError: the part is unknown, ``k`` is below 1, or no target of the part is new, or all are.
    """
    check_part(part)
    checked_count("k", k)
    known, new = _limits(run if isinstance(run, Run) else Run(run), part, k, on_progress)
    hits = np.sort(known[known > -np.inf])
    lost = [hits[int(loss * len(hits))] for loss in LOSSES if len(hits)]
    offsets = np.unique([-np.inf, 0.0, *(np.nextafter(limit, -np.inf) for limit in lost if limit < np.inf)])
    reached = np.stack([known > offset for offset in offsets])  # (O, Q)
    return pl.DataFrame(
        {
            "offset": offsets,
            "loss": 1 - reached.sum(1) / len(hits) if len(hits) else np.zeros(len(offsets)),
            "known": reached.mean(1),
            "new": np.stack([new < offset for offset in offsets]).mean(1),
        }
    )


def _limits(run: Run, part: Part, k: int, on_progress: OnProgress | None) -> tuple[Floats, Floats]:
    """The offsets at which known targets (Q,) leave and new ones (R,) enter the first k."""
    experiment = run.experiment
    split, device = experiment.split, experiment.device
    is_new = torch.from_numpy(split.train_counts == 0).to(device)
    is_new[0] = False
    targets = torch.from_numpy(split.targets(part).astype(np.int64)).to(device)
    if is_new[targets].all() or not is_new[targets].any():
        raise InputError(
            f"{run.folder}: {int(is_new[targets].sum())} of {len(targets)} targets of {part} are new; a curve needs "
            "new and known ones."
        )
    catalogue = encode_catalogue(experiment.model, experiment.content, split.num_items, device)
    users = split.target_users(part)
    limits = torch.empty(len(users), dtype=torch.float64)
    for scored in score_users(experiment.model, catalogue, users, known_before(split, part, users), on_progress):
        own = targets[scored.rows]
        scores = scored.candidates()
        reaches, ahead = (function(scores, own, is_new, k) for function in (new_reaches, new_ahead))
        limits[scored.rows] = torch.where(is_new[own], reaches, ahead).double().cpu()
    of_new = is_new[targets].cpu()
    return limits[~of_new].numpy(), limits[of_new].numpy()
