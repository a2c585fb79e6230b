"""The conditional logit model (McFadden 1974), fitted on sampled alternatives with a weak prior."""

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 100
OFFSET_DEVIATION = 10.0


def fit_conditional_logit(features: Tensor, is_new: Tensor, possible: Tensor) -> tuple[Tensor, Tensor, float]:
    """Find the most probable weights, given the first alternative of each choice.

    Alternative c of choice q has the utility

        z(q, c) = w . f(q, c) + new(q, c) (v . f(q, c) + b)

    and is chosen with probability exp z / sum of exp z over the alternatives of q. Alternatives drawn uniformly give
    the same estimates as all of them, with more variance (McFadden 1978). The weights are normal beforehand: w around 1
    and v around 0 with deviation 1, b around 0 with deviation 10. That moves nothing where there are thousands of
    choices, and keeps weights finite where a few choices are all alike.

    Letters: Q choices, C alternatives, K features.

    Args:
        features: (Q, C, K); alternative 0 is the chosen one.
        is_new: (Q, C) true for alternatives with the additional terms.
        possible: (Q, C) false for alternatives that are none.

    Returns:
        w (K,), v (K,) and b, zero for v and b if no chosen alternative is new.
    """
    features = features.double()
    weights = torch.ones(features.shape[2], dtype=torch.float64, requires_grad=True)
    extra = torch.zeros(features.shape[2] + 1, dtype=torch.float64, requires_grad=True)  # v and b
    searched = [weights, extra] if is_new[:, 0].any() else [weights]
    optimizer = torch.optim.LBFGS(searched, max_iter=STEPS, line_search_fn="strong_wolfe")
    chosen = torch.zeros(len(features), dtype=torch.long)
    deviations = torch.ones_like(extra, requires_grad=False)
    deviations[-1] = OFFSET_DEVIATION

    def surprise() -> Tensor:
        optimizer.zero_grad()
        utility = features @ weights + is_new * (features @ extra[:-1] + extra[-1])
        likelihood = functional.cross_entropy(utility.masked_fill(~possible, -torch.inf), chosen, reduction="sum")
        prior = (weights - 1).square().sum() + (extra / deviations).square().sum()
        loss = (likelihood + prior / 2) / len(features)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(surprise)  # type: ignore[no-untyped-call]
    found = extra.detach()
    return weights.detach().float(), found[:-1].float(), float(found[-1])
