"""Full ranking: every held-out target among the whole catalogue."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch, Process
from microlens.data.content import ItemContent
from microlens.data.interactions import Int32, Int64
from microlens.data.split import Part, Split
from microlens.distributed import gather_interleaved, gather_shares
from microlens.encoders.finite import all_finite
from microlens.environment import keep_freed_memory
from microlens.errors import InputError
from microlens.evaluation.block_ranking import cannot_overflow, ranks_in_blocks
from microlens.recommenders.base import Recommender

USERS_AT_ONCE = 1024
ROWS_AT_ONCE = 64  # a row of scores is a whole catalogue long; this many fit a processor's cache; a GPU takes all users
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
    size = CLIPS_AT_ONCE if model.item_encoder.sees_content else ITEMS_AT_ONCE
    catalogue = torch.zeros(0)
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        batch = ItemBatch(items=torch.from_numpy(chunk), content=content.read(chunk))
        vectors = model.encode_items(batch.to(device)).float()
        if start == 0:  # one array from the start, because parts of a large catalogue would be there twice
            catalogue = vectors.new_zeros(1 + len(items), vectors.shape[1])
        catalogue[1 + start : 1 + start + len(chunk)] = vectors
    if process.world_size > 1:
        everything = gather_shares(catalogue[1:], num_items, process)
        catalogue = torch.cat([catalogue[:1], everything])
    if not all_finite(catalogue):
        broken = int(catalogue.isfinite().all(1).logical_not().nonzero()[0])
        raise InputError(f"the vector of item {content.item_id(broken)} is NaN or infinite: {TRAIN_AGAIN}")
    return catalogue


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


@dataclass(frozen=True, kw_only=True)
class ScoredUsers:
    """The scores of the whole catalogue for a few users.

    ``rows`` says which of the users that were asked for; ``scores`` (B, C) includes padding in column 0; ``seen``
    (B, H) holds the items that are no candidates, padded with 0.
    """

    rows: slice
    scores: Tensor
    seen: Tensor

    @torch.inference_mode()
    def candidates(self) -> Tensor:
        """The scores (B, C) with minus infinity at padding and at items already seen; overwrites ``scores``."""
        self.scores.scatter_(1, self.seen, -torch.inf)
        self.scores[:, 0] = -torch.inf
        return self.scores


@torch.inference_mode()
def score_users(
    model: Recommender,
    catalogue: Tensor,
    users: Int64,
    histories: Callable[[slice], tuple[Int32, Int32]],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[ScoredUsers]:
    """Score the whole catalogue for every user, a few users at a time; all rankings read these scores.

    Args:
        model: the recommender, in eval mode.
        catalogue: (C, D) item vectors, padding first; see :func:`encode_catalogue`.
        users: (U,) user numbers.
        histories: gives for a slice of ``users`` the items that the model reads (B, L) and all items that are no
            candidates (B, H), both left-padded with 0.
        on_progress: called with (users done, users).

    Raises:
        InputError: the state of a user or a score is NaN or infinite.
    """
    rows_at_once = ROWS_AT_ONCE if catalogue.device.type == "cpu" else USERS_AT_ONCE
    for chunk in states_of_users(model, catalogue, users, histories, on_progress):
        for row in range(0, len(chunk.states), rows_at_once):
            part = slice(row, row + rows_at_once)
            yield chunk.scored(model, catalogue, users, part)


@dataclass(frozen=True, kw_only=True)
class UserStates:
    """The states (B, S) of a few users: ``rows`` and ``seen`` as in :class:`ScoredUsers`."""

    rows: slice
    states: Tensor
    seen: Tensor

    def scored(self, model: Recommender, catalogue: Tensor, users: Int64, part: slice) -> ScoredUsers:
        """The scores of ``part`` of these users; arguments and errors as of :func:`score_users`."""
        states = self.states[part]
        rows = slice(self.rows.start + part.start, self.rows.start + part.start + len(states))
        scores = finite_scores(model, states, catalogue, users[rows])
        return ScoredUsers(rows=rows, scores=scores, seen=self.seen[part])


@torch.inference_mode()
def states_of_users(
    model: Recommender,
    catalogue: Tensor,
    users: Int64,
    histories: Callable[[slice], tuple[Int32, Int32]],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[UserStates]:
    """Compute the states of all users, :data:`USERS_AT_ONCE` at a time; arguments as of :func:`score_users`."""
    device = catalogue.device
    for start in range(0, len(users), USERS_AT_ONCE):
        here = slice(start, min(start + USERS_AT_ONCE, len(users)))
        read, seen = (torch.from_numpy(items.astype(np.int64)).to(device) for items in histories(here))
        states = user_states(model, catalogue, torch.from_numpy(users[here]).to(device), read)
        yield UserStates(rows=here, states=states, seen=seen)
        if on_progress:
            on_progress(here.stop, len(users))


def rank_of_target(scores: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """The rank of each target among the items that its user has not seen; ties and NaN count against the target.

    Args:
        scores: (B, N+1) score of every item for every user; column 0 is padding. **Overwritten**.
        targets: (B,) item numbers of the targets.
        seen: (B, H) items in the user's history, padded with 0; a target among them is still ranked.

    Returns:
        (B,) ranks from 1, int64, computed by counting, without a sort.
    """
    target_scores = scores.gather(1, targets[:, None])
    scores.scatter_(1, seen, -torch.inf)
    scores[:, 0] = -torch.inf
    scores.scatter_(1, targets[:, None], target_scores)
    # Counting the scores strictly below the target's places ties and NaN above it. Padding and seen items are always
    # below, unless the target's score is -inf or NaN, which gives it the last of the N ranks. Comparing in place gives
    # ones and zeros that are summed without another array of this size, about ten times faster than counting booleans.
    columns = scores.shape[1]
    assert columns <= 2 / torch.finfo(scores.dtype).eps, "more columns than this floating-point type counts exactly"
    below = scores.lt_(target_scores).sum(1).long()
    return (columns - below).clamp_(max=columns - 1)


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
    if device.type == "cpu" and not model.item_encoder.sees_content:
        keep_freed_memory()  # a tenth of the time is clearing pages otherwise
    catalogue = encode_catalogue(model, content, split.num_items, device, process)
    users = split.target_users(part)[process.rank :: process.world_size]
    targets = torch.from_numpy(split.targets(part)[process.rank :: process.world_size].astype(np.int64)).to(device)
    ranks = ranks_of(model, catalogue, users, targets, lambda rows: known_before(split, part, rows), on_progress)
    return gather_interleaved(ranks, len(split.targets(part)), process).numpy()


@torch.inference_mode()
def ranks_of(
    model: Recommender,
    catalogue: Tensor,
    users: Int64,
    targets: Tensor,
    histories_of: Callable[[Int64], Callable[[slice], tuple[Int32, Int32]]],
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The rank of each target (U,) among all items that its user has not seen: (U,) from 1, int64.

    On a CPU, users whose targets are near each other are ranked together, if scores are dot products; see
    :func:`microlens.evaluation.block_ranking.ranks_in_blocks`.

    Args:
        model: the recommender, in eval mode.
        catalogue: (C, D) item vectors, padding first; see :func:`encode_catalogue`.
        users: (U,) user numbers.
        targets: (U,) item numbers.
        histories_of: gives for users in any order what :func:`score_users` takes as ``histories``.
        on_progress: called with (users done, users).

    Raises:
        InputError: the state of a user or a score is NaN or infinite.
    """
    # One array from the start: small results kept between rows of scores would scatter over the heap and hold it open.
    ranks = torch.empty(len(users), dtype=torch.int64)
    if model.dot_product and catalogue.device.type == "cpu":
        order = targets.argsort(stable=True)  # users with near targets come together, see ranks_in_blocks
        users, targets = users[order.numpy()], targets[order]
        for chunk in states_of_users(model, catalogue, users, histories_of(users), on_progress):
            if cannot_overflow(chunk.states, catalogue):
                found = ranks_in_blocks(chunk.states, catalogue, targets[chunk.rows], chunk.seen)
            else:
                scored = chunk.scored(model, catalogue, users, slice(0, len(chunk.states)))
                found = rank_of_target(scored.scores, targets[chunk.rows], chunk.seen)
            ranks[order[chunk.rows]] = found
    else:
        for scored in score_users(model, catalogue, users, histories_of(users), on_progress):
            ranks[scored.rows] = rank_of_target(scored.scores, targets[scored.rows], scored.seen)
    return ranks


def known_before(split: Split, part: Part, users: Int64) -> Callable[[slice], tuple[Int32, Int32]]:
    """The histories of ``users`` (U,) before their targets of ``part``, as :func:`score_users` takes them."""
    return lambda rows: (split.inputs(part, users[rows]), split.history(part, users[rows]))
