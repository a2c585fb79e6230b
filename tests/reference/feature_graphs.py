"""FREEDOM, BM3, LATTICE and MGCN derived again, in float64 NumPy: one node, one neighbour and one modality at a time.

Written from the equations of the papers and, where these leave something out, from what the authors' implementations
do (enoche/MMRec at a75d89a, MGCN at a5b713d):

- FREEDOM (Zhou and Shen 2023): an item's neighbours are the K items of the highest cosine, itself among them; all
  have the same weight; the item graph starts from the id vectors and adds its last layer; the user-item graph is
  normalised by the degrees of the edges that are kept.
- BM3 (Zhou et al. 2023): items add their id vector to LightGCN's mean; a single linear predictor with a bias; what is
  predicted carries no gradient; the score is the product of predictions; cosines are subtracted from 1.
- LATTICE (Zhang et al. 2021): edges weigh the cosine, negative ones 0; frozen and learned graph are normalised by the
  sums of rows; modalities are weighted by a softmax; the last layer is divided by its length.
- MGCN (Yu et al. 2023): the purifier's gate has two linear layers without an activation between them; the item graphs
  are LATTICE's frozen ones; users sum their items by 1 / sqrt(degree * degree) once; the fuser divides by the number of
  modalities plus one; the temperature is 0.2.

No code of the package is used. ``state`` holds a model's parameters under the package's names, ``features`` a matrix
(N, F) for each modality, ``pairs`` user numbers and item indices, both from 0. Nodes are users, then items.
"""

import math
from collections.abc import Sequence

import numpy as np

from tests.reference.multimodal_graphs import Array, Pairs, State, ids_of, neighbours_of


def cosine(a: Array, b: Array) -> float:
    return float(sum(a * b) / math.sqrt(sum(a * a)) / math.sqrt(sum(b * b)))


def nearest(features: Sequence[Array], item: int, count: int) -> list[int]:
    """The ``count`` items most similar to ``item``, the most similar first."""
    return sorted(range(len(features)), key=lambda other: -cosine(features[item], features[other]))[:count]


def lightgcn(ids: Sequence[Array], pairs: Pairs, num_users: int, layers: int) -> list[Array]:
    """The mean over layers of every node."""
    near = neighbours_of(num_users, len(ids) - num_users, pairs)
    layer, totals = list(ids), list(ids)
    for _ in range(layers):
        layer = [
            sum(
                (layer[other] / math.sqrt(len(near[node]) * len(near[other])) for other in near[node]),
                start=np.zeros(len(ids[0])),
            )
            for node in range(len(ids))
        ]
        totals = [total + vector for total, vector in zip(totals, layer, strict=True)]
    return [total / (layers + 1) for total in totals]


def propagated(items: Sequence[Array], graph: Array, layers: int) -> list[Array]:
    """Item vectors after ``layers`` propagations over ``graph``, (N, N)."""
    for _ in range(layers):
        items = [
            sum((graph[item, other] * items[other] for other in range(len(items))), start=np.zeros(len(items[0])))
            for item in range(len(items))
        ]
    return list(items)


def unweighted_graph(features: Array, count: int) -> Array:
    """Ones at each item's neighbours, divided by the roots of both rows' sums."""
    graph = np.zeros((len(features), len(features)))
    for item in range(len(features)):
        for other in nearest(list(features), item, count):
            graph[item, other] = 1.0
    degrees = [sum(row) for row in graph]
    for item in range(len(features)):
        for other in range(len(features)):
            graph[item, other] /= math.sqrt(degrees[item] * degrees[other])
    return graph


def freedom_vectors(
    state: State,
    features: Sequence[Array],
    pairs: Pairs,
    *,
    layers: int,
    item_layers: int,
    neighbours: int,
    modality_weights: Sequence[float],
) -> Array:
    """The vectors of all nodes, from the user-item graph of ``pairs``: (U + N, D)."""
    ids, num_users = ids_of(state), len(state["user_table"])
    graph = sum(
        (w * unweighted_graph(matrix, neighbours) for w, matrix in zip(modality_weights, features, strict=True)),
        start=np.zeros((len(features[0]), len(features[0]))),
    )
    similar = propagated(ids[num_users:], graph, item_layers)
    means = lightgcn(ids, pairs, num_users, layers)
    return np.array([*means[:num_users], *(a + b for a, b in zip(means[num_users:], similar, strict=True))])


