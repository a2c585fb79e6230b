"""Recommenders built for tests, and what they make of items and histories."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.data.split import Split
from microlens.encoders.id import IdEncoder
from microlens.recommenders import RECOMMENDER_REGISTRY
from microlens.recommenders.base import Recommender
from microlens.testing import worlds
from microlens.testing.worlds import D, N


def build_recommender(model_table: Mapping[str, Any], split: Split, seed: int = 1) -> Recommender:
    """Build a recommender from the table ``[model]``, with an id encoder if it takes one; not fitted."""
    torch.manual_seed(seed)
    options = dict(model_table)
    constructor = RECOMMENDER_REGISTRY.find(options.pop("name"), "model.name")
    dim = options.pop("dim", D)
    encoder = IdEncoder(num_items=split.num_items, dim=dim)
    return build(constructor, options, {**worlds.constructor_arguments(split, dim), "item_encoder": encoder}, "model")


def ready_recommender(model_table: Mapping[str, Any], split: Split, seed: int = 1) -> Recommender:
    """Like :func:`build_recommender`, fitted if ``fits_at_once``, and in eval mode."""
    model = build_recommender(model_table, split, seed)
    if model.fits_at_once:
        model.fit(split)
    return model.eval()


def encode(model: Recommender, history: Tensor, users: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the catalogue (N+1, D), zero at padding, and the states (B, L, S) of ``users`` (B,), or of the first B."""
    users = torch.arange(len(history)) if users is None else users
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, N + 1)))
    catalogue = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
    return catalogue, model.encode_users(users, history, catalogue[history])


def all_scores(model: Recommender, history: Tensor) -> Tensor:
    """Score all items for each row of ``history`` (B, L): (B, N+1)."""
    catalogue, _ = encode(model, history)
    states = model.last_states(torch.arange(len(history)), history, catalogue[history])
    return model.score(states, catalogue)
