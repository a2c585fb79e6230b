"""Encoding of items outside the dataset with the model of a run, or saying why that is impossible."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.data.content import KINDS
from microlens.data.new_items import WHAT_IS_READ, NewItem, read_new_content
from microlens.encoders.finite import all_finite
from microlens.errors import InputError
from microlens.evaluation.ranking import TRAIN_AGAIN
from microlens.runs.assembly import Experiment


class EncodedItem(NamedTuple):
    """An item outside the dataset, and what a model made of it, (1, E); see :func:`encode_new_item`."""

    item: NewItem
    encoded: Tensor


def read_of_new_items(run: Experiment) -> list[str]:
    """What the model of a run reads of items outside the dataset, such as title and video; empty if it ranks none."""
    reads = run.model.reads_of_new or frozenset()
    return [name for name in dict.fromkeys(WHAT_IS_READ.values()) if any(WHAT_IS_READ[kind] == name for kind in reads)]


@torch.inference_mode()
def encode_new_item(run: Experiment, item: NewItem) -> Tensor:
    """Encode an item outside the dataset as the run encodes those of the dataset: (1, E).

    E is D, or the size of what :meth:`microlens.recommenders.base.Recommender.with_new` needs in place of a vector.

    Raises:
        InputError: the run cannot rank such an item, something that it reads is missing, or a file cannot be decoded.
    """
    reads = run.model.reads_of_new
    if not reads:
        raise InputError(
            f"{_name(item)} cannot be ranked by this run: {_why_not(run)}; use a run that reads titles or videos, such "
            "as one with the encoder words or x3d_xs, or a fusion with text_knn."
        )
    lacking = item.lacks(reads - run.model.item_encoder.may_lack - {"tag"})
    if item.lacks(reads) == read_of_new_items(run):
        lacking = read_of_new_items(run)
    if lacking:
        raise InputError(
            f"{_name(item)} cannot be ranked by this run, which ranks new items by "
            f"{' and '.join(read_of_new_items(run))}: it has no {' and no '.join(lacking)}."
        )
    content = read_new_content(item, reads & frozenset(KINDS), run.dataset.settings)
    batch = ItemBatch(items=torch.zeros(1, dtype=torch.long), content=content, new=(item,))
    encoded = run.model.encode_new(batch.to(run.device)).float()
    if not all_finite(encoded):
        raise InputError(f"the vector of {_name(item)} is NaN or infinite; {TRAIN_AGAIN}")
    return encoded


def _name(item: NewItem) -> str:
    return str(item.video or item.cover or (f"'{item.title}'" if item.title.strip() else item.name))


def _why_not(run: Experiment) -> str:
    name, encoder = run.config.model.name, run.config.encoder
    if encoder is None:
        return f"'{name}' reads nothing of an item outside the dataset"
    for tower_name, tower in zip(_tower_names(encoder.model_dump()), run.model.item_encoder.towers(), strict=False):
        if tower.reads_of_new is None:
            return f"its encoder '{tower_name}' knows only the items of the dataset"
    if run.model.reads_of_new is None:
        return f"'{name}' knows only the items of the dataset"
    return f"its encoder '{encoder.name}' reads nothing of an item outside the dataset"


def _tower_names(table: Mapping[str, Any]) -> list[str]:
    """The names of the encoders in a table ``[encoder]``, in the order of ``ItemEncoder.towers``."""
    if not isinstance(table.get("towers"), list):
        return [str(table["name"])]
    return [name for tower in table["towers"] for name in _tower_names(tower)]
