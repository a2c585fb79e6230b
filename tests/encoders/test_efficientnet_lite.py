"""EfficientNet-Lite2: its agreement with another implementation on the published weights, and a real picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.encoders.efficientnet_lite import EFFICIENTNET_LITE2_WEIGHTS, EfficientNetLite2
from microlens.encoders.image import ImageEncoder
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import bring_weights
from microlens.errors import InputError
from microlens.media.reading import ClipSettings, read_clip
from tests.reference.networks import randomise_norms

# Logits of classes 0, 250, 500, 750 and 999 and the five largest, for `stripes` scaled to (value - 127) / 128: computed
# with tf_efficientnet_lite2 of timm on a CPU, with the same weights in the same order of names.
TIMM_LOGITS = {
    260: [-0.3209141, -0.2444915, -0.1791792, 1.3007994, 2.5062416],
    225: [-0.4074433, -0.1287476, -0.6050545, 0.0607000, 1.4420977],
}
TIMM_TOP = {260: [904, 556, 851, 615, 651], 225: [556, 904, 632, 651, 851]}
BOW = 456  # of ImageNet's classes


def stripes(size: int) -> Tensor:
    """Bytes (1, H, W, 3) that no library's random numbers are needed for."""
    numbers = np.arange(size * size * 3, dtype=np.int64)
    values = ((numbers * 7919 + (numbers // 97) ** 2) % 256).astype(np.uint8)
    return torch.from_numpy(values.reshape(1, size, size, 3))


@pytest.fixture(scope="module")
def published() -> EfficientNetLite2:
    network = EfficientNetLite2().eval()
    try:
        EFFICIENTNET_LITE2_WEIGHTS.obtain()
    except InputError as missing:
        pytest.skip(str(missing))
    bring_weights(network, "default", EFFICIENTNET_LITE2_WEIGHTS, Tuning(tune="frozen"))
    return network


@pytest.mark.parametrize("size", TIMM_LOGITS)
def test_logits_with_the_published_weights_equal_those_of_timm(published: EfficientNetLite2, size: int) -> None:
    with torch.inference_mode():
        logits = published((stripes(size).permute(0, 3, 1, 2) - 127.0) / 128)[0]
    torch.testing.assert_close(logits[[0, 250, 500, 750, 999]], torch.tensor(TIMM_LOGITS[size]), rtol=1e-4, atol=1e-4)
    assert logits.topk(5).indices.tolist() == TIMM_TOP[size]


def plain_logits(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """A twin over the state dict alone: kernels and widths are those of the weights, strides those of the paper."""

    def layer(x: Tensor, name: str, norm: str, stride: int = 1, *, depthwise: bool = False) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[2]
        for _ in range(2):  # pads the last dimension and transposes
            size = x.shape[3]
            total = max(kernel - stride if size % stride == 0 else kernel - size % stride, 0)
            x = functional.pad(x, (total // 2, total - total // 2)).transpose(2, 3)
        x = functional.conv2d(x, weight, stride=stride, groups=len(weight) if depthwise else 1)
        mean, variance, scale, shift = (
            state[f"{norm}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 0.001).sqrt() * scale + shift

    x = layer(pixels, "_conv_stem", "_bn0", 2).clamp(0, 6)
    for index in range(21):
        block, y = f"_blocks.{index}.", x
        stride = 2 if index in (1, 4, 7, 15) else 1  # stages of 1, 3, 3, 4, 4, 5 and 1 blocks
        if f"{block}_expand_conv.weight" in state:
            y = layer(y, f"{block}_expand_conv", f"{block}_bn0").clamp(0, 6)
        y = layer(y, f"{block}_depthwise_conv", f"{block}_bn1", stride, depthwise=True).clamp(0, 6)
        y = layer(y, f"{block}_project_conv", f"{block}_bn2")
        x = x + y if x.shape == y.shape else y
    x = layer(x, "_conv_head", "_bn1").clamp(0, 6).mean(dim=(2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize("shape", [(64, 64), (75, 41), (1, 9)])
def test_logits_equal_those_of_the_plain_twin(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = EfficientNetLite2().eval().double()
    randomise_norms(network)
    pixels = torch.randn(2, 3, *shape, dtype=torch.double)
    with torch.inference_mode():
        expected = plain_logits(network.state_dict(), pixels)
        torch.testing.assert_close(network(pixels), expected, rtol=1e-8, atol=1e-8)
    assert expected.std() > 1e-3


def test_bytes_are_scaled_by_127_and_128() -> None:
    encoder = ImageEncoder(EfficientNetLite2(), 4, tuning=Tuning(tune="frozen"), source="cover")
    covers = torch.tensor([127, 255, 63], dtype=torch.uint8).view(1, 1, 1, 1, 3)
    content = encoder.content(ItemBatch(items=torch.tensor([1]), content={"covers": covers}))
    torch.testing.assert_close(content.flatten(), torch.tensor([0.0, 1.0, -0.5]))


def test_the_network_is_the_published_one() -> None:
    network = EfficientNetLite2()
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_092_072
    assert {module.eps for module in network.modules() if hasattr(module, "eps")} == {1e-3}
    assert len(network.stages()) == 9


@pytest.mark.real_data
def test_a_frame_of_archery_shows_a_bow(published: EfficientNetLite2, shared_data: Path) -> None:
    settings = ClipSettings(num_frames=3, size=260, crop="center")
    clip = read_clip(shared_data / "videos" / "other" / "archery.mp4", settings)
    encoder = ImageEncoder(EfficientNetLite2(), 4, tuning=Tuning(tune="frozen"), source="frame")
    items = ItemBatch(items=torch.tensor([1]), content={"clips": torch.from_numpy(clip.frames).unsqueeze(0)})
    with torch.inference_mode():
        probabilities = published(encoder.content(items)).softmax(1)[0]
    assert probabilities.argmax() == BOW
    assert probabilities[BOW] > 0.3
