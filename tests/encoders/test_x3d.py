"""X3D: its state dicts, its agreement with PyTorchVideo, and its depthwise convolution's own gradients."""

import hashlib
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from microlens.encoders.video.depthwise import DepthwiseConv3d
from microlens.encoders.video.x3d import X3D, X3D_NETWORKS
from tests.reference.networks import randomise_norms

# sha256 of the "name shape" lines of state_dict(), in order, of pytorchvideo 0.1.5's hub models.
SMALL_DIGEST = "3ea7a469d6adf854a4551ef1bbd9bab3a0ef9284ecc20b8cff8dbfa5dd3a2770"
LARGE_DIGEST = "74d073260578ae21b13d96ded660602c54d4505ae47bd35c3af76fe87a112cb8"
PARAMETERS_AND_DIGEST = {
    "x3d_xs": (3_794_274, SMALL_DIGEST),
    "x3d_s": (3_794_274, SMALL_DIGEST),
    "x3d_m": (3_794_274, SMALL_DIGEST),
    "x3d_l": (6_153_384, LARGE_DIGEST),
}

PYTORCHVIDEO_LOGITS = [1.01901, 3.32795, 3.19058, -0.2906, -2.2589]  # classes 0, 80, ..., 320


def fill_with_sines(model: nn.Module) -> None:
    """Weights of ordinary size that depend on no random generator."""
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            wave = torch.linspace(-1, 1, tensor.numel(), dtype=torch.double).mul(41 + 997 * index).sin().view_as(tensor)
            if tensor.dim() > 1:
                wave = wave * (4 / tensor[0].numel()) ** 0.5
            elif name.endswith(("weight", "running_var")):
                wave = 1 + 0.3 * wave
            tensor.copy_(wave)


def seeded_x3d(name: str) -> X3D:
    torch.manual_seed(0)
    model = X3D_NETWORKS[name].build()
    randomise_norms(model)
    return model


@pytest.fixture(scope="module")
def x3d_xs() -> X3D:
    return seeded_x3d("x3d_xs").eval()


def reference_x3d(pytorchvideo: ModuleType, name: str) -> nn.Module:
    torch.manual_seed(1)
    reference = getattr(pytorchvideo.hub, name)()
    reference.blocks[-1].activation = None
    randomise_norms(reference)
    return reference


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", X3D_NETWORKS)
def test_logits_equal_those_of_pytorchvideo(pytorchvideo: ModuleType, name: str) -> None:
    reference, ours = reference_x3d(pytorchvideo, name).eval(), X3D_NETWORKS[name].build().eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    variant = X3D_NETWORKS[name]
    clip = torch.randn(1, 3, variant.frames, variant.size, variant.size)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clip), reference(clip), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_training_step_equals_that_of_pytorchvideo(pytorchvideo: ModuleType) -> None:
    ours = seeded_x3d("x3d_xs").train().double()  # float32 differs by 2 %: batch norms amplify its rounding
    reference = reference_x3d(pytorchvideo, "x3d_xs").train().double()
    reference.load_state_dict(ours.state_dict(), strict=True)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in reference.named_parameters()]
    reference.blocks[-1].pool.pool = nn.AdaptiveAvgPool3d(1)  # its own fits the native size alone
    clips, labels = torch.randn(4, 3, 4, 64, 64, dtype=torch.double), torch.tensor([7, 0, 399, 7])
    for model in (ours, reference):
        model.blocks[-1].dropout.p = 0.0
        nn.functional.cross_entropy(model(clips), labels).backward()
    expected_gradients = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        expected = expected_gradients[name].grad
        assert (parameter.grad - expected).norm() <= 1e-6 * expected.norm() + 1e-12, name
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, reference.get_buffer(name))


@pytest.mark.filterwarnings("ignore")
def test_random_weights_are_drawn_as_in_pytorchvideo(pytorchvideo: ModuleType) -> None:
    reference, ours = reference_x3d(pytorchvideo, "x3d_xs"), X3D_NETWORKS["x3d_xs"].build()
    torch.manual_seed(2)
    pytorchvideo.weight_init.init_net_weights(reference)
    torch.manual_seed(2)
    ours.reset_parameters()
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, reference.get_parameter(name)), name


