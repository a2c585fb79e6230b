"""Frozen item features as modalities of graph models."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.data.feature_matrix import load_features
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder


class ProjectedFeatures(nn.Module):
    """A linear projection of frozen item features.

    Args:
        features: (N, F).
        dim: D.
    """

    features: Tensor

    def __init__(self, features: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.projection = nn.Linear(features.shape[1], dim)
        init.xavier_normal_(self.projection.weight)
        init.zeros_(self.projection.bias)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """The projected features of ``items`` (M,), from 0, or of all: (M, D) or (N, D)."""
        projected: Tensor = self.projection(self.features if items is None else self.features[items])
        return projected


class Modality(ProjectedFeatures):
    """One modality of all nodes: the projected frozen features of items and a learned vector per user.

    Args:
        features: (N, F).
        dim: D.
        num_users: U.
    """

    def __init__(self, features: Tensor, dim: int, num_users: int) -> None:
        super().__init__(features, dim)
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))


def load_modalities(features: str | list[str], item_ids: ItemIds) -> list[Tensor]:
    """The features of items 1 to N of each path in ``features``: (N, F) each.

    Raises:
        ValueError: there is no path.
        InputError: see :func:`microlens.data.feature_matrix.load_features`.
    """
    paths = [features] if isinstance(features, str) else features
    if not paths:
        raise ValueError("features = []: at least one file is needed")
    return [torch.from_numpy(load_features(path, item_ids[1:])) for path in paths]


def modalities_of(features: str | list[str] | None, item_ids: ItemIds, dim: int, num_users: int) -> list[Modality]:
    """One :class:`Modality` a path in ``features``; none for None."""
    if features is None or features == []:
        return []
    return [Modality(matrix, dim, num_users) for matrix in load_modalities(features, item_ids)]


def mean_square(vectors: Tensor) -> Tensor:
    """The mean of the squared elements, 0 if there are none."""
    return vectors.square().sum() / max(1, vectors.numel())


def id_vectors(user_table: Tensor, item_encoder: ItemEncoder, num_items: int) -> Tensor:
    """The id vectors of all nodes before propagation, users (U, D) first: (U + N, D)."""
    items = torch.arange(1, num_items + 1, device=user_table.device)
    return torch.cat([user_table, item_encoder(ItemBatch(items=items))])
