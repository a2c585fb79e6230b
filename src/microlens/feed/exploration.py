"""Thompson sampling of the watched share."""

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from microlens.data.interactions import Int32

Floats = npt.NDArray[np.float64]
_GRID = 65  # values of the watched share at which the distribution functions are evaluated


def thompson(watched: Floats, ends: Int32) -> Floats:
    """The probability of each item to have the highest draw from its posterior: (K,).

    The posterior of the watched share is Beta(1 + w, 1 + n - w) after n exposures whose watched shares sum to w. The
    probability of item k is the integral of the density of k times the product of the distribution functions of the
    others, by the midpoint rule on a grid; items are drawn from the result itself, so that it is the exact propensity.

    Args:
        watched: (K,) sum of watched shares.
        ends: (K,) number of exposures.

    Source: Thompson, On the likelihood that one unknown probability exceeds another (Biometrika 1933).
    """
    grid = np.linspace(0.0, 1.0, _GRID)
    below = betainc(1.0 + watched[:, None], 1.0 + ends[:, None] - watched[:, None], grid)  # (K, G)
    mass, middle = np.diff(below, axis=1), np.clip((below[:, 1:] + below[:, :-1]) / 2, 1e-300, None)
    logs = np.log(middle)
    best = (mass * np.exp(logs.sum(0) - logs)).sum(1)
    probabilities: Floats = best / best.sum()
    return probabilities
