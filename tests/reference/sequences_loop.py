"""Encoders of frozen sequences of vectors, item by item and vector by vector, from the papers' equations."""

import math

import torch
from torch import Tensor

from microlens.encoders.attention_pool import AttentionPoolEncoder
from microlens.encoders.iisan import Adapter, IISANEncoder
from microlens.encoders.layer_mix import LayerMixEncoder


def layer_mix_loop(encoder: LayerMixEncoder, vectors: list[Tensor | None]) -> Tensor:
    """The vector (D,) of an item with ``vectors`` (E,), None where missing: ELMo, eq. 1."""
    weights = {j: math.exp(float(encoder.weights[j])) for j, vector in enumerate(vectors) if vector is not None}
    mixed = sum(weight / sum(weights.values()) * _there(vectors[j]) for j, weight in weights.items())
    return encoder.projection.weight @ (float(encoder.scale) * mixed) + encoder.projection.bias


def attention_pool_loop(encoder: AttentionPoolEncoder, heads: int, vectors: list[Tensor | None]) -> Tensor:
    """The vector (D,) of an item with ``vectors`` (E,), None where missing: Set Transformer, eq. 2-4, 6, 7 and 11."""
    frames = [(encoder.input.weight @ vector + encoder.input.bias).relu() for vector in vectors if vector is not None]
    query, attention = encoder.query[0], encoder.attention
    dim = len(query)
    (to_q, to_k, to_v), biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    asked = to_q @ query + biases[0]
    keys = [to_k @ frame + biases[1] for frame in frames]
    values = [to_v @ frame + biases[2] for frame in frames]
    found = []
    for head in range(heads):
        part = slice(head * dim // heads, (head + 1) * dim // heads)
        exponentials = [math.exp(float(asked[part] @ key[part]) / math.sqrt(dim / heads)) for key in keys]
        found.append(sum(e / sum(exponentials) * value[part] for e, value in zip(exponentials, values, strict=True)))
    attended = attention.out_proj.weight @ torch.cat(found) + attention.out_proj.bias
    hidden = _norm(query + attended) * encoder.attention_norm.weight + encoder.attention_norm.bias
    fed = (encoder.feed_forward.weight @ hidden + encoder.feed_forward.bias).relu()
    hidden = _norm(hidden + fed) * encoder.output_norm.weight + encoder.output_norm.bias
    return encoder.projection.weight @ hidden + encoder.projection.bias


def iisan_loop(encoder: IISANEncoder, layers: list[list[Tensor]]) -> Tensor:
    """The vector (D,) of an item with the used ``layers`` of one or two encoders, each of several (E,)."""
    sides = []
    for network, states in zip(encoder.intra, layers, strict=True):
        side = torch.zeros_like(states[0])
        for adapter, gate, state in zip(network.adapters, network.gates, states, strict=True):
            mu = 1 / (1 + math.exp(-10 * float(gate)))
            side = _adapted(adapter, mu * side + (1 - mu) * state)
        sides.append(side)
    if len(layers) == 2:
        depth = min(map(len, layers))
        side = torch.zeros(min(len(layers[0][0]), len(layers[1][0])))
        for number, (a, b) in enumerate(zip(layers[0][-depth:], layers[1][-depth:], strict=True)):
            mu = 1 / (1 + math.exp(-10 * float(encoder.inter.gates[number])))
            narrow_a, narrow_b = encoder.inter.narrows[number]
            a = narrow_a.weight @ a + narrow_a.bias if len(a) > len(side) else a
            b = narrow_b.weight @ b + narrow_b.bias if len(b) > len(side) else b
            side = _adapted(encoder.inter.adapters[number], side + mu * a + (1 - mu) * b)
        sides.append(side)
    ends = []
    for (first, second), side in zip(encoder.ends, sides, strict=True):
        ends.append(second.weight @ (first.weight @ side + first.bias) + second.bias)
    return encoder.output.weight @ torch.cat(ends) + encoder.output.bias


def _adapted(adapter: Adapter, x: Tensor) -> Tensor:
    inner = adapter.down.weight @ x + adapter.down.bias
    gelu = torch.stack([value * 0.5 * (1 + torch.erf(value / math.sqrt(2))) for value in inner])
    return x + adapter.up.weight @ gelu + adapter.up.bias


def _norm(x: Tensor) -> Tensor:
    mean = sum(x) / len(x)
    return (x - mean) / torch.sqrt(sum((value - mean) ** 2 for value in x) / len(x) + 1e-5)


def _there(vector: Tensor | None) -> Tensor:
    assert vector is not None
    return vector
