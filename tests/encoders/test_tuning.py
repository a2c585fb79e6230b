"""What every encoder of content must do under every tuning regime."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders import CONTENT_ENCODERS, build_encoder
from microlens.encoders.content import ContentEncoder
from microlens.encoders.video import VIDEO_NETWORKS
from microlens.errors import InputError
from microlens.recommenders.base import Recommender
from microlens.training.gradient_caching import encode_in_parts

N, D, FRAMES, SIZE = 6, 8, 4, 32
REGIMES: dict[str, dict[str, Any]] = {
    "frozen": {"tune": "frozen"},
    "top1": {"tune": "top1"},
    "top": {"tune": "top", "top": 3},
    "full": {"tune": "full"},
    "scratch": {"tune": "scratch"},
    "lora": {"tune": "lora", "rank": 2},
}
# Where the original code starts to train: an index into all named parameters of the network with its classifier.
FREEZE_INDEX = {
    **{"r3d_r18": 30, "r3d_r50": 168, "c2d_r50": 129, "i3d_r50": 72, "csn_r101": 282, "slow_r50": 129},
    **{"x3d_xs": 226, "x3d_s": 226, "x3d_m": 226, "x3d_l": 455, "slowfast_r50": 270, "slowfast_r101": 576},
    **{"mvit_b_16": 326, "mvit_b_16x4": 326, "mvit_b_32x3": 326},
}
# X3D-XS, -S and -M are one network; bert_small and those of a model folder want files that are not here (see
# test_pretrained.py); e5 is a larger minilm.
FIXED = {"mae_base": {"vit.embeddings.position_embeddings"}}  # tables of sines and cosines, which nobody trains
NAMES = sorted(CONTENT_ENCODERS.keys() - {"x3d_s", "x3d_m", "bert_small", "text", "image", "video", "sound", "e5"})
WORLD: dict[str, Any] = {
    "dim": D,
    "titles": ["A cat", "Two dogs play", "Cooking noodles at night", "a", "", "The longest title of these all here"],
    "clip_shape": (FRAMES, SIZE),
    "cover_size": SIZE,
}


class Tower(Recommender):
    """A recommender of which only the item tower is of interest."""

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        raise NotImplementedError


# Networks that differ from another one in depth, in kernels or in weights only: their boundaries are their own.
SAME_CODE = ("x3d_l", "slowfast_r101", "mvit_b_32x3", "videomae_kinetics", "c2d_r50", "i3d_r50", "r3d_r50")
# "scratch" is "full" with other weights.
SCRATCH = ("x3d_xs", "r3d_r18", "resnet18", "minilm")
BUILT = [
    (name, regime)
    for name in NAMES
    for regime in (("top1", "top") if name in SAME_CODE else REGIMES)
    if (name, regime) != ("sound_cnn", "lora") and (regime != "scratch" or name in SCRATCH)
]


@pytest.fixture(scope="module", params=BUILT, ids="-".join)
def built(request: pytest.FixtureRequest) -> ContentEncoder:
    name, regime = request.param
    pytest.importorskip("transformers", reason="the extra [encoders] is not installed")
    torch.manual_seed(2)
    table = {"name": name, **REGIMES[regime]}
    if name == "minilm":
        table["weights"] = "random"
    encoder = build_encoder(table, WORLD)
    assert isinstance(encoder, ContentEncoder)
    with torch.no_grad():  # residual networks start with silent branches, adapters with silent products
        for parameter in encoder.parameters():
            if (parameter == parameter.flatten()[0]).all():  # the others are random already
                parameter.add_(0.02 * torch.randn_like(parameter))
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if type(module).__name__.endswith("DropPath"):
            module.drop_prob = 0.0
    return encoder


@pytest.fixture
def encoder(built: ContentEncoder) -> Iterator[ContentEncoder]:
    buffers = copy.deepcopy(dict(built.named_buffers()))
    yield built.eval()
    built.zero_grad()
    for name, buffer in built.named_buffers():
        buffer.copy_(buffers[name])


def items(*numbers: int) -> ItemBatch:
    rng = np.random.default_rng(5)
    content = {
        "clips": rng.integers(0, 256, (N, FRAMES, SIZE, SIZE, 3), dtype=np.uint8),
        "covers": rng.integers(0, 256, (N, 1, SIZE, SIZE, 3), dtype=np.uint8),
        "sound": rng.integers(0, 256, (N, 40, 64), dtype=np.uint8),
    }
    rows = np.array(numbers) - 1
    return ItemBatch(
        items=torch.tensor(numbers), content={kind: torch.from_numpy(values[rows]) for kind, values in content.items()}
    )


def test_rows_are_of_their_items_alone_and_repeatable(encoder: ContentEncoder, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["built"][1] not in ("top1", "lora"):
        pytest.skip("what is trained makes no difference here")
    with torch.inference_mode():
        together, again, alone = encoder(items(4, 2, 6)), encoder(items(4, 2, 6)), encoder(items(2))
    assert together.shape == (3, D)
    assert torch.equal(together, again)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], together[1])


def stated(encoder: ContentEncoder, name: str, regime: str) -> set[str]:
    """The trunk's parameters that a regime trains, written out from what it says."""
    trunk = encoder.trunk
    names = [parameter for parameter, _ in trunk.named_parameters() if parameter not in FIXED.get(name, ())]
    if regime == "frozen":
        return set()
    if regime == "lora":
        return {parameter for parameter in names if ".lora_" in parameter}
    if regime in ("full", "scratch"):
        return set(names)
    if regime == "top1" and name in FREEZE_INDEX:
        with torch.device("meta"):  # only the names are of interest
            whole = [parameter for parameter, _ in VIDEO_NETWORKS[name].build().named_parameters()]
        return set(whole[FREEZE_INDEX[name] :]) & set(names)
    stages = trunk.stages()
    top = trunk.paper_top if regime == "top1" else 3
    below = {
        id(parameter)
        for stage in stages[: len(stages) - top]
        for part in stage.modules
        for parameter in part.parameters()
    }
    return {parameter for parameter in names if id(trunk.get_parameter(parameter)) not in below}


