"""Sums and products along edges against loops, and their gradients against finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor

from microlens.recommenders.adjacency import Adjacency, edge_products, neighbourhood, weighted_sums

D = 5
INDICES = torch.tensor([3, 0, 3, 3, 1, 0, 4])  # an edge may occur twice; sender 2 has none
BEGINS = torch.tensor([0, 3, 3, 5])  # receivers 0 to 3, of which 1 has no edges
RECEIVERS = [0, 0, 0, 2, 2, 3, 3]
SENDERS = 5


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, requires_grad=True)


def test_weighted_sums_equal_a_loop() -> None:
    vectors, weights = random(SENDERS, D), random(len(INDICES))
    expected = torch.zeros(len(BEGINS), D, dtype=torch.double)
    for edge, receiver in enumerate(RECEIVERS):
        expected[receiver] += weights[edge] * vectors[INDICES[edge]]
    torch.testing.assert_close(weighted_sums(vectors, INDICES, weights, BEGINS), expected)


def test_edge_products_equal_a_loop() -> None:
    receivers, senders = random(len(BEGINS), D), random(SENDERS, D)
    expected = torch.stack([receivers[RECEIVERS[edge]] @ senders[INDICES[edge]] for edge in range(len(INDICES))])
    torch.testing.assert_close(edge_products(receivers, senders, INDICES, BEGINS), expected)


def test_a_pair_of_nodes_may_have_more_edges_than_there_are_pairs() -> None:
    receivers, senders = random(1, D), random(2, D)
    products = edge_products(receivers, senders, torch.tensor([0, 1, 0]), torch.tensor([0]))
    torch.testing.assert_close(products, (senders @ receivers[0])[[0, 1, 0]])


def test_gradients_equal_finite_differences() -> None:
    vectors, weights, receivers = random(SENDERS, D), random(len(INDICES)), random(len(BEGINS), D)
    assert torch.autograd.gradcheck(lambda v, w: weighted_sums(v, INDICES, w, BEGINS), (vectors, weights))
    assert torch.autograd.gradcheck(lambda a, b: edge_products(a, b, INDICES, BEGINS), (receivers, vectors))


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_gradient_that_nobody_needs_is_not_computed(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Tensor:
        raise AssertionError

    of_vectors, of_weights = "_sums_back", "_products"
    monkeypatch.setattr(f"microlens.recommenders.adjacency.{(of_weights, of_vectors)[wanted]}", refuse)
    inputs = [random(SENDERS, D), random(len(INDICES))]
    vectors, weights = (value if index == wanted else value.detach() for index, value in enumerate(inputs))
    weighted_sums(vectors, INDICES, weights, BEGINS).sum().backward()
    gradient = inputs[wanted].grad
    assert gradient is not None
    assert gradient.any()


def test_without_edges_sums_are_zero() -> None:
    none, begins = torch.empty(0, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    vectors, weights = random(SENDERS, D), random(0)
    sums = weighted_sums(vectors, none, weights, begins)
    sums.sum().backward()
    assert sums.shape == (2, D)
    assert vectors.grad is not None
    assert not sums.any()
    assert not vectors.grad.any()
    assert edge_products(random(2, D), vectors, none, begins).shape == (0,)


def test_products_of_half_precision_are_those_of_float32() -> None:
    receivers, senders = random(len(BEGINS), D).detach(), random(SENDERS, D).detach()
    half = edge_products(receivers.bfloat16(), senders.float(), INDICES, BEGINS)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, edge_products(receivers.bfloat16().float(), senders.float(), INDICES, BEGINS))


def test_gradients_of_half_precision_are_those_of_float32_rounded() -> None:
    gradients = []
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(1)
        vectors, weights = torch.randn(SENDERS, D).bfloat16(), torch.randn(len(INDICES)).bfloat16()
        inputs = vectors.to(dtype).requires_grad_(), weights.to(dtype).requires_grad_()
        weighted_sums(inputs[0], INDICES, inputs[1], BEGINS).sum().backward()
        gradients.append([value.grad.float() for value in inputs if value.grad is not None])
    for half, single in zip(*gradients, strict=True):
        torch.testing.assert_close(half, single, rtol=0.02, atol=0.02)
    assert len(gradients[0]) == 2


@pytest.mark.parametrize("layers", [1, 2])
def test_hops_reach_the_means_and_sums_of_the_whole_graph(layers: int) -> None:
    users, items = [0, 0, 1, 3, 3], [1, 2, 2, 1, 3]  # user 2 and item 4 have no neighbours
    graph = Adjacency((torch.tensor(users), torch.tensor(items)), num_users=4, num_items=4)
    edges = [(user, 3 + item) for user, item in zip(users, items, strict=True)]
    weights, shares = torch.zeros(8, 8, dtype=torch.double), torch.zeros(8, 8, dtype=torch.double)
    degree = [sum(node in edge for edge in edges) for node in range(8)]
    for one, other in [*edges, *(edge[::-1] for edge in edges)]:
        weights[one, other] = (degree[one] * degree[other]) ** -0.5
        shares[one, other] = 1 / degree[one]
    start, wanted = random(8, D), torch.tensor([7, 0, 2, 0])
    for name, matrix in (("sums", weights), ("means", shares)):
        first, hops = neighbourhood(wanted, layers, graph)
        vectors, expected = start[first], start
        for hop in hops:
            torch.testing.assert_close(vectors[hop.own], expected[hop.nodes])
            vectors, expected = getattr(hop, name)(vectors), matrix @ expected
        assert hops[-1].nodes.tolist() == [0, 2, 7]
        torch.testing.assert_close(
            vectors, expected[[0, 2, 7]], rtol=1e-6, atol=1e-6
        )  # the graph's weights are float32


def test_one_hop_needs_the_nodes_and_their_neighbours_alone() -> None:
    graph = Adjacency((torch.tensor([0, 0, 1, 3]), torch.tensor([1, 2, 2, 3])), num_users=4, num_items=4)
    first, (hop,) = neighbourhood(torch.tensor([0]), 1, graph)
    assert first.tolist() == [0, 4, 5]
    assert hop.senders.tolist() == [1, 2]
