"""LightGCN, GRU4Rec, HSTU and eSASRec against independent implementations with the same weights."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.attention import NORM_EPS
from microlens.recommenders.base import Recommender
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


@pytest.mark.parametrize(("blocks", "heads"), [(1, 1), (3, 4)])
@pytest.mark.parametrize("name", ["esasrec", "hstu"])
def test_attention_models_score_as_rectools(name: str, blocks: int, heads: int) -> None:
    """The states of all positions of the same model of RecTools, padding and all, and their gradients."""
    pytest.importorskip("rectools.models.nn.transformers.hstu", reason="rectools is not installed")
    torch.manual_seed(blocks)
    encoder = IdEncoder(num_items=N, dim=D)
    options = {"blocks": blocks, "heads": heads, "temperature": 0.0}
    ours = build(RECOMMENDERS[name], options, {"item_encoder": encoder, "dim": D, "history_length": L}, "model")
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    layers = rectools_hstu(ours, blocks, heads) if name == "hstu" else rectools_ligr(ours, blocks, heads)
    theirs = rectools_backbone(layers, ours, heads, scaled=name == "hstu")
    history = torch.randint(1, N + 1, (B, L)) * (torch.arange(L) >= torch.arange(B)[:, None] % L)
    states = ours.eval().encode_users(torch.arange(B), history, encoder.table[history])
    expected = theirs.encode_sessions({"x": history}, encoder.table)
    real = history > 0
    torch.testing.assert_close(states[real], expected[real], rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(states[real])
    mine, other = (torch.autograd.grad((of[real] * weights).sum(), encoder.table)[0] for of in (states, expected))
    torch.testing.assert_close(mine[1:], other[1:], rtol=1e-3, atol=1e-4)  # padding's row 0 reaches RecTools' keys


def rectools_backbone(layers: nn.Module, ours: Recommender, heads: int, *, scaled: bool) -> Any:
    from rectools.models.nn.transformers.net_blocks import LearnableInversePositionalEncoding
    from rectools.models.nn.transformers.torch_backbone import TransformerTorchBackbone

    positions = LearnableInversePositionalEncoding(True, L, D, use_scale_factor=scaled)
    assert positions.pos_emb is not None
    positions.pos_emb.weight.data = ours.get_parameter("positions").data.flip(0)  # the last item's comes first
    parts: dict[str, Any] = {"item_model": nn.Identity(), "similarity_module": nn.Identity()}
    return TransformerTorchBackbone(
        heads, 0.0, pos_encoding_layer=positions, transformer_layers=layers, use_causal_attn=True,
        use_key_padding_mask=not scaled, **parts,
    ).eval()  # fmt: skip


def rectools_ligr(ours: Recommender, blocks: int, heads: int) -> Any:
    from rectools.models.nn.transformers.ligr import LiGRLayers

    layers = LiGRLayers(blocks, D, heads, 0.0)
    for block, layer in zip(ours.get_submodule("blocks").children(), layers.transformer_blocks, strict=True):
        expand = block.get_parameter("expand.weight").chunk(2)
        names = {
            "multi_head_attn.in_proj_weight": block.get_parameter("attention.query_key_value.weight"),
            "multi_head_attn.out_proj.weight": block.get_parameter("attention.output.weight"),
            "feed_forward.ff_linear_1.weight": expand[0],
            "feed_forward.ff_linear_3.weight": expand[1],
            "feed_forward.ff_linear_2.weight": block.get_parameter("contract.weight"),
        }
        modules = {
            "layer_norm_1": "attention_norm",
            "layer_norm_2": "feed_forward_norm",
            "gating_linear_1": "attention_gate",
            "gating_linear_2": "feed_forward_gate",
        }
        for theirs, name in modules.items():
            names |= {f"{theirs}.{kind}": block.get_parameter(f"{name}.{kind}") for kind in ("weight", "bias")}
        names |= {
            f"multi_head_attn.{bias}": torch.zeros(size)
            for bias, size in (("in_proj_bias", 3 * D), ("out_proj.bias", D))
        }
        layer.load_state_dict(names)
        layer.layer_norm_1.eps = layer.layer_norm_2.eps = NORM_EPS
    return layers


def rectools_hstu(ours: Recommender, blocks: int, heads: int) -> Any:
    from rectools.models.nn.transformers.hstu import STULayers

    layers = STULayers(
        blocks, D, heads, D // heads, D // heads, L, relative_time_attention=False, relative_pos_attention=True
    )
    for block, layer in zip(ours.get_submodule("blocks").children(), layers.stu_blocks, strict=True):
        names = {
            "uvqk_proj": block.get_parameter("project.weight").T,
            "rel_attn.pos_weights": torch.cat([block.get_parameter("distances").flip(0), torch.zeros(L - 1)]),
            "output_mlp.weight": block.get_parameter("output.weight"),
            "output_mlp.bias": block.get_parameter("output.bias"),
        }
        layer.load_state_dict(layer.state_dict() | names)  # their norms have a scale of one and a shift of zero
    return layers
