"""Ranks and metrics, user by user, with a sort."""

import math
import random


def rank_loop(scores: list[float], target: int, seen: list[int]) -> int:
    """Process of the target (from 1) in the sorted list of candidates, ties and NaN before it; scores[0] is padding."""
    others = [scores[item] for item in range(1, len(scores)) if item != target and item not in seen]
    own = scores[target]

    def goes_before(score: float) -> bool:
        return math.isnan(score) or math.isnan(own) or score >= own

    if own == -math.inf or math.isnan(own):
        return len(scores) - 1  # nothing can be shown to be worse: last of all items
    better = sorted((score for score in others if goes_before(score)), key=lambda score: (math.isnan(score), score))
    return len(better) + 1


def hit_rate_loop(ranks: list[int], cutoff: int) -> float:
    """Share of ranks within the cutoff."""
    return sum(1 for rank in ranks if rank <= cutoff) / len(ranks)


def ndcg_loop(ranks: list[int], cutoff: int) -> float:
    """Discounted gain of a single relevant item; the ideal is 1."""
    return sum(1 / math.log2(1 + rank) for rank in ranks if rank <= cutoff) / len(ranks)


def bootstrap_loop(ranks: list[int], cutoff: int, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the hit rate, resampling users one by one."""
    draw = random.Random(seed)
    values = sorted(hit_rate_loop(draw.choices(ranks, k=len(ranks)), cutoff) for _ in range(resamples))
    return values[int(0.025 * resamples)], values[int(0.975 * resamples)]


def several_loop(name: str, ranks: list[int], cutoff: int) -> float:
    """What a user with several targets, at these ranks, adds to a metric; one place of the list after another."""
    found = [rank for rank in range(1, cutoff + 1) if rank in ranks]
    if name == "HR":
        return float(bool(found))
    if name == "Recall":
        return len(found) / len(ranks)
    if name == "MRR":
        return 1 / found[0] if found else 0.0
    if name == "MAP":
        return sum((hits + 1) / rank for hits, rank in enumerate(found)) / len(ranks)
    assert name == "NDCG"
    ideal = range(1, min(len(ranks), cutoff) + 1)
    return sum(1 / math.log2(1 + rank) for rank in found) / sum(1 / math.log2(1 + rank) for rank in ideal)
