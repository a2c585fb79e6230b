"""VBPR, MMGCN and GRCN derived again, in float64 NumPy: one node, one neighbour and one modality at a time.

Written from the equations of the papers (He and McAuley 2016; Wei et al. 2019, "MMGCN"; Wei et al. 2020, "GRCN") and,
where these leave something out, from what the authors' implementations do (weiyinwei/MMGCN at 566f953, weiyinwei/GRCN
at a5297e0, the VBPR of microlens2023/microlens-dataset at 7bad155):

- MMGCN: users' vectors and projected features are divided by their length; W1 has no bias, W2 and W3 have one; a node
  without neighbours receives zero; received and own part are concatenated before W3 (the authors' option ``concate`` is
  the non-empty string 'False'); the modalities are averaged; the penalty is the mean square of the batch's ids, users
  plus items, and of the users' vectors as they are before the division.
- GRCN: everything that enters is divided by its length: ids, prototypes, LeakyReLU of the projected features, and
  prototypes again after each routing; a message's share is multiplied by the confidence of its sender before the
  maximum over modalities and the ReLU; ids are summed over layers without activation; content is what was routed plus
  one attention over the neighbours; all are concatenated; the penalty is the mean square of the batch's ids, users plus
  items, and of its users' prototypes.
- VBPR: users have two tables; the projection of the features has no bias.

No code of the package is used. ``state`` holds a model's parameters under the package's names, ``features`` a matrix
(N, F) for each modality, ``pairs`` user numbers and item indices, both from 0. Nodes are users, then items.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = Mapping[str, Array]
Pairs = Sequence[tuple[int, int]]


def leaky(vector: Array) -> Array:
    return np.array([x if x > 0 else 0.01 * x for x in vector])


def unit(vector: Array) -> Array:
    return vector / math.sqrt(sum(x * x for x in vector))


def mean_square(rows: Sequence[Array]) -> float:
    return sum(float(x) ** 2 for row in rows for x in row) / sum(len(row) for row in rows)


def neighbours_of(num_users: int, num_items: int, pairs: Pairs) -> list[list[int]]:
    """The nodes that share an edge with each node, each once."""
    found: list[set[int]] = [set() for _ in range(num_users + num_items)]
    for user, item in pairs:
        found[user].add(num_users + item)
        found[num_users + item].add(user)
    return [sorted(near) for near in found]


def vbpr_scores(state: State, features: Array) -> Array:
    """The score of every item for every user: (U, N)."""
    users = len(state["user_ids"])
    scores = np.zeros((users, len(features)))
    for user in range(users):
        for item, feature in enumerate(features):
            by_id = sum(state["user_ids"][user] * state["item_encoder.table"][item + 1])
            visual = state["item_encoder.projection.weight"] @ feature
            scores[user, item] = by_id + sum(state["user_tastes"][user] * visual)
    return scores


def ids_of(state: State) -> list[Array]:
    return [*state["user_table"], *state["item_encoder.table"][1:]]


def projected(state: State, modality: int, features: Array) -> list[Array]:
    weight, bias = (state[f"modalities.{modality}.projection.{name}"] for name in ("weight", "bias"))
    return [weight @ feature + bias for feature in features]


def mmgcn_vectors(state: State, features: Sequence[Array], pairs: Pairs, layers: int, *, concat: bool) -> Array:
    """The vectors of all nodes: (U + N, D)."""
    ids = ids_of(state)
    users = len(state["user_table"])
    near = neighbours_of(users, len(ids) - users, pairs)
    starts = [
        [*state[f"modalities.{m}.user_table"], *projected(state, m, matrix)] for m, matrix in enumerate(features)
    ] or [ids]
    total = np.zeros((len(ids), len(ids[0])))
    for modality, start in enumerate(starts):
        vectors = [unit(vector) for vector in start]
        for layer in range(layers):
            part = {
                name: state[f"convolutions.{modality * layers + layer}.{name}"]
                for name in ("received.weight", "own.weight", "own.bias", "combined.weight", "combined.bias")
            }
            after = []
            for node, vector in enumerate(vectors):
                message = np.zeros(len(ids[0]))
                for other in near[node]:
                    message = message + part["received.weight"] @ vectors[other] / len(near[node])
                h = leaky(message)
                own = leaky(part["own.weight"] @ vector + part["own.bias"]) + ids[node]
                combined = part["combined.weight"] @ (np.concatenate([h, own]) if concat else h) + part["combined.bias"]
                after.append(leaky(combined if concat else combined + own))
            vectors = after
        total += np.array(vectors)
    return total / len(starts)


def mmgcn_penalty(state: State, users: Sequence[int], items: Sequence[int], modalities: int) -> float:
    """The penalty of a batch, before its weight; ``items`` count from 1."""
    batch = mean_square([state["user_table"][user] for user in users]) + mean_square(
        [state["item_encoder.table"][item] for item in items]
    )
    return batch + sum(mean_square(state[f"modalities.{m}.user_table"]) for m in range(modalities))


def attention(node: int, near: list[int], vectors: list[Array]) -> dict[int, float]:
    """The softmax of the dot products of ``node`` with its neighbours."""
    powers = {other: math.exp(sum(vectors[node] * vectors[other])) for other in near}
    return {other: power / sum(powers.values()) for other, power in powers.items()}


def routed(vectors: list[Array], num_users: int, near: list[list[int]], routings: int) -> list[Array]:
    """Prototypes after routing, then the items."""
    vectors = [unit(vector) for vector in vectors]
    for _ in range(routings):
        after = list(vectors)
        for user in range(num_users):
            moved = vectors[user]
            for item, share in attention(user, near[user], vectors).items():
                moved = moved + share * vectors[item]
            after[user] = unit(moved)
        vectors = after
    return vectors


def grcn_vectors(state: State, features: Sequence[Array], pairs: Pairs, layers: int, routings: int) -> Array:
    """The vectors of all nodes: (U + N, (1 + modalities) D)."""
    ids = [unit(vector) for vector in ids_of(state)]
    users = len(state["user_table"])
    near = neighbours_of(users, len(ids) - users, pairs)
    tastes = [
        [*state[f"modalities.{m}.user_table"], *map(leaky, projected(state, m, matrix))]
        for m, matrix in enumerate(features)
    ] or [ids]
    modalities = [routed(vectors, users, near, routings) for vectors in tastes]
    shares = [[attention(node, near[node], vectors) for node in range(len(ids))] for vectors in modalities]

    layer = totals = ids
    for _ in range(layers):
        after = []
        for node in range(len(ids)):
            received = np.zeros(len(ids[0]))
            for sender in near[node]:
                confident = [state["base_values"][m, sender] * share[node][sender] for m, share in enumerate(shares)]
                received = received + max(*confident, 0.0) * layer[sender]
            after.append(received)
        layer = after
        totals = [total + vector for total, vector in zip(totals, layer, strict=True)]
    if not features:
        return np.array(totals)
    rows = []
    for node, total in enumerate(totals):
        contents = []
        for vectors, share in zip(modalities, shares, strict=True):
            content = vectors[node]
            for other, weight in share[node].items():
                content = content + weight * vectors[other]
            contents.append(content)
        rows.append(np.concatenate([total, *contents]))
    return np.array(rows)


def grcn_penalty(state: State, users: Sequence[int], items: Sequence[int], modalities: int) -> float:
    """The penalty of a batch, before its weight; ``items`` count from 1."""
    tables = ["user_table", *(f"modalities.{m}.user_table" for m in range(modalities))]
    prototypes = sum(mean_square([state[table][user] for user in users]) for table in tables)
    return prototypes + mean_square([state["item_encoder.table"][item] for item in items])
