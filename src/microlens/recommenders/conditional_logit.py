"""The conditional logit model (McFadden 1974), fitted on sampled alternatives."""

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 100


def fit_conditional_logit(features: Tensor, is_new: Tensor, possible: Tensor) -> tuple[Tensor, Tensor, float]:
    """Maximise the likelihood of the first alternative of each choice.

    Alternative c of choice q has the utility

        z(q, c) = w . f(q, c) + new(q, c) (v . f(q, c) + b)

    and is chosen with probability exp z / sum of exp z over the alternatives of q. Alternatives drawn uniformly give
    the same estimates as all of them, with more variance (McFadden 1978).

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

    def negative_likelihood() -> Tensor:
        optimizer.zero_grad()
        utility = features @ weights + is_new * (features @ extra[:-1] + extra[-1])
        loss = functional.cross_entropy(utility.masked_fill(~possible, -torch.inf), chosen)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(negative_likelihood)  # type: ignore[no-untyped-call]
    found = extra.detach()
    return weights.detach().float(), found[:-1].float(), float(found[-1])
