"""Matrix factorization by pairwise ranking, BPR-MF (Rendle et al. 2009, arXiv 1205.2618)."""

import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.split import Split
from microlens.recommenders.counting import user_items
from microlens.recommenders.fitted import Fitted, check_user_numbers
from microlens.recommenders.implicit_library import finite_factors, implicit_module, library_seed, library_threads


class BPRMF(Fitted):
    """BPR matrix factorization (Rendle et al. 2009) of the library implicit, with item biases; for training users only.

    The defaults are those of the library.

    Args:
        dim: D, the number of factors.
        iterations: passes over the training set, at least 1.
        learning_rate: step size, above 0.
        regularization: L2 penalty, at least 0.
    """

    revision = 2  # other defaults than in 0.2.0
    known_users_only = True
    sizes = {"user_factors": ("users",), "item_factors": ("items",)}  # noqa: RUF012
    user_factors: Tensor
    item_factors: Tensor

    def __init__(
        self, *, dim: int, iterations: int = 100, learning_rate: float = 0.01, regularization: float = 0.01
    ) -> None:
        super().__init__()
        if iterations < 1 or learning_rate <= 0 or regularization < 0:
            raise ValueError(
                f"iterations = {iterations}, learning_rate = {learning_rate:g}, regularization = {regularization:g}: "
                "iterations must be at least 1, learning_rate above 0 and regularization at least 0"
            )
        self.library = implicit_module("cpu.bpr", "bpr_mf")
        self.dim, self.iterations = dim, iterations
        self.learning_rate, self.regularization = learning_rate, regularization
        self.register_buffer("user_factors", torch.zeros(0, dim + 1))
        self.register_buffer("item_factors", torch.zeros(0, dim + 1))

    def fit(self, split: Split) -> None:
        """Fit on a single thread: several threads update shared factors in no fixed order, so results would vary.

        Raises:
            InputError: there are more users than float32 tells apart, or the factors became NaN.
        """
        check_user_numbers(split, "bpr_mf")
        with library_threads(), finite_factors("bpr_mf", "learning_rate or regularization"):
            model = self.library.BayesianPersonalizedRanking(
                factors=self.dim,
                iterations=self.iterations,
                learning_rate=self.learning_rate,
                regularization=self.regularization,
                num_threads=1,
                random_state=library_seed(),
            )
            model.fit(user_items(split), show_progress=False)
        device = self.item_factors.device
        self.user_factors = torch.from_numpy(model.user_factors).to(device)
        self.item_factors = functional.pad(torch.from_numpy(model.item_factors), (0, 0, 1, 0)).to(device)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """User numbers as states: (B, 1)."""
        return users[:, None].float()

    def scores(self, states: Tensor) -> Tensor:
        """Dot products of user and item factors: (Q, N+1)."""
        return self.user_factors[states[:, 0]] @ self.item_factors.T