def projected_features(state: State, modality: int, features: Array) -> list[Array]:
    weight, bias = (state[f"projections.{modality}.projection.{name}"] for name in ("weight", "bias"))
    return [weight @ feature + bias for feature in features]


def bpr(user: Array, positive: Array, negative: Array) -> float:
    return math.log(1 + math.exp(sum(user * negative) - sum(user * positive)))


def freedom_loss(
    state: State,
    features: Sequence[Array],
    vectors: Array,
    triples: Sequence[tuple[int, int, int]],
    side_weight: float,
) -> float:
    """The mean loss of (user, item, other item), items from 0, from the vectors of all nodes."""
    users = len(state["user_table"])
    sides = [projected_features(state, m, matrix) for m, matrix in enumerate(features)]
    losses = []
    for user, item, other in triples:
        loss = bpr(vectors[user], vectors[users + item], vectors[users + other])
        losses.append(loss + side_weight * sum(bpr(vectors[user], side[item], side[other]) for side in sides))
    return sum(losses) / len(losses)


def inclusion(weights: Sequence[float], draws: int) -> list[float]:
    """The probability that each of several things is among ``draws`` draws in proportion to weights, none twice."""
    if not draws:
        return [0.0] * len(weights)
    chances = [0.0] * len(weights)
    for first, weight in enumerate(weights):
        share = weight / sum(weights)
        rest = inclusion([0.0 if i == first else w for i, w in enumerate(weights)], draws - 1)
        chances = [c + share * (1.0 if i == first else r) for i, (c, r) in enumerate(zip(chances, rest, strict=True))]
    return chances


def bm3_before_the_predictor(state: State, pairs: Pairs, layers: int) -> list[Array]:
    ids, num_users = ids_of(state), len(state["user_table"])
    means = lightgcn(ids, pairs, num_users, layers)
    return [*means[:num_users], *(a + b for a, b in zip(means[num_users:], ids[num_users:], strict=True))]


def predicted(state: State, vector: Array) -> Array:
    return state["predictor.weight"] @ vector + state["predictor.bias"]


def bm3_vectors(state: State, pairs: Pairs, *, layers: int) -> Array:
    """The vectors of all nodes, behind the predictor: (U + N, D)."""
    return np.array([predicted(state, vector) for vector in bm3_before_the_predictor(state, pairs, layers)])


def bm3_loss(
    state: State,
    fixed: State,
    features: Sequence[Array],
    pairs: Pairs,
    targets: Pairs,
    *,
    layers: int,
    alignment_weight: float,
    regularization: float,
) -> float:
    """The mean loss of (user, item), items from 0, without dropout; what is predicted comes from ``fixed``."""
    users = len(state["user_table"])
    vectors, aims = (bm3_before_the_predictor(values, pairs, layers) for values in (state, fixed))
    contents, content_aims = (
        [projected_features(values, m, matrix) for m, matrix in enumerate(features)] for values in (state, fixed)
    )
    total = 0.0
    for user, item in targets:
        u, i = vectors[user], vectors[users + item]
        total += 2 - cosine(predicted(state, u), aims[users + item]) - cosine(predicted(state, i), aims[user])
        for content, aim in zip(contents, content_aims, strict=True):
            guess = predicted(state, content[item])
            total += alignment_weight * (2 - cosine(guess, aims[users + item]) - cosine(guess, aim[item]))
        total += regularization * float(sum(u * u) + sum(i * i)) / len(u)
    return total / len(targets)


def cosine_graph(features: Sequence[Array], count: int, chosen_by: Sequence[Array] | None = None) -> Array:
    """Cosines at each item's neighbours by ``chosen_by``, or ``features``, divided by the roots of both rows' sums."""
    graph = np.zeros((len(features), len(features)))
    for item in range(len(features)):
        for other in nearest(features if chosen_by is None else chosen_by, item, count):
            graph[item, other] = max(0.0, cosine(features[item], features[other]))
    degrees = [sum(row) for row in graph]
    for item in range(len(features)):
        for other in range(len(features)):
            graph[item, other] /= math.sqrt(degrees[item] * degrees[other])
    return graph


