"""The residual networks over clips, SlowFast among them: their state dicts, what they admit, and what is trained."""

import hashlib
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from microlens.encoders.trunk import is_pointwise
from microlens.encoders.tuning import Regime, Tuning, apply_tuning
from microlens.encoders.video.clip import video_encoder
from microlens.encoders.video.csn import CSN_NETWORKS
from microlens.encoders.video.r2plus1d import R2PLUS1D_NETWORKS
from microlens.encoders.video.resnet import RESNET_NETWORKS, ResidualTrunk
from microlens.encoders.video.slowfast import SLOWFAST_NETWORKS
from tests.reference.networks import randomise_norms

NETWORKS = {**RESNET_NETWORKS, **CSN_NETWORKS, **R2PLUS1D_NETWORKS, **SLOWFAST_NETWORKS}


@dataclass(frozen=True)
class Facts:
    """What PyTorchVideo 0.1.5 says of a network: the digest is of the "name shape" lines of state_dict(), in order.

    The logits are of classes 0, 80, ..., 320, for weights and a clip of noise, of the native length and 64 pixels. The
    index is the paper's, of the first parameter that it trains; table 9 has its millions of parameters.
    """

    hub_name: str
    parameters: int
    digest: str
    noise_logits: list[float]
    first_of_top1: int
    table_9: float


FACTS = {
    "c2d_r50": Facts(
        hub_name="c2d_r50",
        parameters=24_327_632,
        digest="c419fc54c5b1a194c6e84b4319fb7c93e14ba2114362abd9517e2f71a0177d83",
        noise_logits=[-172.21, 727.89, -262.14, -328.37, 529.9],
        first_of_top1=129,
        table_9=32.37,
    ),
    "i3d_r50": Facts(
        hub_name="i3d_r50",
        parameters=28_043_472,
        digest="6e769ba740ff87526c1a62814575d5bbd94fc6d68f7c3ef62ac6cad553dae8f9",
        noise_logits=[-116.15, 216.88, -73.89, -140.19, 148.79],
        first_of_top1=72,
        table_9=42.87,
    ),
    "slow_r50": Facts(
        hub_name="slow_r50",
        parameters=32_454_096,
        digest="6451792366b2530e415674fce900aa1c3f8cac42823f12880362fe3a3ca3807c",
        noise_logits=[-156.06, 150.88, 5.26, -133.54, 77.65],
        first_of_top1=129,
        table_9=37.61,
    ),
    "csn_r101": Facts(
        hub_name="csn_r101",
        parameters=22_213_776,
        digest="8267bd2e9d9e2e469c1b376bf2ac6a3d06a0dca24e7fadda7f98a6cb484ef769",
        noise_logits=[-1900.99, 7848.6, -1513.13, -7361.39, 9733.25],
        first_of_top1=282,
        table_9=25.33,
    ),
    "r3d_r50": Facts(
        hub_name="r2plus1d_r50",
        parameters=28_107_600,
        digest="b67d33e8b095b3b421e2e48b4a38049ada7ce9390dcbc19c6331545402a938d0",
        noise_logits=[-114.19, 70.56, 6.56, -167.09, 137.18],
        first_of_top1=168,
        table_9=34.73,
    ),
    "slowfast_r50": Facts(
        hub_name="slowfast_r50",
        parameters=34_566_488,
        digest="672a9d48c87ec5186352c981f8ed13fc8ae77aed966f93c98246ae61fe1179f7",
        noise_logits=[190.82, -225.13, 210.7, -187.53, 220.22],
        first_of_top1=270,
        table_9=38.95,
    ),
    "slowfast_r101": Facts(
        hub_name="slowfast_16x8_r101_50_50",
        parameters=53_774_808,
        digest="da8f769a88d203288b758f1fac73194d8f50a4be6725bcf69d393a30584ba983",
        noise_logits=[1893.78, -1536.83, 2479.06, -1270.22, 1787.25],
        first_of_top1=576,
        table_9=38.95,
    ),
}
ALL = pytest.mark.parametrize("name", NETWORKS)
QUICK = pytest.mark.parametrize("name", ["c2d_r50", "i3d_r50", "slow_r50", "r3d_r50", "slowfast_r50"])


