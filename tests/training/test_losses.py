"""The in-batch softmax against its loop twin, and against the original code."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from microlens.data.batches import Batch, ItemBatch, make_batch
from microlens.data.content import ItemContent
from microlens.data.protocol import Protocol
from microlens.data.split import make_split
from microlens.encoders.id import IdEncoder
from microlens.evaluation.metrics import all_metrics
from microlens.evaluation.ranking import rank_targets
from microlens.recommenders.base import Recommender
from microlens.recommenders.sasrec import SASRec
from microlens.release.pairs import read_pairs
from microlens.training.losses import in_batch_softmax, log_popularity
from microlens.training.step import TrainingStep
from tests.data.interactions import interactions_of_pairs
from tests.reference.loss_loop import loss_loop

GOLDEN = Path(__file__).parents[1] / "golden"


class NoContent:
    """Stands in for the content of id models."""

    kinds: frozenset[str] = frozenset()

    def read(self, items: np.ndarray) -> dict[str, Tensor]:
        return {}


def batch_of(sequence: Tensor) -> Batch:
    content: ItemContent = NoContent()  # type: ignore[assignment]
    return make_batch(sequence.numpy().astype(np.int32), np.arange(len(sequence)), content)


class FixedStates(Recommender):
    """User states that are parameters of their own, so that the loss is tested and nothing else."""

    def __init__(self, num_items: int, states: Tensor) -> None:
        super().__init__(IdEncoder(num_items=num_items, dim=states.shape[-1]))
        self.states = torch.nn.Parameter(states)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return self.states

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return self.states[:, -1]


def random_case(seed: int, repeats: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences with padding (and repeats inside a user), states, and train counts."""
    generator = torch.Generator().manual_seed(seed)
    B, L, N, D = 6, 7, 12, 5
    sequence = torch.zeros(B, L + 1, dtype=torch.long)
    for user in range(B):
        length = int(torch.randint(1, L + 2, (), generator=generator))
        drawn = torch.randint(1, N + 1, (length,), generator=generator)
        if not repeats:
            drawn = torch.randperm(N, generator=generator)[:length] + 1
        sequence[user, L + 1 - length :] = drawn
    states = torch.randn(B, L, D, generator=generator, dtype=torch.float64)
    counts = torch.randint(1, 30, (N + 1,), generator=generator)
    counts[0] = 0
    return sequence, states, counts


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_distinct_items_equal_all_slots(seed: int, repeats: bool) -> None:
    """Loss and gradients of the distinct form are those of the plain form, with padding, repeats and shared items."""
    sequence, states, counts = random_case(seed, repeats)
    model = FixedStates(12, states).double()
    step = TrainingStep(model, counts).double()
    step.log_q = (counts.double() / counts.sum()).log().nan_to_num(neginf=0.0)
    loss = float64_loss(step, batch_of(sequence))
    vectors = model.item_encoder.table[sequence]  # (B, S, D)
    expected = loss_loop(model.states, vectors, sequence, step.log_q)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
    ours = torch.autograd.grad(loss, [model.item_encoder.table, model.states], retain_graph=True)
    theirs = torch.autograd.grad(expected, [model.item_encoder.table, model.states])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def float64_loss(step: TrainingStep, batch: Batch) -> Tensor:
    """The step with its logits kept in float64, which the loss would round to float32 for mixed precision."""
    original = Tensor.float
    Tensor.float = lambda self: self.double()  # type: ignore[method-assign]
    try:
        loss: Tensor = step(batch)
    finally:
        Tensor.float = original  # type: ignore[method-assign]
    return loss


def test_a_rejected_positive_is_still_the_positive() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    zeros = torch.zeros(3)
    rejected = torch.tensor([[True, False, True]])
    loss = in_batch_softmax(logits, torch.tensor([0]), zeros, zeros, rejected)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2.0 - 1.0)), abs=1e-6)


def test_log_popularity_is_the_share_of_the_train_part() -> None:
    log_q = log_popularity(torch.tensor([0, 3, 1, 0]))
    torch.testing.assert_close(log_q, torch.tensor([0.0, math.log(0.75), math.log(0.25), 0.0]))


def original_weights(model: SASRec, state: dict[str, Tensor]) -> None:
    """Put the original code's parameters into our model, by their names there."""
    prefix = "state.user_encoder.transformer_encoder."
    ours = {
        "item_encoder.table": state["state.id_encoder.weight"],
        "positions": state[f"{prefix}position_embedding.weight"],
        "norm.weight": state[f"{prefix}layer_norm.weight"],
        "norm.bias": state[f"{prefix}layer_norm.bias"],
    }
    for block in range(len(model.blocks)):
        theirs = f"{prefix}transformer_blocks.{block}."
        attention, feed_forward = f"{theirs}multi_head_attention.", f"{theirs}feed_forward."
        mine = f"blocks.{block}."
        ours |= {
            f"{mine}attention.query_key_value.weight": torch.cat(
                [state[f"{attention}{name}.weight"] for name in ("w_Q", "w_K", "w_V")]
            ),
            f"{mine}attention.output.weight": state[f"{attention}fc.weight"],
        }
        renamed = {
            "attention_norm": f"{attention}layer_norm",
            "feed_forward_norm": f"{feed_forward}layer_norm",
            "expand": f"{feed_forward}w_1",
            "contract": f"{feed_forward}w_2",
        }
        for name, source in renamed.items():
            ours |= {f"{mine}{name}.{kind}": state[f"{source}.{kind}"] for kind in ("weight", "bias")}
    model.load_state_dict(ours)


def golden_model() -> tuple[SASRec, dict[str, Tensor], dict[str, object]]:
    state = load_file(GOLDEN / "sasrec.safetensors")
    facts = json.loads((GOLDEN / "sasrec.json").read_text())
    encoder = IdEncoder(num_items=facts["item_num"], dim=16)
    model = SASRec(item_encoder=encoder, dim=16, history_length=10, blocks=2, heads=2, dropout=0.0)
    original_weights(model, state)
    return model, state, facts


def test_loss_and_item_gradient_agree_with_the_original_code() -> None:
    model, state, facts = golden_model()
    step = TrainingStep(model, torch.ones(facts["item_num"] + 1))
    step.log_q = state["pop"].log().float()
    loss = step(batch_of(state["ids"]))
    assert loss.item() == pytest.approx(facts["loss"], abs=1e-5)
    loss.backward()
    torch.testing.assert_close(model.item_encoder.table.grad, state["grad_item"], rtol=0, atol=1e-5)


def test_validation_ranks_agree_with_the_original_code() -> None:
    model, _, facts = golden_model()
    split = make_split(interactions_of_pairs(read_pairs(GOLDEN / "pairs.tsv")), Protocol())
    content: ItemContent = NoContent()  # type: ignore[assignment]
    ranks = rank_targets(model, content, split, "valid", torch.device("cpu"))
    assert ranks.tolist() == facts["ranks"]
    assert all_metrics(ranks)["HR@10"] == pytest.approx(facts["hr10"], abs=1e-12)
    assert all_metrics(ranks)["NDCG@10"] == pytest.approx(facts["ndcg10"], abs=1e-12)


def test_item_batch_knows_its_size() -> None:
    assert len(ItemBatch(items=torch.arange(3))) == 3
