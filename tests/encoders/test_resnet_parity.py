"""The residual networks over clips, SlowFast among them: their agreement with PyTorchVideo and PyTorch."""

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from microlens.encoders.video.depthwise import DepthwiseConv3d
from microlens.encoders.video.resnet import ResidualTrunk
from tests.encoders.test_resnet_video import ALL, FACTS, NETWORKS, seeded

TRAINING_CROP = 224  # where the reference's pools, too, average over everything
NATIVE = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.published] if name == "slowfast_r101" else []) for name in NETWORKS],
)
against_pytorchvideo = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Reference(nn.Module):
    """PyTorchVideo's network over one clip, as logits, with the wiring that it leaves to its callers."""

    def __init__(self, pytorchvideo: ModuleType, name: str, *, any_size: bool) -> None:
        super().__init__()
        self.network = getattr(pytorchvideo.hub, FACTS[name].hub_name)()
        self.two_pathways = name.startswith("slowfast")
        self.network.blocks[-1].activation = None
        if any_size and self.two_pathways:
            self.network.blocks[-2].pool = nn.ModuleList([nn.AdaptiveAvgPool3d(1), nn.AdaptiveAvgPool3d(1)])
        elif any_size:
            self.network.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)

    def forward(self, clips: Tensor) -> Tensor:
        if not self.two_pathways:
            return self.network(clips)
        frames = clips.shape[2]
        kept = torch.linspace(0, frames - 1, (frames + 3) // 4).long()
        return self.network([clips.index_select(2, kept), clips])


@against_pytorchvideo
@NATIVE
def test_logits_equal_those_of_pytorchvideo(pytorchvideo: ModuleType, name: str) -> None:
    ours, reference = seeded(name).eval(), Reference(pytorchvideo, name, any_size=False).eval()
    reference.network.load_state_dict(ours.state_dict(), strict=True)
    clip = torch.randn(1, 3, NETWORKS[name].frames, TRAINING_CROP, TRAINING_CROP)
    with torch.inference_mode():
        expected = reference(clip)
        torch.testing.assert_close(ours(clip), expected, atol=1e-4, rtol=1e-4)
    assert expected.abs().max() > 0.1


@against_pytorchvideo
@ALL
def test_a_training_step_equals_that_of_pytorchvideo(pytorchvideo: ModuleType, name: str) -> None:
    ours = seeded(name).train().double()
    reference = Reference(pytorchvideo, name, any_size=True).train().double()
    reference.network.load_state_dict(ours.state_dict(), strict=True)
    assert [key for key, _ in ours.named_parameters()] == [key for key, _ in reference.network.named_parameters()]
    clips, labels = torch.randn(4, 3, 5, 32, 32, dtype=torch.double), torch.tensor([7, 0, 399, 7])
    for network in (ours, reference):
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        nn.functional.cross_entropy(network(clips), labels).backward()
    for key, parameter in ours.named_parameters():
        expected = reference.network.get_parameter(key).grad
        assert (parameter.grad - expected).norm() <= 1e-6 * expected.norm() + 1e-12, key
    for key, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, reference.network.get_buffer(key))


@against_pytorchvideo
@ALL
def test_random_weights_and_dropout_are_those_of_pytorchvideo(pytorchvideo: ModuleType, name: str) -> None:
    ours, reference = NETWORKS[name].build(), Reference(pytorchvideo, name, any_size=False).network
    assert isinstance(ours, ResidualTrunk)
    torch.manual_seed(2)
    pytorchvideo.weight_init.init_net_weights(reference)
    torch.manual_seed(2)
    ours.reset_parameters()
    for key, parameter in ours.named_parameters():
        assert torch.equal(parameter, reference.get_parameter(key)), key
    expected = reference.blocks[-1].dropout  # None where nothing is dropped
    assert ours.blocks[-1].dropout.p == (0.0 if expected is None else expected.p)


@pytest.mark.parametrize("spatial_stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 5, 5), (2, 6, 6), (5, 8, 7), (6, 2, 3)])
@pytest.mark.parametrize("frames", [3, 5])
def test_depthwise_convolution_with_a_temporal_stride_equals_the_plain_one(
    shape: tuple[int, ...], spatial_stride: int, frames: int
) -> None:
    ours = DepthwiseConv3d(24, (frames, 3, 3), spatial_stride=spatial_stride, temporal_stride=2)
    stride = (2, spatial_stride, spatial_stride)
    plain = nn.Conv3d(24, 24, (frames, 3, 3), stride, (frames // 2, 1, 1), groups=24, bias=False)
    plain.load_state_dict(ours.state_dict())
    results = []
    clips = torch.randn(3, 24, *shape)
    for convolution in (ours, plain):
        x = clips.clone().requires_grad_()
        y = convolution(x)
        y.backward(torch.linspace(-1, 1, y.numel()).sin().view_as(y))
        results.append([y.detach(), x.grad, convolution.weight.grad])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)
