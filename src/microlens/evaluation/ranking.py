"""Full ranking: every held-out target among the whole catalogue."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch, Process
from microlens.data.content import ItemContent
from microlens.data.interactions import Int64
from microlens.data.split import Part, Split
from microlens.distributed import gather_interleaved, gather_shares
from microlens.encoders.content import ContentEncoder
from microlens.encoders.finite import all_finite
from microlens.errors import InputError
from microlens.evaluation.metrics import rank_of_target
from microlens.recommenders.base import Recommender

USERS_AT_ONCE = 1024
ROWS_AT_ONCE = 64  # a row of scores is a whole catalogue long; this many keep in the processor's cache best
ITEMS_AT_ONCE = 4096
CLIPS_AT_ONCE = 64
TRAIN_AGAIN = "nothing can be ranked by that; train the run again, with smaller rates."


@torch.inference_mode()
def encode_catalogue(
    model: Recommender, content: ItemContent, num_items: int, device: torch.device, process: Process | None = None
) -> Tensor:
    """Encode every item once, the processes sharing the work: (N+1, D), row 0 being zero.

    Raises:
        InputError: the vector of an item is NaN or infinite; names the item by id.
    """
    process = process or Process()
    share = process.share_of(num_items)
    items = np.arange(1, num_items + 1)[share]
    sees_content = any(isinstance(tower, ContentEncoder) for tower in model.item_encoder.towers())
    size = CLIPS_AT_ONCE if sees_content else ITEMS_AT_ONCE
    parts = []
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        batch = ItemBatch(items=torch.from_numpy(chunk), content=content.read(chunk))
        parts.append(model.encode_items(batch.to(device)).float())
    vectors = gather_shares(torch.cat(parts), num_items, process)
    if not all_finite(vectors):
        broken = 1 + int(vectors.isfinite().all(1).logical_not().nonzero()[0])
        raise InputError(f"the vector of item {content.item_id(broken)} is NaN or infinite: {TRAIN_AGAIN}")
    return torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])


@torch.inference_mode()
def user_states(model: Recommender, catalogue: Tensor, users: Tensor, history: Tensor) -> Tensor:
    """The state of each user (B,) after the last item of ``history`` (B, L): (B, D).

    Raises:
        InputError: the state of a user is NaN or infinite; names the user by number.
    """
    states = model.last_states(users, history, catalogue[history]).float()
    if not all_finite(states):
        broken = int(states.isfinite().flatten(1).all(1).logical_not().nonzero()[0])
        raise InputError(f"the vector of user number {int(users[broken])} is NaN or infinite: {TRAIN_AGAIN}")
    return states


@torch.inference_mode()
def finite_scores(model: Recommender, states: Tensor, items: Tensor, users: npt.NDArray[np.integer]) -> Tensor:
    """The scores (B, C) of user states (B, S) against the vectors ``items`` (C, D).

    Args:
        model: whose scores.
        states: see :func:`user_states`.
        items: the catalogue, padding first.
        users: (B,) the number of each user.

    Raises:
        InputError: a score is NaN or infinite; names user and item by number.
    """
    scores = model.score(states, items)
    if not all_finite(scores):
        row, item = scores.isfinite().logical_not().nonzero()[0].tolist()
        raise InputError(
            f"the score of item number {item} for user number {users[row]} is {float(scores[row, item])}: {TRAIN_AGAIN}"
        )
    return scores


@torch.inference_mode()
def rank_targets(
    model: Recommender,
    content: ItemContent,
    split: Split,
    part: Part,
    device: torch.device,
    process: Process | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Int64:
    """The rank of every target of ``part`` among all items that its user has not seen: (Q,) from 1.

    The model is put into eval mode and left there.

    Raises:
        InputError: a vector of an item or a user, or a score, is NaN or infinite.
    """
    process = process or Process()
    model.eval()
    catalogue = encode_catalogue(model, content, split.num_items, device, process)
    users = split.target_users(part)[process.rank :: process.world_size]
    targets = split.targets(part)[process.rank :: process.world_size]
    # One array from the start: small results kept between rows of scores would scatter over the heap and hold it open.
    ranks = torch.empty(len(users), dtype=torch.int64)
    for start in range(0, len(users), USERS_AT_ONCE):
        here = slice(start, start + USERS_AT_ONCE)
        chunk = users[here]
        history, wanted, seen = (
            torch.from_numpy(values.astype(np.int64)).to(device)
            for values in (split.inputs(part, chunk), targets[here], split.history(part, chunk))
        )
        states = user_states(model, catalogue, torch.from_numpy(chunk).to(device), history)
        for row in range(0, len(states), ROWS_AT_ONCE):
            rows = slice(row, row + ROWS_AT_ONCE)
            scores = finite_scores(model, states[rows], catalogue, chunk[rows])
            ranked = rank_of_target(scores, wanted[rows], seen[rows])
            ranks[start + row : start + row + len(ranked)] = ranked
        if on_progress:
            on_progress(min(start + USERS_AT_ONCE, len(users)), len(users))
    return gather_interleaved(ranks, len(split.targets(part)), process).numpy()
