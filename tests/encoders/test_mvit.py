"""MViT: its state dicts, its agreement with PyTorchVideo, and positions for clips of other lengths and sizes."""

import hashlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Regime, Tuning, apply_tuning
from microlens.encoders.video.clip import video_encoder
from microlens.encoders.video.mvit import MVIT_NETWORKS, FrameMViT, MViT
from microlens.encoders.weights import load_weights

HUB_NAMES = {"mvit_b_16": "mvit_base_16", "mvit_b_16x4": "mvit_base_16x4", "mvit_b_32x3": "mvit_base_32x3"}
# Parameters, and sha256 of the "name shape" lines of state_dict(), in order, of pytorchvideo 0.1.5's hub models.
PARAMETERS_AND_DIGEST = {
    "mvit_b_16": (36_521_296, "df288cc4c98072eddc7d7a7c7e2747eec4537281a45c528a7b3a81d5fb87f8b4"),
    "mvit_b_16x4": (36_610_672, "eedc11bfe78478ef56f7de21396ce0b591e961b7cdf35b935fb972f6b8cbd860"),
    "mvit_b_32x3": (36_611_440, "28b8b489b6baac5abeb12af55fad0f59db83d286153708f01e6224e7a5e6216d"),
}
# Parameters from index 326 on, with 400 classes, and the paper's "#Param." of the row that ran the network.
TOP1_AND_TABLE_9 = {
    "mvit_b_16": (14_490_160, 31.07),
    "mvit_b_16x4": (14_498_800, 31.08),
    "mvit_b_32x3": (14_498_800, 31.08),
}
PYTORCHVIDEO_LOGITS = {  # of classes 0, 80, ..., 320, for weights and a native clip made of a generator's raw bits
    "mvit_b_16": [0.87521, 2.88089, -3.27071, 2.52304, 2.32281],
    "mvit_b_16x4": [1.02241, 3.19161, -3.15899, 1.14921, 1.39131],
}


def randomise_layer_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)


def seeded(name: str) -> MViT:
    torch.manual_seed(0)
    model = MVIT_NETWORKS[name].build()
    assert isinstance(model, MViT)
    randomise_layer_norms(model)
    return model


@pytest.fixture(scope="module")
def video_model() -> MViT:
    return seeded("mvit_b_16x4").eval()


@pytest.fixture(scope="module")
def frame_model() -> MViT:
    return seeded("mvit_b_16").eval()


def reference_mvit(pytorchvideo: ModuleType, name: str, **settings: int) -> nn.Module:
    reference = getattr(pytorchvideo.hub, HUB_NAMES[name])(**settings)
    randomise_layer_norms(reference)
    return reference


def logits_of(reference: nn.Module, clips: Tensor, *, by_frame: bool) -> Tensor:
    """An image model sees the frames as a batch; the original code averages its logits."""
    if not by_frame:
        return reference(clips)
    return torch.stack([reference(clip.transpose(0, 1)).mean(0) for clip in clips])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "frames"),
    [("mvit_b_16", 2), ("mvit_b_16x4", 16), pytest.param("mvit_b_32x3", 32, marks=pytest.mark.published)],
)
def test_logits_equal_those_of_pytorchvideo(pytorchvideo: ModuleType, name: str, frames: int) -> None:
    reference, ours = reference_mvit(pytorchvideo, name).eval(), MVIT_NETWORKS[name].build().eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    clips = torch.randn(1, 3, frames, 224, 224)
    with torch.inference_mode():
        expected = logits_of(reference, clips, by_frame=name == "mvit_b_16")
        torch.testing.assert_close(ours(clips), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("build", "name", "table_frames"), [(MViT, "mvit_b_16x4", 4), (FrameMViT, "mvit_b_16", 1)])
def test_a_training_step_equals_that_of_pytorchvideo(
    pytorchvideo: ModuleType, monkeypatch: pytest.MonkeyPatch, build: type[MViT], name: str, table_frames: int
) -> None:
    monkeypatch.setattr("microlens.encoders.video.mvit.TABLE_SIZE", 8)  # its tables fit no other size than their own
    reference = reference_mvit(pytorchvideo, name, spatial_size=32, temporal_size=table_frames).train().double()
    ours = build(frames=table_frames).train().double()
    ours.load_state_dict(reference.state_dict(), strict=True)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in reference.named_parameters()]
    clips, labels = torch.randn(3, 3, 4, 32, 32, dtype=torch.double), torch.tensor([7, 0, 399])
    ours.head.dropout.p = reference.head.dropout.p = 0.0
    nn.functional.cross_entropy(ours(clips), labels).backward()
    nn.functional.cross_entropy(logits_of(reference, clips, by_frame=build is FrameMViT), labels).backward()
    for name, parameter in reference.named_parameters():
        expected, gradient = parameter.grad, ours.get_parameter(name).grad
        assert expected is not None
        assert gradient is not None
        assert (gradient - expected).norm() <= 1e-6 * expected.norm() + 1e-12, name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mvit_b_16", "mvit_b_16x4"])