def lattice_vectors(
    state: State,
    features: Sequence[Array],
    pairs: Pairs,
    *,
    layers: int,
    item_layers: int,
    neighbours: int,
    frozen_share: float,
    chosen_by: State | None = None,
) -> Array:
    """The vectors of all nodes; who is a neighbour in the learned graphs is decided by ``chosen_by``: (U + N, D)."""
    ids, num_users = ids_of(state), len(state["user_table"])
    powers = [math.exp(logit) for logit in state.get("modality_logits", [0.0])]
    graph = np.zeros((len(features[0]), len(features[0])))
    for m, matrix in enumerate(features):
        choosing = projected_features(chosen_by or state, m, matrix)
        learned = cosine_graph(projected_features(state, m, matrix), neighbours, choosing)
        frozen = cosine_graph(list(matrix), neighbours)
        graph += powers[m] / sum(powers) * (frozen_share * frozen + (1 - frozen_share) * learned)
    similar = propagated(ids[num_users:], graph, item_layers)
    means = lightgcn(ids, pairs, num_users, layers)
    lengths = [math.sqrt(sum(vector * vector)) for vector in similar]
    items = [mean + vector / length for mean, vector, length in zip(means[num_users:], similar, lengths, strict=True)]
    return np.array([*means[:num_users], *items])


def sigmoid(vector: Array) -> Array:
    return np.array([1 / (1 + math.exp(-x)) for x in vector])


def linear(state: State, name: str, vector: Array) -> Array:
    return state[f"{name}.weight"] @ vector + state[f"{name}.bias"]


def mgcn_views(
    state: State, features: Sequence[Array], pairs: Pairs, *, layers: int, item_layers: int, neighbours: int
) -> tuple[Array, Array]:
    """The behaviour and the content view of all nodes: (U + N, D) each."""
    ids, num_users = ids_of(state), len(state["user_table"])
    near = neighbours_of(num_users, len(ids) - num_users, pairs)
    behaviour = lightgcn(ids, pairs, num_users, layers)
    views = []
    for m, matrix in enumerate(features):
        projected = projected_features(state, m, matrix)
        purified = [
            e * sigmoid(linear(state, f"purifiers.{m}", content))
            for e, content in zip(ids[num_users:], projected, strict=True)
        ]
        items = propagated(purified, cosine_graph(list(matrix), neighbours), item_layers)
        users = [
            sum(
                (items[i - num_users] / math.sqrt(len(near[user]) * len(near[i])) for i in near[user]),
                start=np.zeros(len(ids[0])),
            )
            for user in range(num_users)
        ]
        views.append([*users, *items])
    if len(views) == 1:
        return np.array(behaviour), np.array(views[0])
    fused = [mgcn_fused(state, [view[node] for view in views], behaviour[node]) for node in range(len(ids))]
    return np.array(behaviour), np.array(fused)


def mgcn_fused(state: State, views: Sequence[Array], behaviour: Array) -> Array:
    """The content view of one node."""
    hidden = [np.tanh(linear(state, "fuser.attention.0", view)) for view in views]
    powers = [math.exp((state["fuser.attention.2.weight"] @ vector).item()) for vector in hidden]
    common = sum(
        (p / sum(powers) * view for p, view in zip(powers, views, strict=True)), start=np.zeros(len(behaviour))
    )
    total = common
    for m, view in enumerate(views):
        total = total + sigmoid(linear(state, f"fuser.gates.{m}", behaviour)) * (view - common)
    return total / (len(views) + 1)


def mgcn_penalty(
    behaviour: Array,
    content: Array,
    users: Sequence[int],
    items: Sequence[int],
    contrastive_weight: float,
    regularization: float,
) -> float:
    """The penalty of the nodes ``users`` and ``items``."""
    total = 0.0
    for nodes in (users, items):
        for node in nodes:
            powers = {other: math.exp(cosine(content[node], behaviour[other]) / 0.2) for other in nodes}
            total -= contrastive_weight * math.log(powers[node] / sum(powers.values())) / len(nodes)
        squares = [float(x) ** 2 for node in nodes for x in behaviour[node] + content[node]]
        total += regularization * sum(squares) / len(squares)
    return total
