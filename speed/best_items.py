"""How fast the best items of a catalogue are found for a state, printed as JSON.

    python speed/best_items.py [--smoke] [--items 20000 100000 1000000] [--dim 64]

The best 256 by the scores of all items, and by vectors rounded to 8 bits, which tell the few whose scores are computed,
as the feed does it: both are exact. Beside them an approximate index, the graph of usearch, at several widths of its
search, with the share of the exact 256 that it finds. Vectors are normal, as those of new weights, or lie in groups
around 200 centres of 16 directions, as trained ones do.

It needs usearch for the peer: pip install usearch.
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from measure import Line, print_result
from torch import Tensor

from microlens.feed.rounded_vectors import RoundedVectors

BEST, STATES, WIDTHS = 256, 40, (256, 512, 1024, 2048)
AT_ONCE = 50_000
NOTHING = np.zeros(0, np.int64)


def normal(items: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vectors and states without structure."""
    return torch.randn(items, dim, generator=generator), torch.randn(STATES, dim, generator=generator)


def grouped(items: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vectors around 200 centres of 16 directions, and states near some of them."""
    centres, directions = torch.randn(200, 16, generator=generator), torch.randn(16, dim, generator=generator)
    places = centres[torch.randint(200, (items,), generator=generator)]
    places += 0.6 * torch.randn(items, 16, generator=generator)
    vectors = places @ directions + 0.3 * torch.randn(items, dim, generator=generator)
    chosen = torch.randint(items, (STATES,), generator=generator)
    return vectors, vectors[chosen] + 0.5 * torch.randn(STATES, dim, generator=generator)


def median_milliseconds(find: Callable[[Tensor], Any], states: Tensor) -> float:
    """The processor time of one search."""
    find(states[:1])
    times = []
    for state in states[:, None]:
        begin = time.thread_time()
        find(state)
        times.append(1000 * (time.thread_time() - begin))
    return round(float(np.median(times)), 2)


@torch.inference_mode()
def measure(vectors: Tensor, states: Tensor) -> dict[str, Any]:
    """Milliseconds of all ways, and what the approximate one finds."""
    begin = time.thread_time()
    rounded = RoundedVectors.of(vectors, np.arange(len(vectors)))
    rounding = time.thread_time() - begin
    sizes: list[int] = []

    def all_scores(state: Tensor) -> set[int]:
        return set((state @ vectors.T)[0].topk(BEST).indices.tolist())

    def by_rounded(state: Tensor) -> set[int]:
        candidates = torch.from_numpy(rounded.candidates(state, BEST, NOTHING))
        sizes.append(len(candidates))
        return set(candidates[(state @ vectors[candidates].T)[0].topk(BEST).indices].tolist())

    exact = [all_scores(state) for state in states[:, None]]
    assert exact == [by_rounded(state) for state in states[:, None]]
    return {
        "all scores, ms": median_milliseconds(all_scores, states),
        "rounded vectors, ms": median_milliseconds(by_rounded, states),
        "rounding, s": round(rounding, 2),
        "candidates": int(np.median(sizes)),
        "usearch": by_usearch(vectors, states, exact) if find_spec("usearch") else "absent",
    }


def by_usearch(vectors: Tensor, states: Tensor, exact: list[set[int]]) -> dict[str, Any]:
    """What an index costs, and for each width of its search the milliseconds and the share of the best it finds."""
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f16")
    begin = time.process_time()
    for start in range(0, len(vectors), AT_ONCE):
        part = vectors[start : start + AT_ONCE].numpy()
        index.add(np.arange(start, start + len(part)), part, threads=1)
    figures: dict[str, Any] = {"building, s": round(time.process_time() - begin, 1)}
    figures["megabytes"] = round(index.memory_usage / 1e6)

    def search(state: Tensor) -> set[int]:
        return set(index.search(state[0].numpy(), BEST, threads=1).keys.tolist())

    for width in WIDTHS:
        index.expansion_search = width
        found = [len(search(state) & best) / BEST for state, best in zip(states[:, None], exact, strict=True)]
        ms = median_milliseconds(search, states)
        figures[f"width {width}"] = {"ms": ms, "found": round(float(np.mean(found)), 3)}
    return figures


def main() -> None:
    """Measure all sizes and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few items")
    parser.add_argument("--items", type=int, nargs="+", default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    if options.smoke:
        options.items = [20_000]
    torch.set_num_threads(1)
    figures = {
        f"{items:,} {make.__name__}": measure(*make(items, options.dim, torch.Generator().manual_seed(0)))
        for items in options.items
        for make in (normal, grouped)
    }
    largest = figures[f"{max(options.items):,} normal"]
    ratio = largest["all scores, ms"] / largest["rounded vectors, ms"]
    what = f"all scores / rounded vectors, {max(options.items):,} items"
    lines = [Line(what=what, measured=round(ratio, 2), unit="x", bound="at least", reach=1.5)]
    print_result("best_items", options, [1], figures, lines)


if __name__ == "__main__":
    main()
