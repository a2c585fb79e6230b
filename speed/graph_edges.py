"""Sums and products along the edges of a user-item graph, and their gradients, printed as JSON.

    python speed/graph_edges.py [--smoke] [--repeats 9]

A graph in the shape of MicroLens-100K, one thread, forward and backward: the weighted sum over the items
of each user, and the dot product of user and item at every edge, as graph models use them. Beside ours the plain
ways in PyTorch: `embedding_bag` with its own gradient, and vectors gathered for every edge. The norms of results and
gradients are compared in the run. Each way has a process of its own with the allocator of training; CPU milliseconds,
medians.
"""

import argparse
from collections.abc import Callable

import torch
from contestants import Turns, contestant, in_turns
from measure import MICROLENS_100K, SMOKE, Line, long_tailed_sequences, print_result
from torch import Tensor
from torch.nn import functional

from microlens.environment import keep_freed_memory
from microlens.recommenders.adjacency import edge_products, weighted_sums

DIMS = (64, 256)
Way = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def plain_sums(users: Tensor, items: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """`embedding_bag`, whose gradient adds edge by edge."""
    return functional.embedding_bag(indices, items, begins, mode="sum", per_sample_weights=weights)


def plain_products(users: Tensor, items: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """Two vectors for every edge."""
    owners = functional.pad(begins, (0, 1), value=len(indices)).diff()
    return (users.repeat_interleave(owners, 0) * items.index_select(0, indices)).sum(1)


def our_sums(users: Tensor, items: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """The sums of graph models."""
    return weighted_sums(items, indices, weights, begins)


def our_products(users: Tensor, items: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """The products of graph models."""
    return edge_products(users, items, indices, begins)


WAYS: dict[str, dict[str, Way]] = {
    "sums": {"PyTorch": plain_sums, "microlens": our_sums},
    "products": {"PyTorch": plain_products, "microlens": our_products},
}


def take_turns(turns: Turns, *, smoke: bool, dim: int, what: str, way: str) -> None:
    """Compute the operation and its gradients once a turn; say how the result and the gradients sum up."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    sequences = long_tailed_sequences(SMOKE if smoke else MICROLENS_100K)
    indices, begins = torch.from_numpy(sequences.items - 1), torch.from_numpy(sequences.offsets[:-1])
    shapes = (len(begins), dim), (int(indices.max()) + 1, dim)
    users, items = (torch.randn(shape, requires_grad=True) for shape in shapes)
    weights = torch.rand(len(indices), requires_grad=True)
    inputs = [items, weights] if what == "sums" else [users, items]

    def work() -> tuple[Tensor, ...]:
        found = WAYS[what][way](users, items, indices, weights, begins)
        return found.detach(), *torch.autograd.grad(found, inputs, found.detach())

    turns.take(work, norms=[float(value.double().norm()) for value in work()])


def main() -> None:
    """Measure both operations for each D."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    figures, lines = {}, []
    for what, ways in WAYS.items():
        for dim in DIMS:
            arguments = {"smoke": options.smoke, "dim": dim, "what": what}
            turned = in_turns({way: contestant(take_turns, **arguments, way=way) for way in ways}, options.repeats)
            plain, ours = turned["PyTorch"], turned["microlens"]
            torch.testing.assert_close(torch.tensor(ours.facts["norms"]), torch.tensor(plain.facts["norms"]))
            milliseconds = {way: round(1000 * each.cost.cpu_seconds, 2) for way, each in turned.items()}
            figures[f"{what}, D={dim}"] = {"cpu_milliseconds": milliseconds}
            ratio = round(plain.cost.cpu_seconds / ours.cost.cpu_seconds, 2)
            reach = 2.0 if what == "sums" else 3.0
            lines.append(
                Line(what=f"{what}, D={dim}, PyTorch / ours", measured=ratio, unit="x", bound="at least", reach=reach)
            )
    print_result("graph_edges", options, [1], figures, lines)


if __name__ == "__main__":
    main()