def test_random_weights_are_drawn_as_in_pytorchvideo(pytorchvideo: ModuleType, name: str) -> None:
    torch.manual_seed(2)
    reference = getattr(pytorchvideo.hub, HUB_NAMES[name])()
    torch.manual_seed(2)
    ours = MVIT_NETWORKS[name].build()
    for name, parameter in reference.named_parameters():
        assert torch.equal(parameter, ours.get_parameter(name)), name


@pytest.mark.parametrize("name", MVIT_NETWORKS)
def test_names_and_shapes_are_those_of_the_published_weights(name: str) -> None:
    model = MVIT_NETWORKS[name].build()
    parameters, digest = PARAMETERS_AND_DIGEST[name]
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def uniform(seed: int, shape: Sequence[int]) -> Tensor:
    """Numbers in [-1, 1) from raw bits, which no later version of the library may change."""
    bits = np.random.PCG64(seed).random_raw(math.prod(shape)) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) * 2**-23 - 1).view(*shape)


def fill_with_bits(model: nn.Module) -> None:
    """Weights of ordinary size that depend on no random generator of PyTorch's."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        numbers = uniform(index, tensor.shape)
        if not name.endswith("weight"):
            tensor.copy_(0.3 * numbers)
        else:
            tensor.copy_(1 + 0.3 * numbers if tensor.dim() == 1 else numbers * (6 / tensor[0].numel()) ** 0.5)


@pytest.mark.parametrize("name", PYTORCHVIDEO_LOGITS)
def test_logits_are_those_that_pytorchvideo_gave_for_the_same_weights(name: str) -> None:
    network = MVIT_NETWORKS[name]
    model = network.build().eval()
    fill_with_bits(model)
    clip = 2 * uniform(1000, (1, 3, network.frames, network.size, network.size))
    with torch.inference_mode():
        logits = model(clip)[0, ::80]
    torch.testing.assert_close(logits, torch.tensor(PYTORCHVIDEO_LOGITS[name]), atol=3e-4, rtol=0)


def interpolated(values: list[Tensor], size: int) -> list[Tensor]:
    """Linear interpolation between neighbours; cells are equally wide, and beyond the outer centres nothing changes."""
    result = []
    for cell in range(size):
        position = (cell + 0.5) * len(values) / size - 0.5
        position = min(max(position, 0), len(values) - 1)
        left = min(int(position), len(values) - 2)
        result.append(values[left] * (left + 1 - position) + values[left + 1] * (position - left))
    return result


@pytest.mark.parametrize("grid", [(8, 56, 56), (3, 56, 56), (8, 28, 56), (1, 9, 70), (11, 60, 1)])
def test_positions_are_interpolated_linearly_along_every_axis(video_model: MViT, grid: tuple[int, int, int]) -> None:
    T, H, W = grid
    tables = video_model.cls_positional_encoding
    rows = [torch.stack(interpolated(list(row), W)) for row in tables.pos_embed_spatial[0].unflatten(0, (56, 56))]
    spatial = torch.stack(interpolated(rows, H))
    temporal = torch.stack(interpolated(list(tables.pos_embed_temporal[0]), T))
    with torch.no_grad():
        _, positions = tables(torch.zeros(2, *grid, 96), groups=1)
    torch.testing.assert_close(positions[1], temporal[:, None, None] + spatial, atol=1e-6, rtol=1e-5)


def test_the_gradient_of_interpolated_positions_reaches_the_whole_table() -> None:
    tables = seeded("mvit_b_16x4").cls_positional_encoding
    _, positions = tables(torch.zeros(1, 5, 60, 57, 96), groups=1)
    positions.square().sum().backward()
    assert tables.pos_embed_spatial.grad.abs().min() > 0
    assert tables.pos_embed_temporal.grad.abs().amax(2).min() > 0


@pytest.mark.parametrize(
    ("name", "clip_shape", "says"),
    [
        ("mvit_b_16x4", (16, 224), ""),
        ("mvit_b_16x4", (5, 224), "8 x 56 x 56 patches and are interpolated to 3 x 56 x 56 for clips of 5 frames"),
        ("mvit_b_16x4", (16, 112), "interpolated to 8 x 28 x 28 for clips of 16 frames and 112 pixels"),
        ("mvit_b_32x3", (16, 224), "16 x 56 x 56 patches and are interpolated to 8 x 56 x 56"),
        ("mvit_b_16", (5, 224), ""),
        ("mvit_b_16", (5, 230), "1 x 56 x 56 patches and are interpolated to 1 x 58 x 58"),
    ],
)
def test_interpolation_is_announced_once(
    caplog: pytest.LogCaptureFixture, name: str, clip_shape: tuple[int, int], says: str
) -> None:
    encoder = video_encoder(MVIT_NETWORKS[name])(dim=8, tuning=Tuning(), clip_shape=clip_shape)
    with torch.inference_mode():
        encoder.trunk.features(torch.randn(1, 3, 2, 32, 32))
    announced = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(announced) == bool(says)
    assert all(says in sentence for sentence in announced)


ANY_CLIPS = [(1, 1, 1), (1, 32, 32), (5, 80, 48), (16, 33, 47), (2, 224, 224)]


@pytest.mark.parametrize(("frames", "height", "width"), ANY_CLIPS)
@pytest.mark.parametrize("model", ["video_model", "frame_model"])
def test_clips_of_any_length_and_size_fit(
    request: pytest.FixtureRequest, model: str, frames: int, height: int, width: int
) -> None:
    trunk: Trunk = request.getfixturevalue(model)
    clips = torch.randn(2, 3, frames, height, width)
    with torch.inference_mode():
        features, logits, alone = trunk.features(clips), trunk(clips), trunk.features(clips[1:])
    assert features.shape == (2, 768)
    assert logits.shape == (2, 400)
    assert (features[0] - features[1]).abs().max() > 1e-3
    torch.testing.assert_close(features[1:], alone, atol=1e-4, rtol=1e-4)


def test_frame_order_matters_to_the_video_model_alone(video_model: MViT, frame_model: MViT) -> None:
    clips = torch.randn(1, 3, 5, 48, 48)
    with torch.inference_mode():
        assert (video_model.features(clips) - video_model.features(clips.flip(2))).abs().max() > 1e-3
        by_frame = torch.cat([frame_model.features(clips[:, :, [frame]]) for frame in range(5)])
        torch.testing.assert_close(frame_model.features(clips), by_frame.mean(0, keepdim=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", ["video_model", "frame_model"])
def test_the_chain_may_be_cut_after_any_stage(request: pytest.FixtureRequest, model: str) -> None:
    trunk: Trunk = request.getfixturevalue(model)
    clips, stages = torch.randn(2, 3, 5, 32, 48), trunk.stages()
    assert len(stages) == 17
    with torch.inference_mode():
        expected, hidden = trunk.features(clips), trunk.begin(clips)
        for cut, stage in enumerate(stages, 1):
            hidden = stage.run(hidden)
            kept = tuple(state.flip(0).contiguous() for state in hidden)  # rows are items
            for later in stages[cut:]:
                kept = later.run(kept)
            torch.testing.assert_close(trunk.pool(kept).flip(0), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mvit_b_16", "mvit_b_16x4"])
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    model = seeded(name).train()
    model(torch.randn(2, 3, 5, 48, 48)).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if not parameter_name.endswith("norm_k.bias"):  # the same added to every key: softmax takes no notice
            assert parameter.grad.abs().max() > 0, parameter_name


def test_dropout_acts_only_in_training_and_the_classifier_can_be_given_up() -> None:
    model = seeded("mvit_b_16x4").eval()
    clips = torch.randn(2, 3, 1, 32, 32)
    with torch.no_grad():
        features = model.features(clips)
        torch.testing.assert_close(model(clips), model.head.proj(features))
        model.head.dropout.train()
        assert not torch.equal(model(clips), model(clips))
        model.drop_classifier()
        assert torch.equal(model.features(clips), features)
    assert not any(name.startswith("head.") for name in model.state_dict())


def trained_names(trunk: Trunk, regime: Regime) -> list[str]:
    apply_tuning(trunk, Tuning(tune=regime))
    return [name for name, parameter in trunk.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", MVIT_NETWORKS)
def test_top1_trains_what_the_paper_trains(name: str) -> None:
    model = MVIT_NETWORKS[name].build()
    names = [name for name, _ in model.named_parameters()]
    assert names[326] == "blocks.14.norm1.weight"
    assert trained_names(model, "top1") == names[326:]
    trained, printed = TOP1_AND_TABLE_9[name]
    assert sum(model.get_parameter(name).numel() for name in names[326:]) == trained
    projection, sasrec, item_numbers = 400 * 512 + 512, 6_306_816, 512 * 19_671
    assert round((trained + projection + sasrec + item_numbers) / 1e6, 2) == printed


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_adapters_go_to_the_linear_layers_of_attention_and_begin_as_nothing() -> None:
    pytest.importorskip("peft")
    model = seeded("mvit_b_16x4").eval()
    clips = torch.randn(1, 3, 2, 32, 32)
    with torch.inference_mode():
        expected = model.features(clips)
        names = trained_names(model, "lora")
        torch.testing.assert_close(model.eval().features(clips), expected, atol=1e-5, rtol=1e-5)
    assert len(names) == 2 * 4 * 16
    assert {name.split(".attn.")[1].split(".")[0] for name in names} == {"q", "k", "v", "proj"}


def test_the_official_image_model_loads_without_its_classifier_of_imagenet(tmp_path: Path) -> None:
    state = seeded("mvit_b_16").state_dict() | {
        "head.proj.weight": torch.ones(1000, 768),
        "head.proj.bias": torch.ones(1000),
    }
    torch.save({"model_state": state}, tmp_path / "MVIT_B_16.pyth")
    torch.manual_seed(1)
    model = MVIT_NETWORKS["mvit_b_16"].build()
    head = model.head.proj.weight.clone()
    load_weights(model, tmp_path / "MVIT_B_16.pyth", ignored=model.foreign)
    assert torch.equal(model.head.proj.weight, head)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state[name]) or name.startswith("head."), name
