"""LightGCN and GRU4Rec against independent implementations with the same weights."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.recommenders.gru4rec import GRU4Rec
from microlens.recommenders.lightgcn import LightGCN

U, N, D, L, B = 40, 30, 16, 8, 12


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_lightgcn_scores_as_pytorch_geometric(layers: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        geometric: Any = pytest.importorskip("torch_geometric.nn", reason="torch_geometric is not installed")
    random = np.random.default_rng(layers)
    pairs = np.unique(np.stack([random.integers(0, U - 2, 150), random.integers(1, N - 2, 150)]), axis=1)
    users, items = map(torch.from_numpy, pairs)  # the last users and items have no edge
    torch.manual_seed(layers)
    encoder = IdEncoder(num_items=N, dim=D)
    ours = LightGCN(
        item_encoder=encoder, dim=D, num_users=U, num_items=N, train_pairs=(users, items), layers=layers
    ).eval()
    theirs = geometric.LightGCN(num_nodes=U + N, embedding_dim=D, num_layers=layers)
    edges = torch.stack([torch.cat([users, items + U - 1]), torch.cat([items + U - 1, users])])
    with torch.no_grad():
        theirs.embedding.weight.copy_(torch.cat([ours.user_table, encoder.table[1:]]))
        nodes = theirs.get_embedding(edges)
        expected = nodes[:U] @ nodes[U:].T
        history = torch.zeros(U, L, dtype=torch.long)
        states = ours.last_states(torch.arange(U), history, history[..., None].float())
        scores = ours.score(states, ours.encode_items(ItemBatch(items=torch.arange(1, N + 1))))
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_gru4rec_scores_as_onnx(blocks: int, tmp_path: Path) -> None:
    """The GRU of ONNX's reference evaluator is NumPy after the operator's specification."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    torch.manual_seed(blocks)
    encoder = IdEncoder(num_items=N, dim=D)
    ours = GRU4Rec(item_encoder=encoder, dim=D, blocks=blocks).eval()
    for start in range(1, L + 1):  # histories of every length
        history = torch.randint(1, N + 1, (B, start))
        padded = torch.cat([torch.zeros(B, L - start, dtype=torch.long), history], 1)
        with torch.no_grad():
            states = ours.last_states(torch.arange(B), padded, encoder.table[padded])
            scores = ours.score(states, encoder.table[1:])
        inputs = encoder.table[history].transpose(0, 1).detach().numpy()
        for layer in range(blocks):
            inputs = onnx_gru(inputs, *(_gates(ours, f"weight_{kind}_l{layer}") for kind in ("ih", "hh")))
        expected = torch.from_numpy(inputs[-1]) @ encoder.table[1:].T.detach()
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def _gates(model: GRU4Rec, name: str) -> np.ndarray:
    """PyTorch stacks reset, update, new; ONNX update, reset, new."""
    reset, update, new = model.layers.get_parameter(name).detach().chunk(3)
    return torch.cat([update, reset, new])[None].numpy()


def onnx_gru(inputs: np.ndarray, weights: np.ndarray, recurrence: np.ndarray) -> np.ndarray:
    """Every hidden state: (L, B, D) from (L, B, D)."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    names = ["x", "w", "r"]
    node = helper.make_node("GRU", names, ["y"], hidden_size=D, linear_before_reset=1)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in [*names, "y"]]
    model = helper.make_model(helper.make_graph([node], "gru", values[:3], values[3:]))
    (states,) = ReferenceEvaluator(model).run(None, {"x": inputs, "w": weights, "r": recurrence})
    return np.asarray(states)[:, 0]