@dataclass(frozen=True)
class Step:
    """The vectors, gradients and buffers after encoding all items in training."""

    vectors: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def step(encoder: ContentEncoder, micro_batch: int) -> Step:
    encoder.train()
    encoder.zero_grad()
    before = copy.deepcopy(dict(encoder.named_buffers()))
    torch.manual_seed(7)
    batch = items(*range(1, N + 1))
    vectors = encode_in_parts(Tower(encoder), batch, torch.device("cpu"), micro_batch=micro_batch, norm_batch=3)
    torch.manual_seed(8)
    (vectors * torch.randn_like(vectors)).sum().backward()
    gradients = {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}
    after = copy.deepcopy(dict(encoder.named_buffers()))
    for name, buffer in encoder.named_buffers():
        buffer.copy_(before[name])
    return Step(vectors.detach(), gradients, after)


@pytest.fixture(scope="module")
def whole_step(built: ContentEncoder) -> Step:
    """A step with all items at once, taken once for all tests of an encoder."""
    return step(built, N)


def test_exactly_the_stated_parameters_are_trained(
    encoder: ContentEncoder, whole_step: Step, request: pytest.FixtureRequest
) -> None:
    expected = stated(encoder, *request.node.callspec.params["built"])
    moved = {name for name, gradient in whole_step.gradients.items() if name.startswith("trunk.") and gradient.any()}
    assert {name for name, parameter in encoder.trunk.named_parameters() if parameter.requires_grad} == expected
    assert moved == {f"trunk.{name}" for name in expected}
    assert "projection.weight" in whole_step.gradients


def test_micro_batches_change_nothing(
    encoder: ContentEncoder, whole_step: Step, request: pytest.FixtureRequest
) -> None:
    name, regime = request.node.callspec.params["built"]
    if name in SAME_CODE:
        pytest.skip("another network runs this code")
    # Single items where everything is trained; in the other regimes parts of 3, which BatchNorm has in any case.
    other = step(encoder, 1 if regime == "full" else 4)
    torch.testing.assert_close(other.vectors, whole_step.vectors, rtol=1e-3, atol=1e-4)
    assert other.gradients.keys() == whole_step.gradients.keys()
    for name, gradient in whole_step.gradients.items():
        difference = (other.gradients[name] - gradient).norm()
        assert difference <= 2e-3 * gradient.norm() + 1e-5, name
    for name, buffer in whole_step.buffers.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(other.buffers[name], buffer, rtol=1e-4, atol=1e-5, msg=name)