def calm(network: nn.Module) -> None:
    """Keep what a hundred layers add up to at an ordinary size."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("norm_c.weight"):
                parameter.mul_(0.25)


def noise(*shape: int, seed: int) -> Tensor:
    """Numbers between -1 and 1 that look random and depend on no generator."""
    places = torch.arange(math.prod(shape), dtype=torch.double)
    return places.mul(12.9898).add(seed).sin().mul(43758.5453).frac().view(shape)


def fill_with_noise(network: nn.Module) -> None:
    """Weights of ordinary size that depend on no generator, and of which the logits depend on the clip."""
    for index, (name, tensor) in enumerate(network.state_dict().items()):
        if tensor.is_floating_point():
            values = noise(*tensor.shape, seed=index)
            if tensor.dim() > 1:
                values *= (6 / tensor[0].numel()) ** 0.5
            elif name.endswith(("weight", "running_var")):
                values = 1 + 0.3 * values
            tensor.copy_(values)
    calm(network)


def noise_clip(frames: int) -> Tensor:
    return 2 * noise(1, 3, frames, 64, 64, seed=0).float()


def without_weights(name: str) -> ResidualTrunk:
    """The whole network, of which only names and shapes are looked at."""
    with torch.device("meta"):
        trunk = NETWORKS[name].build()
    assert isinstance(trunk, ResidualTrunk)
    return trunk


def seeded(name: str) -> ResidualTrunk:
    torch.manual_seed(0)
    trunk = NETWORKS[name].build()
    assert isinstance(trunk, ResidualTrunk)
    randomise_norms(trunk)
    calm(trunk)
    return trunk


@ALL
def test_names_and_shapes_are_those_of_the_published_weights(name: str) -> None:
    trunk, facts = without_weights(name), FACTS[name]
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in trunk.state_dict().items())
    assert sum(parameter.numel() for parameter in trunk.parameters()) == facts.parameters
    assert hashlib.sha256(lines.encode()).hexdigest() == facts.digest


@ALL
def test_logits_are_those_that_pytorchvideo_gave_for_the_same_weights(name: str) -> None:
    trunk = NETWORKS[name].build().eval()
    fill_with_noise(trunk)
    with torch.inference_mode():
        logits = trunk(noise_clip(NETWORKS[name].frames))[0, ::80]
    torch.testing.assert_close(logits, torch.tensor(FACTS[name].noise_logits), atol=1e-2, rtol=1e-3)


@ALL
def test_clips_of_any_length_and_size_fit(name: str) -> None:
    trunk = seeded(name).eval()
    for shape in ((2, 1, 1), (5, 48, 48), (3, 33, 47), (11, 16, 40)):
        clips = torch.randn(3, 3, *shape)
        trunk.check_clip(shape[0], shape[1])
        with torch.inference_mode():
            features, logits = trunk.features(clips), trunk(clips)
            alone = trunk.features(clips[1:2])
        assert features.shape == (3, trunk.feature_dim)
        assert logits.shape == (3, trunk.num_classes)
        assert (features[0] - features[1]).abs().max() > 1e-3
        torch.testing.assert_close(features[1:2], alone, atol=1e-4, rtol=1e-4)


@ALL
def test_one_frame_fits_but_where_frames_are_pooled_two_by_two(name: str) -> None:
    trunk = NETWORKS[name].build().eval()
    if name in ("c2d_r50", "i3d_r50"):
        with pytest.raises(ValueError, match="needs at least 2"):
            trunk.check_clip(1, 32)
        return
    trunk.check_clip(1, 32)
    with torch.inference_mode():
        assert trunk.features(torch.randn(1, 3, 1, 32, 32)).isfinite().all()


def test_an_encoder_says_what_is_wrong_with_its_clips() -> None:
    construct = video_encoder(NETWORKS["c2d_r50"])
    with pytest.raises(ValueError, match="needs at least 2"):
        construct(dim=8, tuning=Tuning(), clip_shape=(1, 32))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "c2d_r50"])
def test_frame_order_matters(name: str) -> None:
    trunk = seeded(name).eval()
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        assert (trunk.features(clips) - trunk.features(clips.flip(2))).abs().max() > 1e-3


@ALL
def test_the_chain_may_be_cut_after_any_stage(name: str) -> None:
    trunk = seeded(name).eval()
    clips = torch.randn(2, 3, 5, 32, 32)
    with torch.inference_mode():
        expected, hidden = trunk.features(clips), trunk.begin(clips)
        assert len(trunk.stages()) == 5
        for cut, stage in enumerate(trunk.stages(), 1):
            hidden = stage.run(hidden)
            kept = tuple(state.flip(0).contiguous() for state in hidden)  # rows are items
            for later in trunk.stages()[cut:]:
                kept = later.run(kept)
            torch.testing.assert_close(trunk.pool(kept).flip(0), expected, atol=1e-5, rtol=1e-5)
        if trunk.separates_frames:
            torch.testing.assert_close(trunk.pool_frames(hidden).mean(1), expected, atol=1e-5, rtol=1e-5)


@QUICK
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    trunk = seeded(name).train()
    trunk(torch.randn(4, 3, 4, 32, 32)).square().mean().backward()
    for key, parameter in trunk.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@ALL
def test_fresh_residual_branches_pass_nothing_on(name: str) -> None:
    branches = [module for key, module in NETWORKS[name].build().named_modules() if key.endswith("branch2")]
    assert len(branches) in (16, 33, 32, 66)
    assert not any(branch.norm_c.weight.any() for branch in branches)


def trained(trunk: ResidualTrunk, regime: Regime) -> list[str]:
    apply_tuning(trunk, Tuning(tune=regime))
    return [key for key, parameter in trunk.named_parameters() if parameter.requires_grad]


@ALL
def test_top1_trains_what_the_paper_trains(name: str) -> None:
    trunk, facts = without_weights(name), FACTS[name]
    names = [key for key, _ in trunk.named_parameters()]
    assert trained(trunk, "top1") == names[facts.first_of_top1 :]
    count = sum(parameter.numel() for parameter in trunk.parameters() if parameter.requires_grad)
    projection, sasrec, item_numbers = 400 * 512 + 512, 6_306_816, 512 * 19_671
    assert round((count + projection + sasrec + item_numbers) / 1e6, 2) == facts.table_9


@QUICK
def test_the_classifier_can_be_given_up(name: str) -> None:
    trunk = seeded(name).eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        features = trunk.features(clips)
        torch.testing.assert_close(trunk(clips), trunk.blocks[-1].proj(features))
        trunk.drop_classifier()
        assert torch.equal(trunk.features(clips), features)
    assert not any("proj" in key for key in trunk.state_dict())


def test_dropout_acts_only_in_training() -> None:
    trunk = seeded("slow_r50").eval()
    features = torch.rand(2, trunk.feature_dim)
    assert torch.equal(trunk.classify(features), trunk.classify(features))
    trunk.train()
    assert not torch.equal(trunk.classify(features), trunk.classify(features))


def test_only_r2plus1d_left_a_softmax_behind_its_classifier() -> None:
    assert [name for name in NETWORKS if without_weights(name).softmax_in_head] == ["r3d_r50"]


@ALL
def test_adapters_go_to_every_pointwise_convolution(name: str) -> None:
    trunk = without_weights(name)
    adapted = set(trunk.adapted())
    assert {key for key, _ in trunk.named_modules() if key.endswith(("conv_c", "branch1_conv"))} <= adapted
    assert all(is_pointwise(trunk.get_submodule(key)) for key in adapted)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["csn_r101", "slowfast_r50"])
def test_adapters_begin_as_nothing(name: str) -> None:
    pytest.importorskip("peft")
    trunk = seeded(name).eval()
    clips = torch.randn(1, 3, 5, 32, 32)
    with torch.inference_mode():
        expected = trunk.features(clips)
        adapters = trained(trunk, "lora")
        torch.testing.assert_close(trunk.eval().features(clips), expected, atol=1e-5, rtol=1e-5)
    assert len(adapters) == 2 * sum(key.endswith("lora_A") for key, _ in trunk.named_modules()) > 0


def test_begin_leaves_its_clip_as_it_was() -> None:
    for network in NETWORKS.values():
        trunk = network.build().train()
        clips = torch.randn(2, 3, 4, 32, 32).contiguous(memory_format=torch.channels_last_3d)
        before = clips.clone()
        trunk.features(clips)
        assert torch.equal(clips, before)
