"""Recommendations of a trained run: for a user, for a history, and with a video nobody has seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.data.interactions import Int64
from microlens.encoders.finite import all_finite
from microlens.errors import InputError
from microlens.evaluation.ranking import TRAIN_AGAIN, encode_catalogue, finite_scores, user_states
from microlens.media.reading import MediaFault, read_clip
from microlens.media.store import pack_images, unpack_images
from microlens.runs.assembly import Experiment, open_experiment


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One place of a list: rank from 1, item id (None for an added video), title, and the model's score."""

    rank: int
    item_id: int | None
    title: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Recommendations:
    """The items read, the first k recommended, and the place of the added video among all, if there is one."""

    history: list[tuple[int, str]]
    items: list[Recommendation]
    added: Recommendation | None
    num_candidates: int


class Ranker:
    """Ranks a trained run's catalogue for histories; encodes the catalogue once."""

    def __init__(self, run: Experiment) -> None:
        self.run = run
        self.item_ids = np.asarray(run.item_ids())
        self.catalogue = encode_catalogue(run.model, run.content, run.split.num_items, run.device)
        titles = run.dataset.items.select(pl.col("title").fill_null(""))["title"].to_list()
        self.titles = ["", *(titles[number - 1] for number in run.split.items_kept[1:])]

    def user_number(self, user: int) -> int:
        """The number of a user id.

        Raises:
            InputError: the user is unknown, or the protocol dropped them.
        """
        split = self.run.split
        user_ids = self.run.dataset.interactions.user_ids[split.users_kept]
        position = int(np.searchsorted(user_ids, user))
        if position == len(user_ids) or user_ids[position] != user:
            raise InputError(
                f"user {user} is not among the {len(user_ids):,} users with at least {split.protocol.min_length} items."
            )
        return position

    def user_history(self, user: int) -> Int64:
        """All items of a user id within the protocol's cut, oldest first, as item numbers; raises as user_number."""
        split, position = self.run.split, self.user_number(user)
        interactions, number = self.run.dataset.interactions, split.users_kept[position]
        in_order = interactions.items[interactions.offsets[number] : interactions.offsets[number + 1]]
        kept = split.items_kept[split.sequences[split.offsets[position] : split.offsets[position + 1]]]
        return np.searchsorted(split.items_kept, in_order[np.isin(in_order, kept)])

    def numbers(self, item_ids: list[int]) -> Int64:
        """Item numbers of ids.

        Raises:
            InputError: an id is unknown.
        """
        positions = np.searchsorted(self.item_ids[1:], item_ids) + 1
        for item_id, position in zip(item_ids, positions, strict=True):
            if position >= len(self.item_ids) or self.item_ids[position] != item_id:
                raise InputError(f"item {item_id} is not among the {len(self.item_ids) - 1:,} items of this run.")
        return positions

    @torch.inference_mode()
    def scores(self, history: Int64, added: Tensor | None = None, user: int | None = None) -> Tensor:
        """The score of every item after ``history`` (H,), those of history minus infinity: (N+1,), or (N+2,).

        ``added`` (1, D) is the vector of one more item, scored last; ``user`` the number of whose history it is.

        Raises:
            InputError: the model knows users by number, and there is none; or a vector or a score is NaN or infinite.
        """
        model = self.run.model
        if user is None and model.known_users_only:
            name = self.run.config.model.name
            raise InputError(f"--history needs a model that reads histories, which {name} does not; use --user ID.")
        L = self.run.split.history_length
        padded = np.zeros((1, L), np.int64)
        padded[0, L - len(history[-L:]) :] = history[-L:]
        device = self.run.device
        states = user_states(
            model,
            self.catalogue,
            torch.tensor([user or 0], device=device),
            torch.from_numpy(padded).to(device),
        )
        items = self.catalogue if added is None else torch.cat([self.catalogue, added])
        scores = finite_scores(model, states, items, np.array([user or 0]))[0]
        scores[torch.from_numpy(np.append(history, 0)).to(device)] = -torch.inf
        return scores

    def encode_video(self, path: Path) -> Tensor:
        """The vector of a video file as the run's encoder sees it, (1, D).

        Raises:
            InputError: the encoder does not live on videos alone, or the file cannot be decoded.
        """
        encoder = self.run.model.item_encoder
        if encoder.needs != {"clips"} or encoder.known_items_only:
            raise InputError("--add-video needs a run whose encoder sees videos and nothing else, such as x3d_xs.")
        try:
            clip = read_clip(path, self.run.dataset.settings.clips)
        except MediaFault as fault:
            raise InputError(f"{path} cannot be used: {fault}.") from None
        stored = unpack_images(pack_images(clip.frames))  # as the clips of the dataset lie on disk
        batch = ItemBatch(items=torch.zeros(1, dtype=torch.long), content={"clips": torch.from_numpy(stored[None])})
        with torch.inference_mode():
            vector = self.run.model.encode_items(batch.to(self.run.device)).float()
        if not all_finite(vector):
            raise InputError(f"what the run's encoder makes of {path} is NaN or infinite; {TRAIN_AGAIN}")
        return vector


def recommend(
    folder: Path,
    *,
    user: int | None = None,
    history: str | None = None,
    add_video: Path | None = None,
    k: int = 10,
    dataset: Path | None = None,
) -> Recommendations:
    """The first ``k`` items of a trained run for a user id, or for item ids such as ``"1,2,3"``, oldest first.

    Args:
        folder: the run folder.
        user: whom to recommend to, or
        history: after which items.
        add_video: a video to rank among the items.
        k: how many items.
        dataset: where the run's dataset lies now, see :func:`microlens.runs.assembly.open_experiment`.

    Raises:
        InputError: not exactly one of ``user`` and ``history`` is given, or one of them is unknown.
    """
    if (user is None) == (history is None):
        raise InputError("say for whom: either --user ID or --history 1,2,3.")
    ranker = Ranker(open_experiment(folder, dataset))
    items = ranker.user_history(user) if user is not None else ranker.numbers(_ids(history or ""))
    added = ranker.encode_video(add_video) if add_video else None
    scores = ranker.scores(items, added, None if user is None else ranker.user_number(user))
    by_score = torch.argsort(scores, descending=True, stable=True)
    order: list[int] = by_score[scores[by_score] > -torch.inf].tolist()
    ids = ranker.item_ids

    def entry(rank: int, number: int) -> Recommendation:
        known = number < len(ids)
        title = ranker.titles[number] if known else str(add_video)
        return Recommendation(
            rank=rank, item_id=int(ids[number]) if known else None, title=title, score=float(scores[number])
        )

    position = order.index(len(ids)) if add_video else None
    return Recommendations(
        history=[(int(ids[item]), ranker.titles[item]) for item in items],
        items=[entry(rank, number) for rank, number in enumerate(order[:k], 1)],
        added=None if position is None else entry(position + 1, len(ids)),
        num_candidates=len(order),
    )


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--history {text}: expected item ids separated by commas, such as 1,2,3.") from None
