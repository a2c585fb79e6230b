"""The conditional logit against planted weights and an optimiser of another library."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from microlens.recommenders.conditional_logit import fit_conditional_logit

Floats = npt.NDArray[np.float64]
W, V, B = np.array([0.8, -0.5]), np.array([0.6, 1.0]), -1.2


def planted(choices: int, alternatives: int, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Choices of people whose utility is known; the chosen alternative is moved to the front."""
    features = rng.normal(size=(choices, alternatives, 2))
    is_new = rng.random((choices, alternatives)) < 0.3
    utility = features @ W + is_new * (features @ V + B) + rng.gumbel(size=(choices, alternatives))
    order = np.argsort(utility != utility.max(1, keepdims=True), axis=1, kind="stable")
    return np.take_along_axis(features, order[:, :, None], 1), np.take_along_axis(is_new, order, 1)


def loss_loop(
    parameters: Floats, features: Floats, is_new: npt.NDArray[np.bool_], possible: npt.NDArray[np.bool_]
) -> float:
    total = 0.0
    for choice in range(len(features)):
        powers = []
        for item in range(features.shape[1]):
            utility = features[choice, item] @ parameters[:2]
            if is_new[choice, item]:
                utility += features[choice, item] @ parameters[2:4] + parameters[4]
            powers.append(np.exp(utility) * possible[choice, item])
        total -= np.log(powers[0] / sum(powers))
    for parameter, mean, deviation in zip(parameters, (1, 1, 0, 0, 0), (1, 1, 1, 1, 10), strict=True):
        total += ((parameter - mean) / deviation) ** 2 / 2
    return total / len(features)


def test_the_optimum_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    features, is_new = planted(60, 5, rng)
    possible = rng.random(is_new.shape) < 0.9
    possible[:, 0] = True
    expected = minimize(loss_loop, np.zeros(5), args=(features, is_new, possible), method="BFGS").x
    w, v, b = fit_conditional_logit(*map(torch.from_numpy, (features, is_new, possible)))
    np.testing.assert_allclose([*w.tolist(), *v.tolist(), b], expected, atol=2e-3)


def test_planted_weights_are_found() -> None:
    features, is_new = planted(20_000, 8, np.random.default_rng(1))
    w, v, b = fit_conditional_logit(
        torch.from_numpy(features), torch.from_numpy(is_new), torch.ones(is_new.shape).bool()
    )
    np.testing.assert_allclose([*w.tolist(), *v.tolist(), b], [*W, *V, B], atol=0.06)


def test_a_few_choices_that_are_alike_give_no_boundless_weights() -> None:
    """The chosen alternative always has the largest features, and is always new: any larger weights fit better."""
    features = np.zeros((3, 6, 2))
    features[:, 0] = 1.0
    is_new = np.zeros((3, 6), np.bool_)
    is_new[:, 0] = True
    w, v, b = fit_conditional_logit(
        torch.from_numpy(features), torch.from_numpy(is_new), torch.ones(is_new.shape).bool()
    )
    assert 1 < w.max() < 2
    assert 0 < v.max() < 1
    assert 0 < b < 20


def test_without_chosen_new_alternatives_their_terms_stay_zero() -> None:
    features, is_new = planted(50, 6, np.random.default_rng(2))
    is_new[:, 0] = False
    w, v, b = fit_conditional_logit(
        torch.from_numpy(features), torch.from_numpy(is_new), torch.ones(is_new.shape).bool()
    )
    assert w.abs().min() > 0.1
    assert (v.tolist(), b) == ([0.0, 0.0], 0.0)
