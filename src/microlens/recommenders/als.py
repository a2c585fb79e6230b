"""Implicit-feedback matrix factorization (Hu, Koren and Volinsky 2008), by alternating least squares."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.split import Split
from microlens.recommenders.counting import user_items
from microlens.recommenders.fitted import Fitted
from microlens.recommenders.implicit_library import finite_factors, implicit_module, library_seed, library_threads


class ALS(Fitted):
    """ALS matrix factorization (Hu et al. 2008) of the library implicit; user factors are solved from the history.

    Args:
        dim: D, the number of factors.
        iterations: number of alternations, at least 1.
        regularization: L2 penalty, above 0.
        alpha: confidence of an interaction, at least 1 (an item without interaction has confidence 1).
    """

    sizes = {"factors": ("items",), "solved": ("items",)}  # noqa: RUF012
    factors: Tensor
    solved: Tensor

    def __init__(self, *, dim: int, iterations: int = 12, regularization: float = 0.05, alpha: float = 20.0) -> None:
        super().__init__()
        if iterations < 1 or regularization <= 0 or alpha < 1:
            raise ValueError(
                f"iterations = {iterations}, regularization = {regularization:g}, alpha = {alpha:g}: iterations and "
                "alpha must be at least 1, and regularization above 0"
            )
        self.library = implicit_module("cpu.als", "als")
        self.dim, self.iterations, self.regularization, self.alpha = dim, iterations, regularization, alpha
        self.register_buffer("factors", torch.zeros(0, dim))
        self.register_buffer("solved", torch.zeros(0, dim))

    def fit(self, split: Split) -> None:
        """Fit the item factors Y, (N, D); store Y and Y (Y'Y + regularization)^-1.

        Raises:
            InputError: the factors became NaN.
        """
        with library_threads() as threads, finite_factors("als", "alpha or regularization"):
            model = self.library.AlternatingLeastSquares(
                factors=self.dim,
                iterations=self.iterations,
                regularization=self.regularization,
                alpha=self.alpha,
                num_threads=threads,
                random_state=library_seed(),
            )
            model.fit(user_items(split), show_progress=False)
        factors = model.item_factors.astype(np.float64)
        gram = factors.T @ factors + self.regularization * np.eye(self.dim)
        device = self.factors.device
        self.factors, self.solved = (
            functional.pad(torch.from_numpy(values).float(), (0, 0, 1, 0)).to(device)
            for values in (factors, np.linalg.solve(gram, factors.T).T)
        )

    def scores(self, states: Tensor) -> Tensor:
        """Dot products of user and item factors: (Q, N+1).

        With Y_u (L, D) the factors of the history, the user factors x (D,) solve (Y'Y + r + (alpha - 1) Y_u'Y_u) x =
        alpha Y_u' 1. The push-through identity reduces this to a system of L equations instead of D.
        """
        history = states[:, (states > 0).any(0)]  # (Q, L), without columns that are padding for all users
        factors, solved = self.factors[history], self.solved[history]  # (Q, L, D), zero at padding
        system = torch.eye(history.shape[1], device=states.device) + (self.alpha - 1) * factors @ solved.mT  # (Q, L, L)
        shares = torch.linalg.solve(system, self.alpha * torch.ones_like(history).float())  # (Q, L)
        return torch.einsum("ql,qld->qd", shares, solved) @ self.factors.T
