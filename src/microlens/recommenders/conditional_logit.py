"""The conditional logit model (McFadden 1974), fitted on sampled alternatives with a weak prior."""

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 100
OFFSET_DEVIATION = 10.0


def fit_conditional_logit(features: Tensor, is_new: Tensor, possible: Tensor) -> tuple[Tensor, Tensor, float]:
    """Estimate the weights of highest posterior probability, given the first alternative of each choice.

    Alternative c of choice q has the utility

        z(q, c) = w . f(q, c) + new(q, c) (v . f(q, c) + b)

    and is chosen with probability exp z / sum of exp z over the alternatives of q. Alternatives drawn uniformly give
    the same estimates as all of them, with more variance (McFadden 1978). The prior is normal: w with mean 1 and v
    with mean 0, both with standard deviation 1, b with mean 0 and standard deviation 10. It is negligible for thousands
    of choices, and keeps the weights finite if a few choices are all alike.

    Letters: Q choices, C alternatives, K features.

    Args:
        features: (Q, C, K); alternative 0 is the chosen one.
        is_new: (Q, C) true for alternatives with the additional terms.
        possible: (Q, C) false for alternatives that are none.

    Returns:
        w (K,), v (K,) and b, on the CPU, zero for v and b if no chosen alternative is new.
    """
    features, is_new, possible = features.cpu().double(), is_new.cpu(), possible.cpu()  # a few numbers are fitted
    weights = torch.ones(features.shape[2], dtype=torch.float64, requires_grad=True)
    extra = torch.zeros(features.shape[2] + 1, dtype=torch.float64, requires_grad=True)  # v and b
    searched = [weights, extra] if is_new[:, 0].any() else [weights]
    optimizer = torch.optim.LBFGS(searched, max_iter=STEPS, line_search_fn="strong_wolfe")
    chosen = torch.zeros(len(features), dtype=torch.long)
    deviations = torch.ones(len(extra), dtype=torch.float64)
    deviations[-1] = OFFSET_DEVIATION

    def negative_log_posterior() -> Tensor:
        optimizer.zero_grad()
        utility = features @ weights + is_new * (features @ extra[:-1] + extra[-1])
        utility = utility.masked_fill(~possible, -torch.inf)
        log_likelihood = -functional.cross_entropy(utility, chosen, reduction="sum")
        squares = (weights - 1).square().sum() + (extra / deviations).square().sum()
        loss = (squares / 2 - log_likelihood) / len(features)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(negative_log_posterior)  # type: ignore[no-untyped-call]
    found = extra.detach()
    return weights.detach().float(), found[:-1].float(), float(found[-1])
