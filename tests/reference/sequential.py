"""SASRec's relatives derived again, in float64 NumPy: one user, one item, one head at a time.

Written from the equations of the papers (Zhai et al. 2024, "HSTU"; Borisyuk et al. 2025, "LiGR"; Tikhonovich et al.
2025, "eSASRec"; Zhou et al. 2022, "FMLP-Rec") and, where these leave something out, from what the authors'
implementations do (facebookresearch/generative-recommenders at 44b62c6, RecTools 0.19.0, Woeee/FMLP-Rec at f3c4285):

- HSTU: item vectors are multiplied by the root of D before the positions are added; norms have no parameters; U, V, Q
  and K come out of one product without bias; logits are not scaled; weights are divided by the longest history; the
  output has a bias; scores are cosines over a temperature.
- LiGR: gates read the state before the norm; the norm is within the gated part; SwiGLU has no biases.
- FMLP-Rec: positions are added and normalised first; blocks are post-norm; GELU is exact.

No code of the package is used. ``state`` holds a model's parameters under the package's names, ``items`` the numbers of
one user's history without padding. All functions return the states after each item: (n, D).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = Mapping[str, Array]

EPS = 1e-6


def silu(vector: Array) -> Array:
    return np.array([x / (1 + math.exp(-x)) for x in vector])


def sigmoid(vector: Array) -> Array:
    return np.array([1 / (1 + math.exp(-x)) for x in vector])


def unit(vector: Array) -> Array:
    return vector / math.sqrt(sum(x * x for x in vector))


def standardised(vector: Array) -> Array:
    """LayerNorm without parameters."""
    mean = sum(vector) / len(vector)
    variance = sum((x - mean) ** 2 for x in vector) / len(vector)
    return (vector - mean) / math.sqrt(variance + EPS)


def normed(state: State, name: str, vector: Array) -> Array:
    return state[f"{name}.weight"] * standardised(vector) + state[f"{name}.bias"]


def linear(state: State, name: str, vector: Array) -> Array:
    return state[f"{name}.weight"] @ vector + state.get(f"{name}.bias", 0.0)


def read(state: State, items: Sequence[int], temperature: float, factor: float = 1.0) -> list[Array]:
    """The vectors that the first block reads; the last item has the last position."""
    positions = state["positions"][-len(items) :]
    vectors = [state["item_encoder.table"][item] for item in items]
    if temperature:
        vectors = [unit(vector) for vector in vectors]
    return [factor * vector + position for vector, position in zip(vectors, positions, strict=True)]


def scaled(states: Sequence[Array], temperature: float) -> Array:
    return np.stack([unit(state) / temperature if temperature else state for state in states])


def hstu_states(state: State, items: Sequence[int], blocks: int, heads: int, temperature: float) -> Array:
    D = state["positions"].shape[1]
    hidden = read(state, items, temperature, math.sqrt(D))
    for block in range(blocks):
        hidden = transduced(state, f"blocks.{block}", hidden, heads)
    return scaled(hidden, temperature)


def transduced(state: State, block: str, hidden: list[Array], heads: int) -> list[Array]:
    D = len(hidden[0])
    longest = len(state[f"{block}.distances"])
    parts = [silu(linear(state, f"{block}.project", standardised(x))) for x in hidden]
    out = []
    for query, x in enumerate(hidden):
        found = []
        for head in range(heads):
            within = slice(head * D // heads, (head + 1) * D // heads)
            total = np.zeros(D // heads)
            for key in range(query + 1):
                logit = sum(parts[query][2 * D : 3 * D][within] * parts[key][3 * D :][within])
                logit += state[f"{block}.distances"][query - key]
                total = total + logit / (1 + math.exp(-logit)) / longest * parts[key][D : 2 * D][within]
            found.append(total)
        gated = standardised(np.concatenate(found)) * parts[query][:D]
        out.append(x + linear(state, f"{block}.output", gated))
    return out


def esasrec_states(state: State, items: Sequence[int], blocks: int, heads: int, temperature: float) -> Array:
    hidden = read(state, items, temperature)
    for block in range(blocks):
        hidden = ligr(state, f"blocks.{block}", hidden, heads)
    return scaled(hidden, temperature)


def ligr(state: State, block: str, hidden: list[Array], heads: int) -> list[Array]:
    attended = attention(
        state, f"{block}.attention", [normed(state, f"{block}.attention_norm", x) for x in hidden], heads
    )
    out = []
    for x, found in zip(hidden, attended, strict=True):
        y = x + sigmoid(linear(state, f"{block}.attention_gate", x)) * found
        gate, value = np.split(linear(state, f"{block}.expand", normed(state, f"{block}.feed_forward_norm", y)), 2)
        fed = linear(state, f"{block}.contract", silu(gate) * value)
        out.append(y + sigmoid(linear(state, f"{block}.feed_forward_gate", y)) * fed)
    return out


def attention(state: State, name: str, hidden: list[Array], heads: int) -> list[Array]:
    """Causal attention with softmax, of each item to itself and those before it."""
    D = len(hidden[0])
    size = D // heads
    projected = [np.split(linear(state, f"{name}.query_key_value", x), 3) for x in hidden]
    out = []
    for at in range(len(hidden)):
        found = []
        for head in range(heads):
            within = slice(head * size, (head + 1) * size)
            logits = [
                sum(projected[at][0][within] * projected[key][1][within]) / math.sqrt(size) for key in range(at + 1)
            ]
            total = sum(math.exp(logit) for logit in logits)
            values = [projected[key][2][within] for key in range(at + 1)]
            found.append(sum(math.exp(logit) / total * value for logit, value in zip(logits, values, strict=True)))
        out.append(linear(state, f"{name}.output", np.concatenate(found)))
    return out


def gelu(vector: Array) -> Array:
    return np.array([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in vector])


def fmlp_states(state: State, items: Sequence[int], blocks: int, temperature: float) -> Array:
    hidden = [normed(state, "norm", x) for x in read(state, items, temperature)]
    for block in range(blocks):
        hidden = filtered(state, f"blocks.{block}", hidden)
    return scaled(hidden, temperature)


def filtered(state: State, block: str, hidden: list[Array]) -> list[Array]:
    out = []
    for at, x in enumerate(hidden):
        total = np.zeros(len(x))
        for back in range(at + 1):
            total = total + state[f"{block}.taps"][back] * hidden[at - back]
        out.append(fed_forward(state, block, x, total))
    return out


def fed_forward(state: State, block: str, x: Array, found: Array) -> Array:
    y = normed(state, f"{block}.filter_norm", x + found)
    fed = linear(state, f"{block}.contract", gelu(linear(state, f"{block}.expand", y)))
    return normed(state, f"{block}.feed_forward_norm", y + fed)


def fmlp_last_state_by_fourier_transform(state: State, items: Sequence[int]) -> Array:
    """The paper's equation: one block over a full history, filtered in the frequency domain: (D,)."""
    hidden = np.stack([normed(state, "norm", x) for x in read(state, items, 0.0)])
    spectrum = np.fft.rfft(hidden, axis=0) * np.fft.rfft(state["blocks.0.taps"], axis=0)
    found = np.fft.irfft(spectrum, len(items), axis=0)
    return fed_forward(state, "blocks.0", hidden[-1], found[-1])
