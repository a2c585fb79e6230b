"""FEASE: EASE with features of the items, in closed form (Jeunen et al. 2020; Cui et al. 2025, arXiv 2504.02288)."""

import numpy as np
import torch
from torch.nn import functional

from microlens.data.interactions import ItemIds
from microlens.data.split import Split
from microlens.environment import available_memory
from microlens.recommenders.ease import MATRICES, ItemWeights, check_memory
from microlens.recommenders.modalities import load_modalities
from microlens.recommenders.ridge import Matrix, add_features, add_gram, invert, scale_columns, scale_columns_with_prior


class FEASE(ItemWeights):
    """EASE that also predicts the items' features, and whose weights are drawn to the items' similarities.

    With X the interactions, T the items' features, of unit length, as columns, R = T' T their cosines, and a zero
    diagonal of B, the weights B minimize

        |X - X B|^2 + features_weight |T - T B|^2 + regularization |B|^2 + prior_weight |B - R|^2

    The second term alone is the collective EASE of Jeunen et al. ("Closed-form models for collaborative filtering with
    side-information"), and the stacked features of FEASE-U without features of users; the last one alone is
    FEASE-I-Prior (Cui et al.). With P the inverse of X'X + features_weight R + (regularization + prior_weight) I,

        B = I - P diag(g) + prior_weight P R,    g such that the diagonal of B is 0

    Both papers read tags or TF-IDF vectors; any feature files will do. Items without interactions have weights, too,
    which come from the features alone.

    Args:
        item_ids: (N+1,) the id of each item number.
        features: ``.npy`` file, see :func:`microlens.data.feature_matrix.load_features`, or one per modality, whose
            cosines are averaged.
        regularization: lambda, above 0.
        features_weight: at least 0.
        prior_weight: delta, at least 0.
        decay: weight of an item of the history relative to the next more recent one, in (0, 1]; not in the papers.
    """

    def __init__(
        self,
        *,
        item_ids: ItemIds,
        features: str | list[str],
        regularization: float = 250.0,
        features_weight: float = 100.0,
        prior_weight: float = 100.0,
        decay: float = 1.0,
    ) -> None:
        super().__init__(decay)
        if regularization <= 0 or features_weight < 0 or prior_weight < 0 or not 0 < decay <= 1:
            raise ValueError(
                f"regularization = {regularization:g}, features_weight = {features_weight:g}, prior_weight = "
                f"{prior_weight:g}, decay = {decay:g}: regularization must be above 0, the weights at least 0, and "
                "decay above 0 and at most 1"
            )
        self.regularization = regularization
        self.features_weight, self.prior_weight = features_weight, prior_weight
        matrices = load_modalities(features, item_ids)
        unit = [functional.normalize(matrix, dim=1) / len(matrices) ** 0.5 for matrix in matrices]
        self.features: Matrix = torch.cat(unit, 1).numpy()  # (N, F), whose products are cosines

    def fit(self, split: Split) -> None:
        """Compute the weights, (N+1, N+1).

        Raises:
            InputError: the matrix does not fit in memory.
        """
        size = split.num_items + 1
        check_memory(MATRICES * 4 * size**2, available_memory(), split.num_items, "fease")
        features = np.concatenate([np.zeros((1, self.features.shape[1]), np.float32), self.features])  # (N+1, F)
        matrix = np.zeros((size, size), np.float32)
        matrix[np.arange(size), np.arange(size)] = self.regularization + self.prior_weight
        add_gram(matrix, split)
        add_features(matrix, features, self.features_weight)
        invert(matrix)
        if self.prior_weight:
            scale_columns_with_prior(matrix, features, self.prior_weight)
        else:
            scale_columns(matrix)
        self.weights = torch.from_numpy(matrix).to(self.weights.device)