def test_frozen_links_keep_their_state_in_training(encoder: ContentEncoder) -> None:
    if not encoder.cacheable:
        pytest.skip("nothing is frozen")
    evaluated = encoder.frozen_state(items(1, 2, 3))
    encoder.train()
    for one, other in zip(encoder.frozen_state(items(1, 2, 3)), evaluated, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_was_kept_stands_in_for_the_frozen_links(encoder: ContentEncoder) -> None:
    if not encoder.cacheable:
        pytest.skip("nothing is frozen")
    batch = items(*range(1, N + 1))
    kept = {f"kept.{number}": state for number, state in enumerate(encoder.frozen_state(batch))}
    expected = encoder(batch)
    encoder.use_cache("kept")
    stored = {name: state.half() if state.is_floating_point() else state for name, state in kept.items()}
    try:
        assert encoder.reads == {"kept"}
        torch.testing.assert_close(encoder(ItemBatch(items=batch.items, content=kept)), expected, rtol=1e-4, atol=1e-5)
        rounded = encoder(ItemBatch(items=batch.items, content=stored))
        assert (rounded - expected).norm() <= 5e-3 * expected.norm()
        torch.testing.assert_close(encoder(batch), expected)  # an item outside the catalogue
    finally:
        encoder._cache = None


def test_adapters_need_somewhere_to_go() -> None:
    with pytest.raises(InputError, match="no pointwise convolution or attention"):
        build_encoder({"name": "sound_cnn", "tune": "lora"}, WORLD)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"tune": "tpo1"}, "encoder.tune is 'tpo1'"),
        ({"tune": "top"}, "encoder.top goes with"),
        ({"tune": "full", "top": 2}, "encoder.top goes with"),
        ({"top": 6}, "encoder.top is 6; this encoder has 5 stages, so 1 to 5"),
        ({"top": 0}, "encoder.top is 0"),
        ({"tune": "lora", "rank": 0}, "encoder.rank is 0"),
        ({"tune": "scratch", "weights": "w.pyth"}, "starts from random weights"),
        ({"encoder_lr": -1.0}, "encoder.encoder_lr is -1.0"),
        ({"batchnorm": "running"}, "encoder.batchnorm is 'running'"),
        ({"head": "imagenet"}, "encoder.head is 'imagenet'"),
    ],
)
def test_a_wrong_regime_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder({"name": "x3d_xs", **table}, WORLD)


def test_batch_statistics_of_frozen_stages_come_back_on_request() -> None:
    encoder = build_encoder({"name": "x3d_xs", "tune": "top1", "batchnorm": "reference"}, WORLD)
    assert isinstance(encoder, ContentEncoder)
    assert not encoder.cacheable
    norm = next(module for module in encoder.modules() if isinstance(module, nn.BatchNorm3d))
    before = norm.running_mean.clone()
    encoder.train()(items(1, 2, 3))
    assert not torch.equal(norm.running_mean, before)


def test_heads_go_through_the_classes() -> None:
    vectors = {}
    for head in ("features", "kinetics", "reference"):
        torch.manual_seed(3)
        encoder = build_encoder({"name": "x3d_xs", "head": head}, WORLD).eval()
        assert isinstance(encoder, ContentEncoder)
        assert encoder.projection.in_features == (2048 if head == "features" else 400)
        vectors[head] = encoder(items(1, 2))
        if head != "features":
            logits = encoder.trunk(encoder.content(items(1, 2)))
            seen = logits.softmax(1) if head == "reference" else logits
            torch.testing.assert_close(vectors[head], nn.functional.gelu(encoder.projection(seen)))
    assert not torch.allclose(vectors["kinetics"], vectors["reference"])


def test_items_without_content_get_a_learned_vector() -> None:
    torch.manual_seed(3)
    encoder = build_encoder({"name": "x3d_xs", "missing": "mask"}, WORLD).eval()
    assert isinstance(encoder, ContentEncoder)
    assert encoder.absent is not None
    batch = items(1, 2, 3)
    batch.content["clips.missing"] = torch.tensor([False, True, False])
    nn.init.normal_(encoder.absent)
    vectors = encoder(batch)
    torch.testing.assert_close(vectors[1], encoder.absent)
    batch.content["clips.missing"] = torch.tensor([False, False, False])
    torch.testing.assert_close(vectors[[0, 2]], encoder(batch)[[0, 2]])