@pytest.mark.parametrize("name", X3D_NETWORKS)
def test_names_and_shapes_are_those_of_the_published_weights(name: str) -> None:
    model = X3D_NETWORKS[name].build()
    parameters, digest = PARAMETERS_AND_DIGEST[name]
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def test_logits_are_those_that_pytorchvideo_gave_for_the_same_weights() -> None:
    model = X3D_NETWORKS["x3d_xs"].build().eval()
    fill_with_sines(model)
    clip = torch.linspace(-300, 300, 3 * 4 * 160 * 160, dtype=torch.double).sin().view(1, 3, 4, 160, 160).float()
    with torch.inference_mode():
        logits = model(clip)[0, ::80]
    torch.testing.assert_close(logits, torch.tensor(PYTORCHVIDEO_LOGITS), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(1, 32, 32), (4, 48, 48), (5, 112, 80), (16, 33, 47), (2, 224, 224)]
)
def test_clips_of_any_length_and_size_fit(x3d_xs: X3D, frames: int, height: int, width: int) -> None:
    clips = torch.randn(2, 3, frames, height, width)
    with torch.inference_mode():
        features, logits = x3d_xs.features(clips), x3d_xs(clips)
    assert features.shape == (2, x3d_xs.feature_dim)
    assert logits.shape == (2, 400)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_a_clip_is_encoded_alike_alone_and_in_company(x3d_xs: X3D) -> None:
    clips = torch.randn(3, 3, 5, 48, 48)
    with torch.inference_mode():
        together = x3d_xs(clips)
        alone = torch.cat([x3d_xs(clip[None]) for clip in clips])
        again = x3d_xs(clips)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert torch.equal(together, again)


def test_frame_order_matters(x3d_xs: X3D) -> None:
    clips = torch.randn(1, 3, 5, 48, 48)
    with torch.inference_mode():
        assert (x3d_xs.features(clips) - x3d_xs.features(clips.flip(2))).abs().max() > 1e-3


def test_the_logits_are_not_probabilities_and_dropout_acts_only_in_training() -> None:
    model = seeded_x3d("x3d_xs").eval()
    clips = torch.randn(2, 3, 1, 32, 32)
    with torch.no_grad():
        pooled = model.features(clips)
        torch.testing.assert_close(model(clips), model.blocks[-1].proj(pooled))
        model.blocks[-1].dropout.train()
        assert not torch.equal(model(clips), model(clips))


def test_the_gradient_reaches_every_parameter() -> None:
    model = seeded_x3d("x3d_xs").train()
    model(torch.randn(4, 3, 4, 64, 64)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_fresh_residual_branches_pass_nothing_on() -> None:
    block = X3D_NETWORKS["x3d_xs"].build().blocks[2].res_blocks[1].eval()
    x = torch.randn(1, 48, 2, 6, 6)
    torch.testing.assert_close(block(x), x.relu())


CONVOLUTIONS = [
    ((3, 3, 3), 1, (4, 7, 6)),
    ((3, 3, 3), 2, (4, 7, 6)),
    ((3, 3, 3), 2, (5, 8, 8)),
    ((3, 3, 3), 1, (4, 2, 2)),
    ((3, 3, 3), 2, (4, 3, 3)),
    ((3, 3, 3), 2, (2, 1, 9)),
    ((3, 3, 3), 1, (1, 5, 5)),
    ((5, 1, 1), 1, (4, 6, 6)),
    ((5, 1, 1), 1, (2, 6, 6)),
    ((5, 1, 1), 1, (9, 2, 1)),
]


def both_convolutions(kernel: tuple[int, int, int], stride: int, shape: tuple[int, int, int]) -> list[list[Tensor]]:
    """Output, input gradient and weight gradient of DepthwiseConv3d and of the nn.Conv3d that it stands for."""
    torch.manual_seed(0)
    channels = 24
    ours = DepthwiseConv3d(channels, kernel, spatial_stride=stride)
    padding = tuple(size // 2 for size in kernel)
    plain = nn.Conv3d(channels, channels, kernel, (1, stride, stride), padding, groups=channels, bias=False)
    plain.load_state_dict(ours.state_dict())
    clips = torch.randn(3, channels, *shape)
    results = []
    for convolution in (ours, plain):
        x = clips.clone().requires_grad_()
        y = convolution(x)
        y.backward(torch.linspace(-1, 1, y.numel()).sin().view_as(y))
        results.append([y.detach(), x.grad, convolution.weight.grad])
    return results


@pytest.mark.parametrize(("kernel", "stride", "shape"), CONVOLUTIONS)
def test_depthwise_convolution_equals_the_plain_one(
    kernel: tuple[int, int, int], stride: int, shape: tuple[int, int, int]
) -> None:
    for ours, plain in zip(*both_convolutions(kernel, stride, shape), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_depthwise_convolution_under_autocast_stays_near_float32() -> None:
    convolution = DepthwiseConv3d(24, (3, 3, 3), spatial_stride=2)
    x = torch.randn(2, 24, 4, 6, 6)
    convolution(x).square().mean().backward()
    expected, convolution.weight.grad = convolution.weight.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        y = convolution(x)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert (convolution.weight.grad - expected).norm() < 0.05 * expected.norm()


def test_a_frozen_depthwise_convolution_passes_the_gradient_on() -> None:
    convolution = DepthwiseConv3d(24, (3, 3, 3)).requires_grad_(False)
    x = torch.randn(2, 24, 4, 6, 6, requires_grad=True)
    convolution(x).sum().backward()
    assert convolution.weight.grad is None
    assert x.grad is not None
    assert x.grad.abs().max() > 0
